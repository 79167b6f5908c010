//! Values that rows, the wire and several crates share: ids, enums that are written as text, what is
//! stored of a workspace as JSON, and the defaults of runtimes, models and tiers. Depends on no other crate of
//! the workspace.

#![forbid(unsafe_code)]

mod clip;
mod condition;
pub mod defaults;
mod ids;
mod printable;
mod reserved_env;
mod setup;
mod shared_text;
mod spec;
mod spelling;
mod string_enum;
mod workspace;

pub use clip::clip;
pub use condition::{Condition, ConditionStatus};
pub use ids::{ActivityId, EventId, EventSeq, OrgId, Owner, QueueItemId, ServerId, TokenId, WorkspaceId};
pub use printable::{printable, printable_json, printable_lines};
pub use reserved_env::{is_env_name, is_reserved_env, is_reserved_from_guests, loads_code};
pub use setup::{InitialMemory, PluginSpec, ScheduleSpec, SealedText, WorkspaceSetup};
pub use shared_text::SharedText;
pub use spec::{OrgSpec, WorkspaceSpec};
pub use spelling::nearest;
pub use string_enum::{StringEnum, UnknownVariant};
pub use workspace::{
    Container, DeliveryMode, DesiredState, Hosting, InvalidAccess, InvalidMode, Status, WorkspaceAccess,
};
