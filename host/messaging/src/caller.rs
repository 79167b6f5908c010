//! The sender of a message.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use types::{TokenId, WorkspaceId};

/// The sender of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A user, by the web canvas or a terminal.
    User,
    /// The agent of a workspace.
    Workspace(WorkspaceId),
}

impl Caller {
    /// The workspace, unless the sender is a user.
    #[must_use]
    pub fn workspace(self) -> Option<WorkspaceId> {
        match self {
            Self::User => None,
            Self::Workspace(id) => Some(id),
        }
    }
}

/// What the sender of a message showed. Tells senders apart who are the same caller: a message is delivered once for
/// one of them, not for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A token of the workspace that is the caller.
    Own,
    /// The admin token.
    AdminToken,
    /// Another token.
    Token(TokenId),
    /// None that is any good, from this network.
    None(IpAddr),
}

impl Credential {
    pub(crate) fn is_none(self) -> bool {
        matches!(self, Self::None(_))
    }

    /// Adds it to the digest of a message.
    pub(crate) fn add_to(self, digest: &mut Sha256) {
        match self {
            Self::Own => digest.update([0]),
            Self::AdminToken => digest.update([1]),
            Self::Token(id) => {
                digest.update([2]);
                digest.update(id.0.as_bytes());
            }
            Self::None(address) => {
                digest.update([3]);
                match address {
                    IpAddr::V4(address) => digest.update(address.to_ipv6_mapped().octets()),
                    IpAddr::V6(address) => digest.update(address.octets()),
                }
            }
        }
    }
}
