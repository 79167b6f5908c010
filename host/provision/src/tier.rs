//! What a tier allows a container.

use crate::{
    settings::{Settings, TierLimits},
    spec::Privileges,
};

/// What of a container depends on its workspace's tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tier {
    /// None: no limits.
    pub(crate) limits: Option<TierLimits>,
    pub(crate) privileges: Privileges,
    /// The configuration volume is the only one.
    pub(crate) config_only: bool,
    /// In the host's network, with the engine's socket.
    pub(crate) full_host: bool,
}

/// A tier that doesn't exist counts as 2.
pub(crate) fn tier(tier: i32, settings: &Settings) -> Tier {
    let [standard, privileged, full] = settings.tiers;
    let bare = Tier {
        limits: Some(standard),
        privileges: Privileges::default(),
        config_only: false,
        full_host: false,
    };
    let root = Privileges { privileged: true, host_pid: true, read_only_root: false };
    match tier {
        1 => Tier {
            limits: None,
            privileges: Privileges { read_only_root: true, ..Privileges::default() },
            config_only: true,
            ..bare
        },
        3 => Tier { limits: Some(privileged), privileges: root, ..bare },
        4 => Tier { limits: Some(full), privileges: root, full_host: true, ..bare },
        _ => bare,
    }
}
