//! Values that rows, the wire and several crates share: enums that are written as text, and the defaults
//! of runtimes, models and tiers. Depends on no other crate of the workspace.

#![forbid(unsafe_code)]

pub mod defaults;
mod string_enum;
mod workspace;

pub use string_enum::{StringEnum, UnknownVariant};
pub use workspace::{
    Container, DeliveryMode, DesiredState, Hosting, InvalidAccess, InvalidMode, Status, WorkspaceAccess,
};
