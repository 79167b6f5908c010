//! Times and sizes of calls to agents. What an operator may change is given to the client instead.

use std::time::Duration;

/// For a host name to resolve.
pub(crate) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// For the host names of many URLs to resolve, and how many are looked up at the same time.
pub(crate) const RESOLVE_ALL_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const LOOKUPS: usize = 16;

/// For a TCP connection to open.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For a TLS handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept for the next message: shorter than the 5 s after which common agents
/// (uvicorn, Node) close it.
pub(crate) const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How soon after a request its connection must end for the agent to have closed it as an idle one. One that
/// ends later ended at work.
pub(crate) const IDLE_CLOSE_WINDOW: Duration = Duration::from_millis(500);

/// TCP keep-alive: silence before the first probe, then between two. After [`KEEPALIVE_PROBES`] without an
/// answer the connection is reset, so that an agent whose machine vanished is noticed within a minute.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const KEEPALIVE_PROBES: u32 = 3;

/// Heads with a status below 200 before a response.
pub(crate) const MAX_INFORMATIONAL: usize = 100;

/// Bytes of a response body.
pub(crate) const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;
