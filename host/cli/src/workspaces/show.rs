//! Workspaces, as people read them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::print::{self, Branch, items, line, number, span, table, text};

/// Characters of an id that tell workspaces apart almost always.
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
        line("There are no workspaces. Make one: isomer ws create hello --runtime mock");
    } else {
        line(table.trim_fmt());
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

pub(super) fn one(value: &Value) {
    for field in [
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
    ] {
        field_line(value, field);
    }
    for field in ["active_tasks", "current_task", "uptime_seconds", "last_error_rate", "last_sample_error"] {
        field_line(value, field);
    }
    for field in ["budget_limit", "monthly_spend", "max_concurrent_tasks", "created_at", "last_heartbeat_at"]
    {
        field_line(value, field);
    }
}

fn field_line(value: &Value, field: &str) {
    match value.get(field) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => {
            line(format!("{field:<21}{text}"));
        }
        Some(other) => {
            line(format!("{field:<21}{other}"));
        }
    }
}

pub(super) fn created(value: &Value) {
    line(format!("{} is {}  ({})", text(value, "name"), text(value, "status"), text(value, "id")));
    if let Some(token) = value.pointer("/connection/auth_token").and_then(Value::as_str) {
        line(format!("token for its agent  {token}"));
        line("Save it now: it is not shown again. The agent calls POST /registry/register with it.");
    }
}

pub(super) fn updated(value: &Value) {
    let restart = value.get("needs_restart").and_then(Value::as_bool).unwrap_or(false);
    line(if restart { "updated; it takes a restart until its agent sees it" } else { "updated" });
}

pub(super) fn verb(value: &Value) {
    let count = ["paused_count", "resumed_count"].iter().find_map(|field| value.get(field)?.as_u64());
    match (text(value, "status"), count) {
        ("noop", _) => line(text(value, "message")),
        (_, Some(1)) if value.get("resumed_count").is_some() => line("resumed"),
        (_, Some(count)) if value.get("resumed_count").is_some() => line(format!("{count} resumed")),
        (status, Some(count)) if count > 1 => line(format!("{count} {status}")),
        (status, _) => line(status),
    };
}

pub(super) fn removed(value: &Value) {
    let status = text(value, "status");
    match number(value, "/cascade_deleted") {
        0 => line(status),
        count => line(format!("{status}, with {count} below it")),
    };
}

pub(super) fn explanation(value: &Value) {
    line(format!(
        "{} is {} since {}",
        text(value, "name"),
        text(value, "status"),
        moment(text(value, "since"))
    ));
    line(format!("wanted      {} ({})", text(value, "wanted"), agreement(value)));
    line(format!("runtime     {}, {}", text(value, "runtime"), hosting(text(value, "hosting"))));
    if let Some(container) = value.get("container").and_then(Value::as_str) {
        let attempt = number(value, "/attempt");
        line(format!(
            "container   {container}, start number {attempt}, {} failures in a row",
            number(value, "/failures")
        ));
    }
    if let Some(seen) = value.get("last_seen_at").and_then(Value::as_str) {
        line(format!("last heard  {}", moment(seen)));
    }
    if let Some(error) = value.get("last_error").and_then(Value::as_str) {
        line(format!("last error  {error}"));
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
        None => line("It waits for nothing."),
        Some(awaiting) => {
            line(format!(
                "waits for   {}, since {}",
                text(awaiting, "what"),
                moment(text(awaiting, "since"))
            ));
            match awaiting.get("deadline").and_then(Value::as_str) {
                Some(deadline) => line(format!("until       {}", moment(deadline))),
                None => line("until       it happens"),
            };
            line(format!("then        {}", text(awaiting, "then")))
        }
    };
}

fn agreement(value: &Value) -> &'static str {
    let agrees = value.get("agrees").and_then(Value::as_bool).unwrap_or(false);
    if agrees { "and so it is, as far as it can be" } else { "being worked on" }
}

fn hosting(word: &str) -> &str {
    match word {
        "container" => "in a container",
        "operator" => "run by somebody else",
        "synthetic" => "answered by its adapter",
        other => other,
    }
}

/// A time, and how far it is from now.
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
