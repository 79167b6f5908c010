//! Organizations as text.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::print::{Branch, items, line, number, table, text, tree, workspaces};

pub(super) fn templates(value: &Value) {
    let rows: Vec<&Value> = value.as_array().into_iter().flatten().collect();
    if rows.is_empty() {
        line(
            "The server has no org templates. Set ORG_TEMPLATES_DIR, or import a local directory: isomer org import DIR",
        );
        return;
    }
    let mut table = table(&["DIR", "NAME", "WORKSPACES", "REQUIRES", "RECOMMENDS", "DESCRIPTION"]);
    for row in rows {
        let about = match text(row, "error") {
            "-" => text(row, "description").to_owned(),
            error => format!("broken: {error}"),
        };
        table.add_row([
            text(row, "dir").to_owned(),
            text(row, "name").to_owned(),
            number(row, "/workspaces").to_string(),
            items(row, "required_env").map(requirement).collect::<Vec<_>>().join(", "),
            items(row, "recommended_env").map(requirement).collect::<Vec<_>>().join(", "),
            about,
        ]);
    }
    table.print();
}

fn requirement(value: &Value) -> String {
    let any: Vec<&str> = items(value, "any_of").filter_map(Value::as_str).collect();
    value.as_str().map_or_else(|| any.join(" or "), str::to_owned)
}

/// The organization after the import, with new workspaces marked.
pub(super) fn imported(answer: &Value, listed: &Value) {
    // Siblings of one name are one workspace, which the first of them created.
    let mut placed: HashMap<&str, bool> = HashMap::new();
    for it in items(answer, "workspaces") {
        placed.entry(text(it, "id")).or_insert(it.get("skipped").and_then(Value::as_bool) == Some(true));
    }
    let all = listed.as_array().into_iter().flatten();
    let there: HashMap<&str, &Value> = all.map(|it| (text(it, "id"), it)).collect();
    let mut shown = HashSet::new();
    let branches = items(answer, "workspaces").filter(|it| shown.insert(text(it, "id"))).map(|it| {
        let now = there.get(text(it, "id")).copied().unwrap_or(it);
        let parent = text(now, "parent_id");
        let kept = placed.get(text(it, "id")).copied().unwrap_or(false);
        let mark = if kept { '=' } else { '+' };
        let (name, runtime, status) = (text(it, "name"), text(now, "runtime"), text(now, "status"));
        Branch {
            key: text(it, "id").to_owned(),
            // Workspaces above an organization are not part of it.
            parent: placed.contains_key(parent).then(|| parent.to_owned()),
            label: format!("{mark} {name}  ({runtime}, {status})"),
        }
    });
    tree(&branches.collect::<Vec<_>>());
    let kept = placed.values().filter(|kept| **kept).count();
    let removed = match answer.get("reconcile_removed_count").and_then(Value::as_u64) {
        Some(removed) => format!(", {removed} removed"),
        None => String::new(),
    };
    line(format!("{}: {} created (+), {kept} kept (=){removed}", text(answer, "org"), placed.len() - kept));
    warnings(answer);
}

/// The plan of an import.
pub(super) fn dry_run(answer: &Value) {
    let key = |path: &[&str]| path.join("\n");
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let branches = items(answer, "nodes").map(|node| {
        let path: Vec<&str> = items(node, "path").filter_map(Value::as_str).collect();
        let action = text(node, "action");
        *counts.entry(action).or_default() += 1;
        let mark = match action {
            "create" => '+',
            "remove" => '-',
            _ => '=',
        };
        let (name, above) = path.split_last().unwrap_or((&"", &[]));
        // A removed workspace may have the same path as a kept one.
        let own = if action == "remove" { text(node, "id").to_owned() } else { key(&path) };
        Branch { key: own, parent: (!above.is_empty()).then(|| key(above)), label: format!("{mark} {name}") }
    });
    let branches: Vec<Branch> = branches.collect();
    tree(&branches);
    let count = |action: &str| counts.get(action).copied().unwrap_or(0);
    line(format!(
        "{}: {} would be created (+), {} kept (=), {} removed (-). Nothing was changed",
        text(answer, "org"),
        count("create"),
        count("keep"),
        count("remove"),
    ));
    let missing: Vec<String> = items(answer, "missing_env").map(requirement).collect();
    if !missing.is_empty() {
        line(format!(
            "The template can't be imported before these global secrets are set: {}",
            missing.join(", ")
        ));
    }
    warnings(answer);
}

fn warnings(answer: &Value) {
    for warning in items(answer, "warnings").filter_map(Value::as_str) {
        line(format!("note: {warning}"));
    }
}

pub(super) fn deleted(removed: &[Value]) {
    for root in removed {
        let below = workspaces(number(root, "/removed/cascade_deleted"));
        line(format!("{} is removed, with {below} below it", text(root, "name")));
    }
}
