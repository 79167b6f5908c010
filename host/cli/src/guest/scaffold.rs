//! `isomer guest new`: a crate of one's own, with the SDK and the WIT of this very version beside
//! it, so that it builds anywhere.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::file_error;
use crate::TerminalError;

static TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guests/template");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guests/sdk");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");

pub(super) fn run(directory: &Path) -> Result<(), TerminalError> {
    let made = || -> io::Result<()> {
        fs::create_dir(directory)?;
        for (files, place) in [(&TEMPLATE, "."), (&SDK, "isomer/guests/sdk"), (&WIT, "isomer/wit")] {
            let place = directory.join(place);
            fs::create_dir_all(&place)?;
            files.extract(&place)?;
        }
        Ok(())
    };
    made().map_err(|source| file_error(directory, source))?;
    let shown = directory.display();
    // A closed pipe is no fault.
    let _ = writeln!(
        io::stdout(),
        "{shown} is a guest. Next:\n  cd {shown}\n  cat README.md\n  cargo build --release --target wasm32-wasip2"
    );
    Ok(())
}
