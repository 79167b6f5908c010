//! `isomer guest precompile`: fills the cache of compiled guests, without a server. The engine's
//! settings are the server's, so the cache fits this binary on this kind of processor.

use std::path::Path;

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
        for (name, digest) in &compiled {
            print::line(format!("{name:<20}{}", digest.short()));
        }
        print::line(format!("{} guests are compiled in {}", compiled.len(), cache_dir.display()));
    }
    Ok(())
}
