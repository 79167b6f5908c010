//! The program under test: the `main` of the package `isomer`, built where the tests find it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    isomer::commands::main()
}
