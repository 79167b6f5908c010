//! `isomer org`: organisations.

mod show;
mod source;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::source::Source;
use super::client::Client;
use super::print::{items, text};
use super::{ServerArgs, TerminalError, print};

/// What can be done with organisations.
#[derive(Debug, Args)]
pub struct OrgArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    task: OrgTask,
}

#[derive(Debug, Subcommand)]
enum OrgTask {
    /// Make the workspaces of a template that aren't there yet
    Import {
        #[command(flatten)]
        template: TemplateArgs,
        /// merge: leave others alone; reconcile: remove those that have a name of the template, but no
        /// place in it
        #[arg(long, value_parser = ["merge", "reconcile"], default_value = "merge")]
        mode: String,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// List the server's templates
    Templates {
        /// Those that can't be imported too, with the reason
        #[arg(long)]
        broken: bool,
    },
    /// Remove the workspaces of a template, with everything below them
    Delete {
        #[command(flatten)]
        template: TemplateArgs,
        /// Do it: without this, only say what would go
        #[arg(long)]
        confirm: bool,
    },
}

#[derive(Debug, Args)]
struct TemplateArgs {
    /// Directory with an org.yaml, or such a file (YAML or JSON), here; else the name of one of the
    /// server's templates
    #[arg(value_name = "DIR|FILE|NAME")]
    template: String,
}

/// Does what was asked.
///
/// # Errors
/// See [`TerminalError`].
pub async fn run(args: OrgArgs) -> Result<(), TerminalError> {
    let client = args.server.client()?;
    let as_json = args.server.json;
    match args.task {
        OrgTask::Import { template, mode, dry_run } => {
            let source = Source::find(&template.template)?;
            if !as_json {
                eprintln!("{source}");
            }
            let answer = import(&client, &source, &mode, dry_run).await?;
            if as_json {
                print::json(&answer);
            } else if dry_run {
                show::rehearsal(&answer);
            } else {
                show::imported(&answer, &client.get("/workspaces").await?);
            }
            match answer.get("error").and_then(Value::as_str) {
                Some(error) => {
                    Err(TerminalError::refused(format!("{error}; what comes after it was left out")))
                }
                None => Ok(()),
            }
        }
        OrgTask::Templates { broken } => {
            let answer = client.get(&format!("/org/templates?include_broken={broken}")).await?;
            if as_json {
                print::json(&answer);
            } else {
                show::templates(&answer);
            }
            Ok(())
        }
        OrgTask::Delete { template, confirm } => {
            let source = Source::find(&template.template)?;
            let there = import(&client, &source, "merge", true).await?;
            delete(&client, &there, confirm, as_json).await
        }
    }
}

async fn import(client: &Client, source: &Source, mode: &str, dry_run: bool) -> Result<Value, TerminalError> {
    let mut body = match source {
        Source::Archive { bytes, .. } => {
            let path = format!("/org/import?mode={mode}&dry_run={dry_run}");
            return client.upload(&path, "application/x-tar", bytes.clone()).await;
        }
        Source::Inline { template, .. } => json!({ "template": template }),
        Source::Named(name) => json!({ "dir": name }),
    };
    if let Some(fields) = body.as_object_mut() {
        fields.insert("mode".to_owned(), json!(mode));
        fields.insert("dry_run".to_owned(), json!(dry_run));
    }
    client.post("/org/import", &body).await
}

/// Removes the template's roots, and with them everything below.
async fn delete(client: &Client, there: &Value, confirm: bool, as_json: bool) -> Result<(), TerminalError> {
    let is_root = |node: &&Value| items(node, "path").count() == 1 && text(node, "action") == "keep";
    let roots: Vec<&Value> = items(there, "nodes").filter(is_root).collect();
    let name = |node: &Value| items(node, "path").filter_map(Value::as_str).collect::<String>();
    if roots.is_empty() {
        return Err(TerminalError::refused(format!("nothing of {} is there", text(there, "org"))));
    }
    if !confirm {
        let names: Vec<String> = roots.iter().map(|root| name(root)).collect();
        let names = names.join(", ");
        let message = format!("this removes {names} and everything below; add --confirm to do it");
        return Err(TerminalError::refused(message));
    }
    let mut removed = Vec::new();
    for root in roots {
        let answer = client.delete(&format!("/workspaces/{}?confirm=true", text(root, "id"))).await?;
        removed.push(json!({ "name": name(root), "removed": answer }));
    }
    if as_json {
        print::json(&json!(removed));
    } else {
        show::deleted(&removed);
    }
    Ok(())
}
