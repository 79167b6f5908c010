//! `isomer send`: sends a message to an agent and prints the answer.

use clap::Args;
use serde_json::{Value, json};

use super::workspaces::Workspaces;
use super::{CliError, ServerArgs, print, printable};

/// Send a message to an agent.
#[derive(Debug, Args)]
#[command(after_help = "\
With a workspace's token instead of the admin token, the message is sent by that workspace's agent.
Name the recipient by its id then.")]
pub struct SendArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Name of the workspace, its id, or the beginning of its id
    #[arg(value_name = "NAME|ID")]
    workspace: String,
    /// Text of the message
    text: String,
}

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(args: SendArgs) -> Result<(), CliError> {
    let client = args.server.client()?;
    let id = match uuid::Uuid::parse_str(&args.workspace) {
        Ok(id) => id.to_string(),
        Err(_) => Workspaces::new(client.get("/workspaces").await?).id(&args.workspace)?,
    };
    let parts = json!([{ "kind": "text", "text": args.text }]);
    let message = json!({ "parts": parts, "role": "user" });
    let body = json!({ "method": "message/send", "params": { "message": message } });
    let answer = client.post_to_agent(&format!("/workspaces/{id}/a2a"), &body).await;
    if !args.server.json
        && let Ok(recipient) = client.get(&format!("/workspaces/{id}")).await
        && let Some(reason) = configuration_error(&recipient)
    {
        print::line(format!("The agent of {} is not configured: {reason}", args.workspace));
    }
    let answer = answer?;
    if args.server.json {
        print::json(&answer);
        return Ok(());
    }
    print::lines(&answer_text(&answer, &args.workspace)?);
    Ok(())
}

/// The reason of an agent whose card says that it is not configured.
fn configuration_error(recipient: &Value) -> Option<&str> {
    let card = recipient.get("agent_card")?;
    let text = |field| card.get(field).and_then(Value::as_str);
    let reason = || text("configuration_error").filter(|reason| !reason.is_empty());
    (text("configuration_status") == Some("not_configured"))
        .then(|| reason().unwrap_or("its card gives no reason"))
}

/// The text of an answer.
fn answer_text(answer: &Value, to: &str) -> Result<String, CliError> {
    if print::text(answer, "delivery_mode") == "poll" {
        return Ok(format!("{to} polls for messages: this one is stored until its agent fetches it"));
    }
    if answer.get("queued").and_then(Value::as_bool) == Some(true) {
        let (id, depth) = (print::text(answer, "queue_id"), print::number(answer, "/queue_depth"));
        return Ok(format!("{to} is busy: the message is queued as {id}; {depth} in the queue"));
    }
    if let Some(error) = answer.get("error") {
        let words = error.get("message").unwrap_or(error);
        let words = words.as_str().map_or_else(|| words.to_string(), str::to_owned);
        return Err(CliError::refused(format!("{to} answered with an error: {}", printable(&words))));
    }
    let lines: Vec<&str> = PART_POINTERS.iter().flat_map(|pointer| texts(answer, pointer)).collect();
    let artifacts = answer.pointer("/result/artifacts").and_then(Value::as_array).into_iter().flatten();
    let lines: Vec<&str> =
        lines.into_iter().chain(artifacts.flat_map(|artifact| texts(artifact, "/parts"))).collect();
    if lines.is_empty() {
        return Ok(format!("{to} answered without text. Use --json to see the whole answer"));
    }
    Ok(lines.join("\n"))
}

/// JSON pointers to the parts of an answer.
const PART_POINTERS: [&str; 3] = ["/result/parts", "/result/message/parts", "/result/status/message/parts"];

fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    let parts = value.pointer(pointer).and_then(Value::as_array);
    parts.into_iter().flatten().filter_map(|part| part.get("text")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_printed_as_text() {
        let parts = |text: &str| json!([{ "kind": "text", "text": text }]);
        for (answer, expected) in [
            (json!({ "result": { "parts": parts("a") } }), "a"),
            (json!({ "result": { "message": { "parts": parts("b") } } }), "b"),
            (json!({ "result": { "status": { "message": { "parts": parts("c") } } } }), "c"),
            (
                json!({ "result": { "artifacts": [{ "parts": parts("d") }, { "parts": parts("e") }] } }),
                "d\ne",
            ),
            (
                json!({ "result": { "parts": [{ "kind": "file" }] } }),
                "Bob answered without text. Use --json to see the whole answer",
            ),
            (
                json!({ "status": "queued", "delivery_mode": "poll", "method": "m" }),
                "Bob polls for messages: this one is stored until its agent fetches it",
            ),
            (
                json!({ "queued": true, "queue_id": "q", "queue_depth": 2 }),
                "Bob is busy: the message is queued as q; 2 in the queue",
            ),
        ] {
            assert_eq!(answer_text(&answer, "Bob").expect("an answer"), expected);
        }
        for (error, expected) in [
            (json!({ "code": -32601, "message": "no such method" }), "no such method"),
            (json!("tired"), "tired"),
            (json!({ "code": 1 }), r#"{"code":1}"#),
        ] {
            let refused = answer_text(&json!({ "error": error }), "Bob").expect_err("an error").to_string();
            assert_eq!(refused, format!("Bob answered with an error: {expected}"));
        }
    }
}
