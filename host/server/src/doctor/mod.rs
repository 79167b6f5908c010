//! `isomer doctor`: what of a deployment is open, and to whom.
//!
//! It reads the same settings as `isomer serve`, looks at the files that they name, and asks the server that runs with
//! them. It changes nothing.

mod files;
mod finding;
mod server;
mod settings;

use std::path::PathBuf;

use clap::Parser;
use cli::{CliError, print_json, print_line};
use serde_json::json;

use self::finding::{Finding, Level};
use crate::settings::Settings;

/// Arguments of `isomer doctor`.
#[derive(Debug, Parser)]
#[command(after_help = "\
Run it with the settings of the server: the same variables, flags and working directory, as the same user.
Levels: `open` is what others may do, and should be closed; `note` is a choice to know about.
It fails if something is open.")]
pub struct DoctorArgs {
    /// URL of the running server [default: this machine, and the port of the settings]
    #[arg(long, env = "ISOMER_URL", value_name = "URL")]
    server: Option<String>,

    /// File with the certificates of a private authority, in PEM format, that the server's may be signed by
    #[arg(long, env = "ISOMER_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// The settings of the server.
    #[command(flatten)]
    settings: Settings,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// Something should be closed. The findings are printed.
    #[error("{0} open: close what stands above as `open`, or accept it. docs/security.md explains each")]
    Open(String),
    /// The server's URL or the file of certificates can't be used.
    #[error(transparent)]
    Cli(#[from] CliError),
}

/// Prints what is open.
///
/// # Errors
/// If something is, or the arguments can't be used.
pub async fn run(args: DoctorArgs) -> Result<(), DoctorError> {
    let mut findings = settings::findings(&args.settings);
    findings.extend(files::findings(&args.settings));
    let asked = server::Asked { url: args.server.as_deref(), authority: args.ca_file.as_deref() };
    findings.extend(server::findings(&args.settings, &asked).await?);
    // Stable: within a level, findings stay in the order of their subjects.
    findings.sort_by_key(|finding| finding.level);
    print(&findings, args.json);
    match findings.iter().filter(|finding| finding.level == Level::Open).count() {
        0 => Ok(()),
        1 => Err(DoctorError::Open("1 thing is".to_owned())),
        open => Err(DoctorError::Open(format!("{open} things are"))),
    }
}

fn print(findings: &[Finding], as_json: bool) {
    if as_json {
        return print_json(&json!({ "findings": findings }));
    }
    let subjects = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    for Finding { level, subject, text } in findings {
        print_line(format!("{level:<4}  {subject:<subjects$}  {text}"));
    }
}
