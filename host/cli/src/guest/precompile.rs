//! `isomer guest precompile`: fills the cache of compiled guests, without a server. The engine's
//! settings are the server's, so the cache fits this binary on this kind of processor.

use std::{
    io::{self, Write as _},
    path::Path,
};

use serde_json::{Value, json};
use wasm::{AotCache, Limits, Sandbox};

use crate::{CliError, print};

pub(super) fn run(cache_dir: &Path, as_json: bool) -> Result<(), CliError> {
    let sandbox = Sandbox::new(Limits::default(), Some(AotCache::open(cache_dir)?))?;
    let compiled =
        catalog::precompile(&sandbox).map_err(|error| CliError::Refused { message: error.to_string() })?;
    if as_json {
        let guests: Vec<Value> =
            compiled.iter().map(|(name, digest)| json!({ "name": name, "release": digest })).collect();
        print::json(&json!({ "cache_dir": cache_dir.display().to_string(), "guests": guests }));
    } else {
        let mut out = io::stdout().lock();
        for (name, digest) in &compiled {
            // A closed pipe is no fault.
            let _ = writeln!(out, "{name:<20}{}", digest.short());
        }
        let _ = writeln!(out, "{} guests are compiled in {}", compiled.len(), cache_dir.display());
    }
    Ok(())
}
