//! Rows as sea-orm sees them. Nothing outside this crate does.

pub(crate) mod guest;
pub(crate) mod guest_release;
