//! End-to-end tests: the real program, databases and components, over real sockets. One module per subject.
//! Every test has its own server and database.

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod a2a;
mod access;
mod activity;
mod agent_activity;
mod agent_addresses;
mod agent_calls;
mod agent_streams;
mod agent_tls;
mod breaker;
mod busy_database;
mod canvas;
mod cli_connections;
mod clocks;
mod compiling;
mod crashes;
mod delivery;
mod doctor;
mod guest_cli;
mod guest_crashes;
mod guest_deletion;
mod hidden_addresses;
mod hostile;
mod input;
mod lifecycle;
mod org_cli;
mod orgs;
mod other_toolchains;
mod outages;
mod postgres;
mod private_files;
mod queue;
mod queue_random;
mod queue_same;
mod refused_releases;
mod registry;
mod replicas;
mod reverse_proxy;
mod runtime_names;
mod same_answer;
mod sockets;
mod swaps;
mod third_party_guest;
mod tokens;
mod transport;
mod watched_directory;
mod workspace_cli;
mod workspaces;
