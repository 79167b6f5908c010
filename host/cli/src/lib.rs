//! The terminal's end: commands that speak to a running server, and the author's tools that need none.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

mod client;
pub mod events;
pub mod guest;
pub mod orgs;
mod print;
pub mod send;
pub mod workspaces;

use clap::Args;

use self::client::Client;

/// Where the server is.
#[derive(Debug, Args)]
struct ServerArgs {
    /// Address of the server
    #[arg(
        long,
        env = "ISOMER_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    server: String,
    /// Admin token of the server
    #[arg(long, env = "ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// Print the server's JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
}

impl ServerArgs {
    fn client(&self) -> Result<Client, TerminalError> {
        Client::new(&self.server, self.token.as_deref())
    }
}

/// Why a command failed. The text is for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// The server can't be reached.
    #[error("no answer from {server}. Is it running? (see --server)")]
    Unreachable {
        /// Its address.
        server: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server said no, or what was typed makes no sense to it.
    #[error("{message}")]
    Refused {
        /// Its words, and what to do.
        message: String,
    },
    /// A file can't be read or written.
    #[error("{path}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No sandbox for checks.
    #[error(transparent)]
    Sandbox(#[from] wasm::SandboxError),
    /// The component is unfit; the findings were printed.
    #[error("not fit to be activated")]
    Unfit,
}

impl TerminalError {
    fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into() }
    }
}
