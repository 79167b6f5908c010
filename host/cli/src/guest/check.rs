//! `isomer guest check`: the checks of activation, without a server.

use std::path::Path;

use catalog::{CatalogError, Verdict};
use serde_json::{Value, json};
use wasm::{Limits, Sandbox};

use super::component;
use crate::{CliError, print};

pub(super) async fn run(file: &Path, settings: &Value, trusted: bool, as_json: bool) -> Result<(), CliError> {
    let bytes = component(file)?;
    let sandbox = Sandbox::new(Limits::default(), None)?;
    let refused = |error: CatalogError| CliError::Refused { message: error.to_string() };
    let (component, found) = catalog::check(&sandbox, &bytes, settings, trusted).await.map_err(refused)?;
    if as_json {
        print::json(
            &json!({ "digest": component.digest(), "imports": component.imports(), "conformance": found }),
        );
    } else {
        print::line(format!("{}  {} bytes", component.digest(), bytes.len()));
        for import in component.imports() {
            print::line(format!("imports  {import}"));
        }
        for finding in &found.findings {
            let detail = finding.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
            print::line(format!("{:<8} {}{detail}", finding.verdict.to_string(), finding.probe));
            for frame in &finding.backtrace {
                print::line(format!("           at {frame}"));
            }
        }
    }
    if found.findings.iter().any(|finding| finding.verdict == Verdict::Failed) {
        return Err(CliError::Unfit);
    }
    Ok(())
}
