//! Attacks on the program, in processes of its own: `make attack` runs them alone.
//!
//! - [`routes`]: each route has a row in the matrix of [`access`].
//! - [`access`]: every route, called by every kind of caller in every mode.
//! - [`amplification`]: small requests that become much in memory.
//! - [`components`]: components that are hostile to the compiler.
//! - [`connections`]: more of them than there is room for.
//! - [`heads`]: requests that two readers could understand in two ways.
//! - [`memory`]: many callers of what costs memory.
//!
//! Nothing is sent to an address that is not of the loopback interface.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod access;
mod amplification;
mod components;
mod confinement;
mod connections;
mod heads;
mod memory;
mod raw;
mod routes;
mod table;
