//! `isomer ws`: workspaces.

mod body;
mod find;
mod show;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::body::{CreateArgs, UpdateArgs};
pub(super) use self::find::Workspaces;
use super::client::Client;
use super::{CliError, ServerArgs, print};

/// Create, show, change and remove workspaces.
#[derive(Debug, Args)]
pub struct WorkspaceArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    task: WorkspaceTask,
}

#[derive(Debug, Subcommand)]
enum WorkspaceTask {
    /// Create a workspace
    Create(Box<CreateArgs>),
    /// List workspaces
    List {
        /// Draw them as a tree
        #[arg(long)]
        tree: bool,
    },
    /// Show a workspace
    Show(Named),
    /// Change a workspace
    Update(Box<UpdateArgs>),
    /// Restart a workspace
    Restart(Named),
    /// Pause a workspace and all workspaces below it, until they are resumed; what is created or moved below it later
    /// is paused too
    Pause(Named),
    /// Resume a workspace and all paused workspaces below it
    Resume(Named),
    /// Stop a workspace's container until a message arrives for its agent
    Hibernate {
        #[command(flatten)]
        named: Named,
        /// Hibernate even if the agent is working on tasks
        #[arg(long)]
        force: bool,
    },
    /// Remove a workspace
    Delete {
        #[command(flatten)]
        named: Named,
        /// Remove all workspaces below it too
        #[arg(long)]
        confirm: bool,
        /// Delete its history too, events included
        #[arg(long)]
        purge: bool,
    },
    /// Explain what a workspace waits for, until when, and what happens then
    Explain(Named),
}

/// An existing workspace.
#[derive(Debug, Args)]
struct Named {
    /// Name of the workspace, its id, or the beginning of its id
    #[arg(value_name = "NAME|ID")]
    workspace: String,
}

/// Prints an answer for people.
type Show = Box<dyn Fn(&Value)>;

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(args: WorkspaceArgs) -> Result<(), CliError> {
    let client = args.server.client()?;
    let as_json = args.server.json;
    let (answer, show): (Value, Show) = match args.task {
        WorkspaceTask::Create(args) => {
            let parent = match &args.parent {
                Some(parent) => Some(list(&client).await?.id(parent)?),
                None => None,
            };
            (client.post("/workspaces", &args.body(parent.as_deref())?).await?, Box::new(show::created))
        }
        WorkspaceTask::List { tree } => {
            let list = client.get("/workspaces").await?;
            (list, Box::new(if tree { show::tree } else { show::list }))
        }
        WorkspaceTask::Show(named) => {
            let target = Target::find(&client, &named).await?;
            (client.get(&target.path("")).await?, Box::new(show::one))
        }
        WorkspaceTask::Update(args) => {
            let known = list(&client).await?;
            let parent = args.parent.as_deref().map(|parent| known.id(parent)).transpose()?;
            let target = Target::of(&known, &args.workspace)?;
            let answer = client.patch(&target.path(""), &args.body(parent.as_deref())).await?;
            (answer, target.shown(show::updated))
        }
        WorkspaceTask::Restart(named) => verb(&client, &named, "/restart", show::restarted).await?,
        WorkspaceTask::Pause(named) => verb(&client, &named, "/pause", show::paused).await?,
        WorkspaceTask::Resume(named) => verb(&client, &named, "/resume", show::resumed).await?,
        WorkspaceTask::Hibernate { named, force } => {
            verb(&client, &named, &format!("/hibernate?force={force}"), show::hibernated).await?
        }
        WorkspaceTask::Delete { named, confirm, purge } => {
            let known = list(&client).await?;
            let target = Target::of(&known, &named.workspace)?;
            if !confirm && let Some(question) = known.confirmation(&target.id) {
                return Err(CliError::refused(question));
            }
            let answer = client.delete(&target.path(&format!("?confirm={confirm}&purge={purge}"))).await?;
            (answer, target.shown(show::removed))
        }
        WorkspaceTask::Explain(named) => {
            let target = Target::find(&client, &named).await?;
            (client.get(&target.path("/explain")).await?, Box::new(show::explanation))
        }
    };
    if as_json {
        print::json(&answer);
    } else {
        show(&answer);
    }
    Ok(())
}

async fn list(client: &Client) -> Result<Workspaces, CliError> {
    Ok(Workspaces::new(client.get("/workspaces").await?))
}

/// Calls a verb of a workspace's lifecycle.
async fn verb(
    client: &Client,
    named: &Named,
    rest: &str,
    show: fn(&str, &Value),
) -> Result<(Value, Box<dyn Fn(&Value)>), CliError> {
    let target = Target::find(client, named).await?;
    let answer = client.post(&target.path(rest), &json!({})).await?;
    Ok((answer, target.shown(show)))
}

/// The workspace that a command is about.
struct Target {
    id: String,
    name: String,
}

impl Target {
    async fn find(client: &Client, named: &Named) -> Result<Self, CliError> {
        Self::of(&list(client).await?, &named.workspace)
    }

    fn of(known: &Workspaces, named: &str) -> Result<Self, CliError> {
        let id = known.id(named)?;
        let name = known.name(&id).to_owned();
        Ok(Self { id, name })
    }

    fn path(&self, rest: &str) -> String {
        format!("/workspaces/{}{rest}", self.id)
    }

    fn shown(self, show: fn(&str, &Value)) -> Box<dyn Fn(&Value)> {
        Box::new(move |answer| show(&self.name, answer))
    }
}
