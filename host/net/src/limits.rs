//! Times and sizes of calls to agents. What an operator may change is given to the client instead.

use std::time::Duration;

/// For a host name to resolve.
pub(crate) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// For a TCP connection to open.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept for the next message.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a response body.
pub(crate) const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;
