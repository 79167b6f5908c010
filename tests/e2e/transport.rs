//! The server over real sockets, byte by byte. One module per subject.

mod access;
mod ambiguous;
mod bodies;
mod broken_output;
mod connections;
mod cors;
mod crowds;
mod liveness;
mod metrics;
mod pipeline;
mod program;
mod rate_limit;
mod refusals;
mod socket_client;
mod socket_events;
mod socket_limits;
mod sockets;
mod sse;
mod stopping;
mod tenant;
mod unsent_bodies;
mod wire;
