//! The `isomer` program: settings, wiring and the list of background tasks.
//!
//! The binary (`main.rs`) only parses the command line. Everything else is a library, so that
//! tests can start the real server inside their own process. Routes are in the crate `api`.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod commands;
pub mod logging;
pub mod run;
pub mod settings;
pub mod wiring;
