//! Isomer's server: the HTTP surface, its settings and its wiring.
//!
//! The binary (`main.rs`) only parses the command line. Everything else is a library, so that
//! tests can start the real server inside their own process.
//!
//! Where to read on: [`app`] wires the parts, [`api`] holds the routes by resource, [`http`] holds
//! what every route shares, [`terminal`] is the operator's and the author's end of the wire.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod api;
pub mod app;
pub mod audit;
pub mod cli;
pub mod http;
pub mod logging;
pub mod run;
pub mod settings;
pub mod terminal;
