//! Isomer end to end: the real program, real databases, real components, over real sockets. One
//! module per subject; every test has a server and a database of its own.

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod a2a;
mod access;
mod activity;
mod author;
mod bearers;
mod breaker;
mod crashes;
mod delivery;
mod faults;
mod folder;
mod hostile;
mod lifecycle;
mod org_terminal;
mod orgs;
mod outages;
mod registry;
mod replicas;
mod sockets;
mod swap;
mod terminal;
mod transport;
mod workspaces;
mod ws_terminal;
