//! Limits of event sockets and event streams.

use std::time::Duration;

/// Limits of sockets and streams. [`Limits::default`] is what the server runs with; tests shorten the times.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sockets of this process.
    pub sockets: usize,
    /// Sockets of the agent of one workspace.
    pub sockets_each: usize,
    /// SSE streams of one workspace.
    pub streams_each: usize,
    /// Events queued for a slow socket.
    pub socket_queue: usize,
    /// Events queued for a slow SSE stream.
    pub stream_queue: usize,
    /// Missed events that are replayed to a returning client; one that missed more has to read everything anew.
    pub replay: u64,
    /// Bytes of a message from a client.
    pub inbound: usize,
    /// Period of a socket's pings and of the check of its token.
    pub ping: Duration,
    /// A client that sends nothing for so long, not even a pong, is disconnected.
    pub silence: Duration,
    /// Deadline for writing one message.
    pub write: Duration,
    /// Period of an SSE stream's pings and of the check of its token.
    pub stream_ping: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sockets: 1_000,
            sockets_each: 10,
            streams_each: 10,
            socket_queue: 256,
            stream_queue: 64,
            replay: 1_000,
            inbound: 4 * 1024,
            ping: Duration::from_secs(30),
            silence: Duration::from_secs(75),
            write: Duration::from_secs(10),
            stream_ping: Duration::from_secs(15),
        }
    }
}
