//! The server over real sockets: what a client sees on the wire, one module per subject.

mod access;
mod bodies;
mod connections;
mod cors;
mod liveness;
mod metrics;
mod pipeline;
mod program;
mod rate_limit;
mod refusals;
mod sockets;
mod sse;
mod tenant;
mod wire;
