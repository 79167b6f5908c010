//! Guests as text.

use serde_json::Value;

use crate::print::{items, json, line, number, table, text};

fn short(value: &Value, field: &str) -> String {
    text(value, field).chars().take(12).collect()
}

/// Calls that failed.
fn failures(value: &Value) -> u64 {
    ["traps", "timeouts", "memory", "refused"]
        .iter()
        .map(|kind| number(value, &format!("/counters/{kind}")))
        .sum()
}

pub(super) fn list(value: &Value) {
    let mut table = table(&["NAME", "WORLD", "STATE", "RELEASE", "SOURCE", "TRUSTED", "CALLS", "FAILED"]);
    for guest in items(value, "guests") {
        let trusted = guest.get("trusted").and_then(Value::as_bool).unwrap_or(false);
        table.add_row([
            text(guest, "name").to_owned(),
            text(guest, "world").to_owned(),
            text(guest, "state").to_owned(),
            short(guest, "release"),
            text(guest, "source").to_owned(),
            if trusted { "yes" } else { "no" }.to_owned(),
            number(guest, "/counters/calls").to_string(),
            failures(guest).to_string(),
        ]);
    }
    table.print();
}

pub(super) fn guest(value: &Value) {
    for field in ["name", "world", "state", "release", "component", "created_at"] {
        line(format!("{field:<12}{}", text(value, field)));
    }
    for field in ["trusted", "pooled", "settings", "description"] {
        line(format!("{field:<12}{}", value.get(field).unwrap_or(&Value::Null)));
    }
    line("");
    let mut table =
        table(&["RELEASE", "STATE", "SOURCE", "BY", "PUSHED", "CALLS", "FAILED", "PEAK", "REASON"]);
    for release in items(value, "releases") {
        table.add_row([
            short(release, "digest"),
            text(release, "state").to_owned(),
            text(release, "source").to_owned(),
            text(release, "pushed_by").to_owned(),
            text(release, "pushed_at").chars().take(19).collect(),
            number(release, "/counters/calls").to_string(),
            failures(release).to_string(),
            format!("{} KiB", number(release, "/counters/peak_memory_bytes") >> 10),
            text(release, "reason").to_owned(),
        ]);
    }
    table.print();
}

pub(super) fn release(value: &Value) {
    line(format!("release {} is {}", short(value, "digest"), text(value, "state")));
}

pub(super) fn call(value: &Value) {
    for entry in items(value, "log") {
        line(format!("{}: {}", text(entry, "stream"), text(entry, "text")));
    }
    json(value.get("answer").unwrap_or(&Value::Null));
    line(format!(
        "release {}, {} µs, {} KiB",
        short(value, "release"),
        number(value, "/elapsed_us"),
        number(value, "/peak_memory_bytes") >> 10
    ));
}
