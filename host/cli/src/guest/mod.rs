//! `isomer guest`: the admin API of a running server, and the author's tools that need none.

mod check;
mod precompile;
mod scaffold;
mod show;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CliError, ServerArgs, print};

/// Manage guests, and tools for their authors.
#[derive(Debug, Args)]
pub struct GuestArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    task: GuestTask,
}

#[derive(Debug, Subcommand)]
enum GuestTask {
    /// List guests
    List,
    /// Show a guest with its settings and releases
    Show {
        /// Name of the guest
        name: String,
    },
    /// Add a release
    Push {
        /// Name of the guest; an unknown name creates one
        name: String,
        /// Component file
        file: PathBuf,
        /// Activate the release too
        #[arg(long)]
        activate: bool,
    },
    /// Activate a release
    Activate {
        /// Name of the guest
        name: String,
        /// Digest of the release, or the beginning of it
        release: String,
    },
    /// Activate the previous release again
    Rollback {
        /// Name of the guest
        name: String,
    },
    /// Enable a guest: it answers calls again
    Enable {
        /// Name of the guest
        name: String,
    },
    /// Disable a guest: workspaces of its runtime wait to be started, and its names stay its own
    Disable {
        /// Name of the guest
        name: String,
    },
    /// Trust a guest: it may ask for hosting other than a container
    Trust {
        /// Name of the guest
        name: String,
    },
    /// Allow a guest to ask for hosting in a container only
    Untrust {
        /// Name of the guest
        name: String,
    },
    /// Let calls of a guest take warm instances from a pool: quicker, and a call may see what earlier
    /// calls left in memory
    Pooled {
        /// Name of the guest
        name: String,
    },
    /// Give every call of a guest a fresh instance (the default)
    PerCall {
        /// Name of the guest
        name: String,
    },
    /// Replace a guest's settings
    Settings {
        /// Name of the guest
        name: String,
        /// The new settings: a JSON object
        #[arg(value_parser = json_value)]
        settings: Value,
    },
    /// Delete a guest that serves no one, or one of its releases
    ///
    /// Without RELEASE, the guest is deleted with its settings and releases. That is refused while a workspace
    /// has a runtime that the guest answers for, and for first-party guests, which can be disabled instead
    /// (`isomer guest disable NAME`). Remove the guest's file from GUESTS_DIR first: the next start would push
    /// it again.
    Delete {
        /// Name of the guest
        name: String,
        /// Delete only this release, which must not be active: its digest, or the beginning of it
        release: Option<String>,
    },
    /// Call a function of a guest, to test it
    Call {
        /// Name of the guest
        name: String,
        /// Function as the WIT names it, such as describe
        function: String,
        /// Its input as JSON
        #[arg(value_parser = json_value, default_value = "null")]
        input: Value,
    },
    /// Check a component file as activation does, without a server
    Check {
        /// Component file
        file: PathBuf,
        /// Settings for the check
        #[arg(long, value_parser = json_value, default_value = "{}")]
        settings: Value,
        /// Check it as a trusted guest
        #[arg(long)]
        trusted: bool,
    },
    /// Compile the first-party guests into the cache of compiled guests, as when an image is built
    Precompile {
        /// Directory of the cache: what the server is given as GUEST_CACHE_DIR
        #[arg(long, value_name = "DIR", env = "GUEST_CACHE_DIR", default_value = "./data/compiled")]
        cache_dir: PathBuf,
    },
    /// Make a crate for a guest of your own, with SDK and WIT beside it
    New {
        /// Name of the guest, its runtime and its crate; a path puts its directory elsewhere
        #[arg(value_name = "NAME")]
        directory: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(args: GuestArgs) -> Result<(), CliError> {
    let print_json = args.server.json;
    let client = || args.server.client();
    let answer = match args.task {
        GuestTask::Check { file, settings, trusted } => {
            return check::run(&file, &settings, trusted, print_json).await;
        }
        GuestTask::New { directory } => return scaffold::run(&directory),
        GuestTask::List => Answer::List(client()?.get("/admin/guests").await?),
        GuestTask::Show { name } => Answer::Guest(client()?.get(&path(&name, "")).await?),
        GuestTask::Precompile { cache_dir } => return precompile::run(&cache_dir, print_json),
        GuestTask::Push { name, file, activate } => {
            let bytes = component(&file)?;
            let path = path(&name, &format!("/releases?activate={activate}"));
            Answer::Release(client()?.upload(&path, "application/wasm", bytes).await?)
        }
        GuestTask::Activate { name, release } => {
            Answer::Release(client()?.post(&path(&name, "/activate"), &json!({ "release": release })).await?)
        }
        GuestTask::Rollback { name } => {
            Answer::Release(client()?.post(&path(&name, "/rollback"), &Value::Null).await?)
        }
        GuestTask::Enable { name } => {
            Answer::Guest(client()?.post(&path(&name, "/enable"), &Value::Null).await?)
        }
        GuestTask::Disable { name } => {
            Answer::Guest(client()?.post(&path(&name, "/disable"), &Value::Null).await?)
        }
        GuestTask::Trust { name } => {
            Answer::Guest(client()?.post(&path(&name, "/trust"), &Value::Null).await?)
        }
        GuestTask::Untrust { name } => {
            Answer::Guest(client()?.post(&path(&name, "/untrust"), &Value::Null).await?)
        }
        GuestTask::Pooled { name } => {
            Answer::Guest(client()?.post(&path(&name, "/pooled"), &Value::Null).await?)
        }
        GuestTask::PerCall { name } => {
            Answer::Guest(client()?.post(&path(&name, "/per-call"), &Value::Null).await?)
        }
        GuestTask::Settings { name, settings } => {
            Answer::Guest(client()?.put(&path(&name, "/settings"), &settings).await?)
        }
        GuestTask::Delete { name, release } => {
            let rest = release.map(|release| format!("/releases/{release}")).unwrap_or_default();
            Answer::Other(client()?.delete(&path(&name, &rest)).await?)
        }
        GuestTask::Call { name, function, input } => {
            let body = json!({ "function": function, "input": input });
            Answer::Call(client()?.post(&path(&name, "/call"), &body).await?)
        }
    };
    answer.print(print_json);
    Ok(())
}

/// An answer of the server, by how it is shown.
enum Answer {
    List(Value),
    Guest(Value),
    Release(Value),
    Call(Value),
    Other(Value),
}

impl Answer {
    fn print(&self, as_json: bool) {
        match self {
            Self::List(value) if !as_json => show::list(value),
            Self::Guest(value) if !as_json => show::guest(value),
            Self::Release(value) if !as_json => show::release(value),
            Self::Call(value) if !as_json => show::call(value),
            Self::List(value)
            | Self::Guest(value)
            | Self::Release(value)
            | Self::Call(value)
            | Self::Other(value) => {
                print::json(value);
            }
        }
    }
}

fn path(name: &str, rest: &str) -> String {
    format!("/admin/guests/{name}{rest}")
}

/// Reads a component file.
fn component(file: &Path) -> Result<Vec<u8>, CliError> {
    let limit = wasm::Limits::default().component_bytes;
    local_files::read(file, limit as u64).map_err(|error| CliError::unread(file, error))
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}
