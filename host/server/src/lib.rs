//! The `isomer` program: settings, wiring and the list of background tasks.
//!
//! The binary (`main.rs`) only parses the command line. Everything else is a library, so that
//! tests can start the real server inside their own process. Routes are in the crate `api`.

#![forbid(unsafe_code)]
// These macros panic where the output can't be written.
#![warn(clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

/// glibc's allocator took a tenth of a request's CPU time. In the library, so that the program under test has
/// it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod background;
pub mod commands;
mod deploy_mode;
pub mod doctor;
pub(crate) mod log_buffer;
mod log_writer;
pub mod logging;
pub mod run;
pub mod settings;
mod settings_check;
pub mod wiring;
