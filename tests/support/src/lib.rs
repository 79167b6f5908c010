//! Shared by end-to-end tests and benches: the program in a process of its own, databases, an agent that
//! answers, WebSockets, components to push.

#![forbid(unsafe_code)]
#![allow(missing_docs)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod agent;
pub mod bombs;
mod certificates;
mod cli;
mod cluster;
mod components;
mod nginx;
mod paths;
mod pgbouncer;
mod ports;
mod server;
mod signal;
mod socket;
mod swaps;
mod tls;

pub use agent::{Agent, Reaction, Unanswering, break_off, feed, hang_up, head, success_reply};
pub use certificates::{Authority, Certificate};
pub use cli::assert_output;
pub use cluster::Cluster;
pub use components::{Components, variant};
pub use databases::{Database, on_both_databases};
pub use nginx::Nginx;
pub use paths::{compiled_guests, program_file, scratch, workspace};
pub use pgbouncer::PgBouncer;
pub use ports::{free_port, until_listening};
pub use server::{Answer, Server, Start, files, program, select_number};
pub use signal::{Signal, signal, stop};
pub use socket::Socket;
pub use swaps::{Swaps, swap_under_load};
pub use tls::TlsProxy;

/// What reqwest needs before the first client of a process: it has no TLS provider of its own.
pub fn use_ring() {
    // An error says that the process has a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
