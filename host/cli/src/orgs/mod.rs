//! `isomer org`: organizations.

mod show;
mod source;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::source::Source;
use super::client::Client;
use super::print::{items, text};
use super::{CliError, ServerArgs, print, printable};

/// Import and remove organizations.
#[derive(Debug, Args)]
pub struct OrgArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    task: OrgTask,
}

#[derive(Debug, Subcommand)]
enum OrgTask {
    /// Import an org template: create its workspaces that don't exist yet
    Import {
        #[command(flatten)]
        template: TemplateArgs,
        /// merge: keep all other workspaces; reconcile: remove workspaces that have a name of the template
        /// but no place in it
        #[arg(long, value_parser = ["merge", "reconcile"], default_value = "merge")]
        mode: String,
        /// Show the plan and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List the server's org templates
    Templates {
        /// Include templates that can't be imported, with the reason
        #[arg(long)]
        broken: bool,
    },
    /// Remove the workspaces of an org template, with all workspaces below them
    Delete {
        #[command(flatten)]
        template: TemplateArgs,
        /// Remove them; without this, show what would be removed
        #[arg(long)]
        confirm: bool,
    },
}

#[derive(Debug, Args)]
struct TemplateArgs {
    /// Local directory with an org.yaml, or local file (YAML or JSON); else the name of an org template of
    /// the server
    #[arg(value_name = "DIR|FILE|NAME")]
    template: String,
}

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(args: OrgArgs) -> Result<(), CliError> {
    let client = args.server.client()?;
    let as_json = args.server.json;
    match args.task {
        OrgTask::Import { template, mode, dry_run } => {
            let source = Source::find(&template.template)?;
            if !as_json {
                source.to_string().lines().for_each(print::note);
            }
            let answer = import(&client, &source, &mode, dry_run).await?;
            if as_json {
                print::json(&answer);
            } else if dry_run {
                show::dry_run(&answer);
            } else {
                show::imported(&answer, &client.get("/workspaces").await?);
            }
            let error = ["detail", "error"].into_iter().find_map(|field| answer.get(field)?.as_str());
            match error {
                Some(error) => Err(CliError::refused(format!(
                    "{}. The workspaces after it were not created; mend the template and import it again",
                    printable(error)
                ))),
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

async fn import(client: &Client, source: &Source, mode: &str, dry_run: bool) -> Result<Value, CliError> {
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
    let answer = client.post("/org/import", &body).await;
    match (answer, source) {
        // A path that is misspelled looks like the name of a template.
        (Err(CliError::Refused { message }), Source::Named(name))
            if message.starts_with("org template not found") =>
        {
            let name = printable(name);
            Err(CliError::refused(format!("{message}. Here is no file or directory {name} either")))
        }
        (answer, _) => answer,
    }
}

/// Removes the template's root workspaces, and with them all workspaces below.
async fn delete(client: &Client, there: &Value, confirm: bool, as_json: bool) -> Result<(), CliError> {
    let is_root = |node: &&Value| items(node, "path").count() == 1 && text(node, "action") == "keep";
    let roots: Vec<&Value> = items(there, "nodes").filter(is_root).collect();
    let name = |node: &Value| items(node, "path").filter_map(Value::as_str).collect::<String>();
    if roots.is_empty() {
        let org = printable(text(there, "org"));
        return Err(CliError::refused(format!("{org} has no workspaces to remove")));
    }
    if !confirm {
        let names: Vec<String> = roots.iter().map(|root| name(root)).collect();
        let (org, names) = (printable(text(there, "org")), names.join(", "));
        let names = printable(&names);
        let message = format!(
            "{org} was not removed: this removes {names} and all workspaces below. Remove them with --confirm"
        );
        return Err(CliError::refused(message));
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
