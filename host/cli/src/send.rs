//! `isomer send`: says something to an agent, and prints what it answers.

use clap::Args;
use serde_json::{Value, json};

use super::workspaces::Workspaces;
use super::{ServerArgs, TerminalError, print};

/// Says something to an agent.
#[derive(Debug, Args)]
#[command(after_help = "\
With the token of a workspace instead of the admin token, the message comes from that workspace's
agent; then give the id of whom it is for.")]
pub struct SendArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Name of the workspace, its id, or the beginning of its id
    #[arg(value_name = "NAME|ID")]
    workspace: String,
    /// What to say
    text: String,
}

/// Does what was asked.
///
/// # Errors
/// See [`TerminalError`].
pub async fn run(args: SendArgs) -> Result<(), TerminalError> {
    let client = args.server.client()?;
    let id = match uuid::Uuid::parse_str(&args.workspace) {
        Ok(id) => id.to_string(),
        Err(_) => Workspaces::new(client.get("/workspaces").await?).id(&args.workspace)?,
    };
    let parts = json!([{ "kind": "text", "text": args.text }]);
    let message = json!({ "parts": parts, "role": "user" });
    let body = json!({ "method": "message/send", "params": { "message": message } });
    let answer = client.post(&format!("/workspaces/{id}/a2a"), &body).await?;
    if args.server.json {
        print::json(&answer);
        return Ok(());
    }
    print::line(said(&answer, &args.workspace)?);
    Ok(())
}

/// What to print of an answer.
fn said(answer: &Value, to: &str) -> Result<String, TerminalError> {
    if print::text(answer, "delivery_mode") == "poll" {
        return Ok(format!("kept for {to}, who fetches messages by itself"));
    }
    if answer.get("queued").and_then(Value::as_bool) == Some(true) {
        let (id, depth) = (print::text(answer, "queue_id"), print::number(answer, "/queue_depth"));
        return Ok(format!("{to} is busy: the message waits as {id}, {depth} wait in all"));
    }
    if let Some(error) = answer.get("error") {
        let words = error.get("message").unwrap_or(error);
        let words = words.as_str().map_or_else(|| words.to_string(), str::to_owned);
        return Err(TerminalError::refused(format!("{to} answered with an error: {words}")));
    }
    let lines: Vec<&str> = PLACES.iter().flat_map(|place| texts(answer, place)).collect();
    let artifacts = answer.pointer("/result/artifacts").and_then(Value::as_array).into_iter().flatten();
    let lines: Vec<&str> =
        lines.into_iter().chain(artifacts.flat_map(|artifact| texts(artifact, "/parts"))).collect();
    if lines.is_empty() {
        return Ok(format!("{to} answered without text; see --json"));
    }
    Ok(lines.join("\n"))
}

/// Where agents put the parts of an answer.
const PLACES: [&str; 3] = ["/result/parts", "/result/message/parts", "/result/status/message/parts"];

fn texts<'a>(value: &'a Value, place: &str) -> impl Iterator<Item = &'a str> {
    let parts = value.pointer(place).and_then(Value::as_array);
    parts.into_iter().flatten().filter_map(|part| part.get("text")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_table() {
        let parts = |text: &str| json!([{ "kind": "text", "text": text }]);
        for (answer, expected) in [
            (json!({ "result": { "parts": parts("a") } }), "a"),
            (json!({ "result": { "message": { "parts": parts("b") } } }), "b"),
            (json!({ "result": { "status": { "message": { "parts": parts("c") } } } }), "c"),
            (
                json!({ "result": { "artifacts": [{ "parts": parts("d") }, { "parts": parts("e") }] } }),
                "d\ne",
            ),
            (json!({ "result": { "parts": [{ "kind": "file" }] } }), "Bob answered without text; see --json"),
            (
                json!({ "status": "queued", "delivery_mode": "poll", "method": "m" }),
                "kept for Bob, who fetches messages by itself",
            ),
            (
                json!({ "queued": true, "queue_id": "q", "queue_depth": 2 }),
                "Bob is busy: the message waits as q, 2 wait in all",
            ),
        ] {
            assert_eq!(said(&answer, "Bob").expect("said"), expected);
        }
        for (error, expected) in [
            (json!({ "code": -32601, "message": "no such method" }), "no such method"),
            (json!("tired"), "tired"),
            (json!({ "code": 1 }), r#"{"code":1}"#),
        ] {
            let refused = said(&json!({ "error": error }), "Bob").expect_err("an error").to_string();
            assert_eq!(refused, format!("Bob answered with an error: {expected}"));
        }
    }
}
