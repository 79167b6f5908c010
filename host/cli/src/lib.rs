//! The commands: clients of a running server, and tools for authors of guests that need no server.

#![forbid(unsafe_code)]
// These macros panic where the output can't be written.
#![warn(clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

mod address;
mod client;
pub mod events;
pub mod guest;
pub mod orgs;
mod output;
mod print;
pub mod send;
mod tls;
pub mod workspaces;

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use local_files::FileError;

pub use self::client::{Client, Target};
pub use self::output::{finish_output, output_failed};
pub use self::print::{json as print_json, line as print_line};
pub use types::{printable, printable_lines};

/// The server to talk to.
#[derive(Debug, Args)]
struct ServerArgs {
    /// URL of the server, or its host and port
    #[arg(
        long,
        env = "ISOMER_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    server: String,
    /// File with the certificates of a private authority, in PEM format, that servers with https may have
    /// [default: those that the system trusts]
    #[arg(long, env = "ISOMER_CA_FILE", value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// Admin token of the server
    #[arg(long, env = "ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// Organization of the server, if it serves only one
    #[arg(long, env = "MOLECULE_ORG_ID", value_name = "ID", global = true)]
    org_id: Option<String>,
    /// Print the server's JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
}

impl ServerArgs {
    fn client(&self) -> Result<Client, CliError> {
        Client::new(Target {
            server: &self.server,
            authority: self.ca_file.as_deref(),
            token: self.token.as_deref(),
            org_id: self.org_id.as_deref().filter(|id| !id.trim().is_empty()),
        })
    }
}

/// Why a command failed, as the user reads it.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The server can't be reached.
    #[error(
        "the server at {server} does not answer. Start it with `isomer serve`, or name another one with --server"
    )]
    Unreachable {
        /// The server's URL.
        server: String,
        /// The transport's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused the request, or the arguments are invalid.
    #[error("{message}")]
    Refused {
        /// What was refused, and what to do next.
        message: String,
    },
    /// A file can't be used.
    #[error("{path} can't be {use_of_it}")]
    File {
        /// The file or directory.
        path: String,
        /// `read` or `written`.
        use_of_it: &'static str,
        /// Why.
        #[source]
        source: FileError,
    },
    /// The output can't be written, for another reason than that its reader is gone.
    #[error("the output can't be written, so it is not complete")]
    Output(#[source] io::Error),
    /// The sandbox for checks can't be set up.
    #[error(transparent)]
    Sandbox(#[from] wasm::SandboxError),
    /// The component failed a check. The findings are printed.
    #[error("the component can't be activated: mend what FAILED says, and check again")]
    Unfit,
}

impl CliError {
    fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into() }
    }

    fn unread(path: &Path, source: impl Into<FileError>) -> Self {
        Self::File { path: path.display().to_string(), use_of_it: "read", source: source.into() }
    }

    fn unwritten(path: &Path, source: impl Into<FileError>) -> Self {
        Self::File { path: path.display().to_string(), use_of_it: "written", source: source.into() }
    }
}
