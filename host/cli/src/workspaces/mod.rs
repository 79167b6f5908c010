//! `isomer ws`: workspaces.

mod body;
mod find;
mod show;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::body::{CreateArgs, UpdateArgs};
pub(super) use self::find::Workspaces;
use super::{ServerArgs, TerminalError, print};

/// What can be done with workspaces.
#[derive(Debug, Args)]
pub struct WorkspaceArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    task: WorkspaceTask,
}

#[derive(Debug, Subcommand)]
enum WorkspaceTask {
    /// Make a workspace
    Create(Box<CreateArgs>),
    /// List workspaces
    List {
        /// Draw who is below whom
        #[arg(long)]
        tree: bool,
    },
    /// Show a workspace
    Show(Named),
    /// Change a workspace
    Update(Box<UpdateArgs>),
    /// Stop it and start it again
    Restart(Named),
    /// Let it and everything below it stand still until resumed
    Pause(Named),
    /// Let it and everything paused below it go on
    Resume(Named),
    /// Let it stand still until there is work for it
    Hibernate {
        #[command(flatten)]
        named: Named,
        /// Even if it is at work
        #[arg(long)]
        force: bool,
    },
    /// Remove a workspace
    Delete {
        #[command(flatten)]
        named: Named,
        /// Everything below it too
        #[arg(long)]
        confirm: bool,
        /// And everything that is remembered of it, its events included
        #[arg(long)]
        purge: bool,
    },
    /// Say what a workspace waits for, until when, and what happens then
    Explain(Named),
}

/// One that is there.
#[derive(Debug, Args)]
struct Named {
    /// Name of the workspace, its id, or the beginning of its id
    #[arg(value_name = "NAME|ID")]
    workspace: String,
}

/// Does what was asked.
///
/// # Errors
/// See [`TerminalError`].
pub async fn run(args: WorkspaceArgs) -> Result<(), TerminalError> {
    let client = args.server.client()?;
    let known = async || Ok::<_, TerminalError>(Workspaces::new(client.get("/workspaces").await?));
    let path = async |named: &str, rest: &str| {
        let id = known().await?.id(named)?;
        Ok::<_, TerminalError>(format!("/workspaces/{id}{rest}"))
    };
    let as_json = args.server.json;
    let (answer, show): (Value, fn(&Value)) = match args.task {
        WorkspaceTask::Create(args) => {
            let parent = match &args.parent {
                Some(parent) => Some(known().await?.id(parent)?),
                None => None,
            };
            (client.post("/workspaces", &args.body(parent.as_deref())?).await?, show::created)
        }
        WorkspaceTask::List { tree } => {
            let list = client.get("/workspaces").await?;
            (list, if tree { show::tree } else { show::list })
        }
        WorkspaceTask::Show(named) => (client.get(&path(&named.workspace, "").await?).await?, show::one),
        WorkspaceTask::Update(args) => {
            let known = known().await?;
            let parent = args.parent.as_deref().map(|parent| known.id(parent)).transpose()?;
            let path = format!("/workspaces/{}", known.id(&args.workspace)?);
            (client.patch(&path, &args.body(parent.as_deref())).await?, show::updated)
        }
        WorkspaceTask::Restart(named) => {
            (client.post(&path(&named.workspace, "/restart").await?, &json!({})).await?, show::verb)
        }
        WorkspaceTask::Pause(named) => {
            (client.post(&path(&named.workspace, "/pause").await?, &json!({})).await?, show::verb)
        }
        WorkspaceTask::Resume(named) => {
            (client.post(&path(&named.workspace, "/resume").await?, &json!({})).await?, show::verb)
        }
        WorkspaceTask::Hibernate { named, force } => {
            let path = path(&named.workspace, &format!("/hibernate?force={force}")).await?;
            (client.post(&path, &json!({})).await?, show::verb)
        }
        WorkspaceTask::Delete { named, confirm, purge } => {
            let known = known().await?;
            let id = known.id(&named.workspace)?;
            if !confirm && let Some(refusal) = known.has_children(&id) {
                return Err(TerminalError::refused(refusal));
            }
            let path = format!("/workspaces/{id}?confirm={confirm}&purge={purge}");
            (client.delete(&path).await?, show::removed)
        }
        WorkspaceTask::Explain(named) => {
            (client.get(&path(&named.workspace, "/explain").await?).await?, show::explanation)
        }
    };
    if as_json {
        print::json(&answer);
    } else {
        show(&answer);
    }
    Ok(())
}
