//! Workspaces as text.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use types::clip;

use crate::print::{self, Branch, items, line, number, span, table, text, workspaces};

/// Characters of an id: enough to tell most workspaces apart.
const SHORT_ID: usize = 8;

/// Characters of an error in a table.
const SHORT_ERROR: usize = 40;

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn list(value: &Value) {
    let names: HashMap<&str, &str> = rows(value).map(|it| (text(it, "id"), text(it, "name"))).collect();
    let mut table = table(&["NAME", "ID", "STATUS", "RUNTIME", "TIER", "PARENT", "TASKS", "ERROR"]);
    for it in rows(value) {
        table.add_row([
            text(it, "name").to_owned(),
            text(it, "id").chars().take(SHORT_ID).collect(),
            text(it, "status").to_owned(),
            text(it, "runtime").to_owned(),
            number(it, "/tier").to_string(),
            names.get(text(it, "parent_id")).copied().unwrap_or("-").to_owned(),
            number(it, "/active_tasks").to_string(),
            cut(text(it, "last_sample_error")),
        ]);
    }
    if names.is_empty() {
        line("There are no workspaces. Create one: isomer ws create hello --runtime mock");
    } else {
        table.print();
    }
}

fn cut(error: &str) -> String {
    let mut short: String = error.chars().take(SHORT_ERROR).collect();
    if short.len() < error.len() {
        short.push('…');
    }
    short
}

pub(super) fn tree(value: &Value) {
    let branches = rows(value).map(|it| Branch {
        key: text(it, "id").to_owned(),
        parent: Some(text(it, "parent_id").to_owned()),
        label: format!("{}  ({}, {})", text(it, "name"), text(it, "runtime"), text(it, "status")),
    });
    print::tree(&branches.collect::<Vec<_>>());
}

/// Fields of a workspace in the order in which they are shown. Others follow.
const FIELDS: [&str; 21] = [
    "name",
    "id",
    "status",
    "runtime",
    "role",
    "tier",
    "parent_id",
    "url",
    "delivery_mode",
    "workspace_dir",
    "active_tasks",
    "current_task",
    "uptime_seconds",
    "last_error_rate",
    "last_sample_error",
    "budget_limit",
    "monthly_spend",
    "max_concurrent_tasks",
    "created_at",
    "last_heartbeat_at",
    "last_outbound_at",
];

/// Fields for canvases only.
const DRAWN: [&str; 3] = ["x", "y", "collapsed"];

/// Bytes that are shown of a field's JSON; `--json` shows all.
const SHOWN_JSON: usize = 400;

pub(super) fn one(value: &Value) {
    FIELDS.iter().for_each(|field| field_line(value, field));
    let others = value.as_object().into_iter().flatten().map(|(field, _)| field.as_str());
    others
        .filter(|field| !FIELDS.contains(field) && !DRAWN.contains(field))
        .for_each(|field| field_line(value, field));
}

fn field_line(value: &Value, field: &str) {
    match value.get(field) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => {
            line(format!("{field:<21}{text}"));
        }
        Some(other) => {
            line(format!("{field:<21}{}", clip(other.to_string(), SHOWN_JSON)));
        }
    }
}

pub(super) fn created(value: &Value) {
    line(format!("{} is {}  ({})", text(value, "name"), text(value, "status"), text(value, "id")));
    if text(value, "status") == "provisioning" {
        line(format!("See how far it is: isomer ws explain {}", text(value, "id")));
    }
    if let Some(token) = value.pointer("/connection/auth_token").and_then(Value::as_str) {
        line(format!("token of its agent  {token}"));
        line(
            "Save the token now: it is not shown again. The agent registers with it: POST /registry/register.",
        );
    }
}

pub(super) fn updated(name: &str, value: &Value) {
    let needs_restart = value.get("needs_restart").and_then(Value::as_bool).unwrap_or(false);
    line(if needs_restart {
        format!("{name} is updated. Its agent sees the change after a restart: isomer ws restart {name:?}")
    } else {
        format!("{name} is updated")
    });
}

pub(super) fn restarted(name: &str, value: &Value) {
    line(match text(value, "status") {
        "noop" => format!("{name} was not restarted: {}", text(value, "message")),
        _ => format!("{name} is restarting. See how far it is: isomer ws explain {name:?}"),
    });
}

pub(super) fn paused(name: &str, value: &Value) {
    line(with_others(name, "paused", number(value, "/paused_count").saturating_sub(1)));
}

pub(super) fn resumed(name: &str, value: &Value) {
    line(with_others(name, "resumed", number(value, "/resumed_count").saturating_sub(1)));
}

pub(super) fn hibernated(name: &str, _: &Value) {
    line(format!("{name} is hibernated. A message to its agent wakes it"));
}

pub(super) fn removed(name: &str, value: &Value) {
    line(with_others(name, text(value, "status"), number(value, "/cascade_deleted")));
}

/// What was done to a workspace, and to how many below it.
fn with_others(name: &str, done: &str, below: u64) -> String {
    match below {
        0 => format!("{name} is {done}"),
        below => format!("{name} is {done}, with {} below it", workspaces(below)),
    }
}

pub(super) fn explanation(value: &Value) {
    line(format!(
        "{} is {} since {}",
        text(value, "name"),
        text(value, "status"),
        moment(text(value, "since"))
    ));
    let (generation, observed) = (number(value, "/generation"), number(value, "/observed_generation"));
    line(format!(
        "desired     {} ({}; generation {generation}, observed {observed})",
        text(value, "wanted"),
        convergence(value)
    ));
    line(format!("runtime     {}, {}", text(value, "runtime"), hosting(text(value, "hosting"))));
    if let Some(container) = value.get("container").and_then(Value::as_str) {
        let attempt = number(value, "/attempt");
        line(format!(
            "container   {container}, attempt {attempt}, {} consecutive failures",
            number(value, "/failures")
        ));
    }
    if let Some(seen) = value.get("last_seen_at").and_then(Value::as_str) {
        line(format!("last seen   {}", moment(seen)));
    }
    if let Some(error) = value.get("last_error").and_then(Value::as_str) {
        line(format!("last error  {error}"));
    }
    if let Some(reason) = value.get("configuration_error").and_then(Value::as_str) {
        line(format!("agent       is not configured: {reason}"));
    }
    if let Some(problem) = value.get("delivery_problem").filter(|problem| problem.is_object()) {
        delivery_problem(problem);
    }
    for condition in items(value, "conditions") {
        line(format!(
            "{} is {} since {}: {}",
            text(condition, "type"),
            text(condition, "status"),
            moment(text(condition, "since")),
            text(condition, "message")
        ));
    }
    match value.get("awaiting").filter(|awaiting| awaiting.is_object()) {
        None => line(format!("{} waits for nothing", text(value, "name"))),
        Some(awaiting) => {
            line(format!(
                "waits for   {}, since {}",
                text(awaiting, "what"),
                moment(text(awaiting, "since"))
            ));
            match awaiting.get("deadline").and_then(Value::as_str) {
                Some(deadline) => line(format!("until       {}", moment(deadline))),
                None => line("until       no deadline"),
            };
            line(format!("then        {}", text(awaiting, "then")))
        }
    };
}

/// Why messages do not reach the agent, and what to do about it.
fn delivery_problem(problem: &Value) {
    let since = problem.get("since").and_then(Value::as_str);
    let since = since.map(|since| format!("since {}: ", moment(since))).unwrap_or_default();
    line(format!("messages    do not reach its agent: {since}{}", text(problem, "error")));
    if let Some(hint) = problem.get("hint").and_then(Value::as_str) {
        line(format!("to do       {hint}"));
    }
}

fn convergence(value: &Value) -> &'static str {
    let agrees = value.get("agrees").and_then(Value::as_bool).unwrap_or(false);
    if agrees { "reached" } else { "in progress" }
}

fn hosting(word: &str) -> &str {
    match word {
        "container" => "in a container",
        "operator" => "its agent runs elsewhere",
        "synthetic" => "its adapter answers messages",
        other => other,
    }
}

/// A time, and its distance from now.
fn moment(time: &str) -> String {
    let Ok(at) = time.parse::<DateTime<Utc>>() else {
        return time.to_owned();
    };
    let seconds = (Utc::now() - at).num_seconds();
    let second = at.format("%Y-%m-%d %H:%M:%S UTC");
    if seconds >= 0 {
        format!("{second} ({} ago)", span(seconds))
    } else {
        format!("{second} (in {})", span(seconds))
    }
}
