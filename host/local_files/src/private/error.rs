//! Why something can't be the server's own, with what to do.

use std::io;

/// Why a file or directory can't be the server's own.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It is a link.
    #[error("{path} is a link, which could lead anywhere. {remedy}")]
    Link {
        /// The link.
        path: String,
        /// What to do.
        remedy: String,
    },
    /// It is something else.
    #[error("{path} is {kind}, not a {wanted}")]
    Kind {
        /// What has the name.
        path: String,
        /// What it is.
        kind: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// Another user owns it.
    #[error("{path} belongs to the user {owner}, and the server runs as {user}. {remedy}")]
    Foreign {
        /// What is owned.
        path: String,
        /// The number of its owner.
        owner: u32,
        /// The number of this process's user.
        user: u32,
        /// What to do.
        remedy: String,
    },
    /// The file has a second name elsewhere.
    #[error("{path} has another name as well (a hard link). Replace it by a copy")]
    HardLink {
        /// The file.
        path: String,
    },
    /// Other users can read or write it, and it is not for this process to change that.
    #[error("other users can {how} {path}{why}. {remedy}")]
    Open {
        /// The directory.
        path: String,
        /// `read` or `write to`.
        how: &'static str,
        /// Why it is not tightened here.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// The directory of a file isn't there.
    #[error("the directory {path} doesn't exist. Make it: `mkdir -p -m 700 {path}`")]
    NoDirectory {
        /// The directory.
        path: String,
    },
    /// The system refuses.
    #[error("{path}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}
