//! Changes of guests, as operators care about them.

use serde::Serialize;

/// What happened to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestEvent {
    /// Name of the guest row.
    pub guest: String,
    /// What happened.
    pub change: GuestChange,
    /// Digest of the release it is about, if it is about one.
    pub release: Option<String>,
    /// The author of the change; none where the host acted by itself.
    pub by: Option<String>,
    /// Why, where there is a reason to give.
    pub reason: Option<String>,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestChange {
    /// A release was added.
    Pushed,
    /// A release was found unfit; what ran goes on.
    Rejected,
    /// A release answers from now on.
    Activated,
    /// An earlier release answers again.
    RolledBack,
    /// The breaker took a failing release out of service.
    Tripped,
    /// The settings changed.
    Configured,
    /// The guest answers again.
    Enabled,
    /// The guest is not asked any more.
    Disabled,
    /// The guest may ask for hosting other than a container from now on.
    Trusted,
    /// It may no longer.
    Untrusted,
    /// Calls take warm instances from a pool from now on.
    Pooled,
    /// Every call has a fresh instance from now on.
    PerCall,
    /// A release was deleted.
    Deleted,
    /// The guest was deleted, with its releases.
    GuestDeleted,
}

impl GuestChange {
    /// The name used in labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pushed => "pushed",
            Self::Rejected => "rejected",
            Self::Activated => "activated",
            Self::RolledBack => "rolled_back",
            Self::Tripped => "tripped",
            Self::Configured => "configured",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Trusted => "trusted",
            Self::Untrusted => "untrusted",
            Self::Pooled => "pooled",
            Self::PerCall => "per_call",
            Self::Deleted => "deleted",
            Self::GuestDeleted => "guest_deleted",
        }
    }
}
