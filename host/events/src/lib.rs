//! Events: their typed definitions, the envelope with the metadata of one, and the hub that publishes
//! envelopes to the subscribers of this process. The store stores them.
//!
//! A leaf: depends on no other domain crate.

#![forbid(unsafe_code)]

pub mod definitions;
mod envelope;
mod feed;
mod guest;
mod hub;
mod json;

pub use definitions::{Class, Event, class_of};
pub use envelope::Envelope;
pub use feed::{Feed, Listener};
pub use guest::{GuestChange, GuestEvent};
pub use hub::{Hub, PublishObserver, Received, Subscription};
