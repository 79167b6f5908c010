//! How much the workspaces of a template are set up with, together. A text that several of them have is stored
//! once, and counts once.

use std::{cmp::Reverse, collections::HashSet};

use local_files::shown_size;
use serde_json::Value as Json;
use store::setups::SetupRow;
use types::WorkspaceSetup;

use super::ResolvedNode;
use crate::{
    fields::InvalidValue,
    limits::{PART_BYTES, VARIABLE_BYTES},
    template::Node,
};

/// Workspaces that the error names.
const MAX_NAMED: usize = 3;

/// The sum so far.
#[derive(Debug, Default)]
pub(super) struct Size {
    bytes: usize,
    texts: HashSet<String>,
    /// The largest workspaces, with what each added to the sum.
    largest: Vec<(usize, String)>,
}

impl Size {
    /// Counts a workspace.
    ///
    /// # Errors
    /// If the sum exceeds the limit.
    pub(super) fn add(&mut self, node: &ResolvedNode, of: &Node, limit: usize) -> Result<(), InvalidValue> {
        let row = SetupRow::of(node.id, &node.setup);
        let texts = row.iter().flat_map(SetupRow::texts);
        let texts: usize =
            texts.filter(|text| self.texts.insert(text.digest().to_owned())).map(|text| text.len()).sum();
        let secret = |(key, value): (&String, &String)| key.len() + value.len() + VARIABLE_BYTES;
        let secrets: usize = node.secrets.iter().map(secret).sum();
        let in_row = [Some(&node.name), node.role.as_ref(), node.workspace_dir.as_ref(), node.url.as_ref()];
        let in_row: usize = in_row.into_iter().flatten().map(String::len).sum();
        let parts = parts(&node.setup) * PART_BYTES;
        let added = texts + secrets + in_row + parts + row.map_or(0, |row| row.own_bytes());
        self.bytes += added;
        self.largest.push((added, node.name.clone()));
        self.largest.sort_by_key(|(bytes, _)| Reverse(*bytes));
        self.largest.truncate(MAX_NAMED);
        if self.bytes <= limit {
            return Ok(());
        }
        let shown = |bytes: usize| shown_size(bytes as u64);
        let largest: Vec<String> =
            self.largest.iter().map(|(bytes, name)| format!("{name} ({})", shown(*bytes))).collect();
        let message = format!(
            "prompts, memories, variables and other texts of the workspaces up to {} have {} together; {} are \
             allowed, where a text that several workspaces share counts once. The largest are: {}",
            node.name,
            shown(self.bytes),
            shown(limit),
            largest.join(", "),
        );
        let at = of.marks.of("name").map(ToString::to_string);
        Err(InvalidValue { at, path: "workspaces".to_owned(), message })
    }
}

/// Parts of a setup, each of which takes memory besides its text.
fn parts(setup: &WorkspaceSetup) -> usize {
    let plugins: usize = setup.plugins.iter().map(|plugin| 1 + values(&plugin.config)).sum();
    let names: usize = setup.category_routing.values().map(|names| 1 + names.len()).sum();
    setup.initial_memories.len() + setup.schedules.len() + plugins + names
}

fn values(json: &Json) -> usize {
    match json {
        Json::Array(items) => items.iter().map(|item| 1 + values(item)).sum(),
        Json::Object(fields) => fields.values().map(|value| 1 + values(value)).sum(),
        _ => 0,
    }
}
