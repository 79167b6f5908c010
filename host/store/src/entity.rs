//! Tables as sea-orm maps them. Other crates see a row through the module of its table.

pub(crate) mod activity;
pub(crate) mod event;
pub(crate) mod global_secret;
pub(crate) mod guest;
pub(crate) mod guest_component;
pub(crate) mod guest_release;
pub(crate) mod inbound_secret;
pub(crate) mod json_column;
pub(crate) mod layout;
pub(crate) mod message_answer;
pub(crate) mod presence;
pub(crate) mod queued;
pub(crate) mod setup;
pub(crate) mod setup_text;
pub(crate) mod setup_text_use;
pub(crate) mod text_column;
pub(crate) mod text_enum;
pub(crate) mod token;
pub(crate) mod workspace;
pub(crate) mod workspace_secret;
