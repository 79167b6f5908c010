//! Limits of event sockets and event streams.

use std::time::Duration;

/// Limits of sockets and streams. [`Limits::default`] is what the server runs with; tests shorten the times.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sockets of this process.
    pub sockets: usize,
    /// Those of clients that proved nothing: the others are for callers with a credential.
    pub sockets_of_strangers: usize,
    /// Those of such clients from one address; loopback has no such limit, many clients may be behind it.
    pub sockets_of_address: usize,
    /// Sockets that are kept for the admin token.
    pub sockets_of_admin: usize,
    /// Sockets of the agent of one workspace.
    pub sockets_each: usize,
    /// SSE streams of this process.
    pub streams: usize,
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
            sockets_of_strangers: 500,
            sockets_of_address: 50,
            sockets_of_admin: 20,
            sockets_each: 10,
            streams: 2_000,
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

impl Limits {
    /// The limits of a server that serves this number of connections: sockets and streams never take all of them.
    #[must_use]
    pub fn within(self, connections: u32) -> Self {
        let connections = usize::try_from(connections).unwrap_or(usize::MAX);
        let sockets = self.sockets.min(connections / 2).max(2);
        Self {
            sockets,
            sockets_of_strangers: self.sockets_of_strangers.min(sockets / 2),
            sockets_of_address: self.sockets_of_address.min(sockets / 4).max(1),
            sockets_of_admin: self.sockets_of_admin.min(sockets / 8),
            streams: self.streams.min(connections / 4).max(1),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_streams_leave_connections_for_requests() {
        for (connections, expected) in
            [(10_000, (1_000, 500, 50, 20, 2_000)), (384, (192, 96, 48, 20, 96)), (16, (8, 4, 2, 1, 4))]
        {
            let limits = Limits::default().within(connections);
            let Limits {
                sockets, sockets_of_strangers, sockets_of_address, sockets_of_admin, streams, ..
            } = limits;
            let all = (sockets, sockets_of_strangers, sockets_of_address, sockets_of_admin, streams);
            assert_eq!(all, expected, "{connections}");
        }
    }
}
