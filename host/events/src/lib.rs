//! What happens in Isomer: a typed definitions, the envelope an event travels in, and the hub that
//! hands envelopes to whoever listens in this process. Storing them is the store's business.
//!
//! The leaf of the house: every other crate may emit, none is known here.

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
pub use hub::{Hub, Received, Subscription};
