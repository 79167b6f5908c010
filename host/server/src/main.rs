//! The `isomer` program. See [`isomer::commands`] for what it can be asked to do.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    isomer::commands::main()
}
