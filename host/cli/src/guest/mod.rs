//! `isomer guest`: the admin API of a running server, and the author's tools that need none.

mod check;
mod precompile;
mod scaffold;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{ServerArgs, TerminalError, print};

/// What can be done with guests.
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
        /// Name of the guest; a new one is made
        name: String,
        /// The component
        file: PathBuf,
        /// Put it into service too
        #[arg(long)]
        activate: bool,
    },
    /// Put a release into service
    Activate {
        /// Name of the guest
        name: String,
        /// Digest of the release, or the beginning of it
        release: String,
    },
    /// Put the previous release back into service
    Rollback {
        /// Name of the guest
        name: String,
    },
    /// Let a guest answer again
    Enable {
        /// Name of the guest
        name: String,
    },
    /// Let the host's defaults answer instead of a guest
    Disable {
        /// Name of the guest
        name: String,
    },
    /// Let a guest ask for hosting other than a container
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
    /// Delete a release that is not in service
    Delete {
        /// Name of the guest
        name: String,
        /// Digest of the release, or the beginning of it
        release: String,
    },
    /// Call a function of a guest, to try it
    Call {
        /// Name of the guest
        name: String,
        /// Function as the WIT names it, such as describe
        function: String,
        /// Its input as JSON
        #[arg(value_parser = json_value, default_value = "null")]
        input: Value,
    },
    /// Check a component file without a server: would it be activated?
    Check {
        /// The component
        file: PathBuf,
        /// Settings to check it with
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
    /// Start a guest of your own: a crate that builds, with SDK and WIT beside it
    New {
        /// Directory to make
        directory: PathBuf,
    },
}

/// Does what was asked.
///
/// # Errors
/// See [`TerminalError`].
pub async fn run(args: GuestArgs) -> Result<(), TerminalError> {
    let print_json = args.server.json;
    let client = || args.server.client();
    let done = match args.task {
        GuestTask::Check { file, settings, trusted } => {
            return check::run(&file, &settings, trusted, print_json).await;
        }
        GuestTask::New { directory } => return scaffold::run(&directory),
        GuestTask::Precompile { cache_dir } => return precompile::run(&cache_dir, print_json),
        GuestTask::List => Done::List(client()?.get("/admin/guests").await?),
        GuestTask::Show { name } => Done::Guest(client()?.get(&path(&name, "")).await?),
        GuestTask::Push { name, file, activate } => {
            let bytes = std::fs::read(&file).map_err(|source| file_error(&file, source))?;
            let path = path(&name, &format!("/releases?activate={activate}"));
            Done::Release(client()?.upload(&path, "application/wasm", bytes).await?)
        }
        GuestTask::Activate { name, release } => {
            Done::Release(client()?.post(&path(&name, "/activate"), &json!({ "release": release })).await?)
        }
        GuestTask::Rollback { name } => {
            Done::Release(client()?.post(&path(&name, "/rollback"), &Value::Null).await?)
        }
        GuestTask::Enable { name } => {
            Done::Guest(client()?.post(&path(&name, "/enable"), &Value::Null).await?)
        }
        GuestTask::Disable { name } => {
            Done::Guest(client()?.post(&path(&name, "/disable"), &Value::Null).await?)
        }
        GuestTask::Trust { name } => Done::Guest(client()?.post(&path(&name, "/trust"), &Value::Null).await?),
        GuestTask::Untrust { name } => {
            Done::Guest(client()?.post(&path(&name, "/untrust"), &Value::Null).await?)
        }
        GuestTask::Pooled { name } => {
            Done::Guest(client()?.post(&path(&name, "/pooled"), &Value::Null).await?)
        }
        GuestTask::PerCall { name } => {
            Done::Guest(client()?.post(&path(&name, "/per-call"), &Value::Null).await?)
        }
        GuestTask::Settings { name, settings } => {
            Done::Guest(client()?.put(&path(&name, "/settings"), &settings).await?)
        }
        GuestTask::Delete { name, release } => {
            Done::Other(client()?.delete(&path(&name, &format!("/releases/{release}"))).await?)
        }
        GuestTask::Call { name, function, input } => {
            let body = json!({ "function": function, "input": input });
            Done::Call(client()?.post(&path(&name, "/call"), &body).await?)
        }
    };
    done.print(print_json);
    Ok(())
}

/// What a command got from the server, by how it is shown.
enum Done {
    List(Value),
    Guest(Value),
    Release(Value),
    Call(Value),
    Other(Value),
}

impl Done {
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

fn file_error(path: &std::path::Path, source: std::io::Error) -> TerminalError {
    TerminalError::File { path: path.display().to_string(), source }
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}
