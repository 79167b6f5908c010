//! What happens in Isomer, as one typed enum, and the hub that tells whoever listens.
//!
//! The leaf of the house: every other crate may emit, none is known here.

#![forbid(unsafe_code)]

mod guest;
mod hub;

pub use guest::{GuestChange, GuestEvent};
pub use hub::{Hub, Subscription};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A guest changed.
    Guest(GuestEvent),
}
