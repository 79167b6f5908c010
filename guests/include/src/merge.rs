//! Merge keys, and the checks that need merged mappings.

use std::collections::BTreeSet;

use isomer_sdk::Problem;

use crate::{
    MAX_MERGED_BYTES,
    directive::EXTERNAL,
    node::{Graph, Id, Kind, Node},
};

/// Replaces every `<<` by the pairs of its sources. `order` has each file after those that it includes, and
/// ids grow from children to parents, so that a source is merged before it is used.
pub(crate) fn merge(graph: &mut Graph<'_>, order: &[usize]) -> Result<(), Problem> {
    let mut budget = MAX_MERGED_BYTES;
    for file in order {
        let nodes = graph.files.get(*file).map_or(0..0, |file| file.nodes.clone());
        for id in nodes {
            let Some(Node { kind: Kind::Mapping(pairs), tag, .. }) = graph.get(id) else { continue };
            let external = tag.as_deref() == Some(EXTERNAL);
            if pairs.iter().any(|(key, _)| is_merge_key(graph, *key)) {
                let merged = merged(graph, pairs, &mut budget)?;
                if let Some(Kind::Mapping(pairs)) = graph.nodes.get_mut(id).map(|node| &mut node.kind) {
                    *pairs = merged;
                }
            }
            if external {
                check_external(graph, id)?;
            }
        }
    }
    Ok(())
}

fn is_merge_key(graph: &Graph<'_>, key: Id) -> bool {
    graph.get(key).is_some_and(|node| match &node.kind {
        Kind::Scalar { text, quoted } => {
            text == "<<" && !quoted && node.tag.as_deref().is_none_or(|tag| tag == "!!merge")
        }
        _ => false,
    })
}

/// The pairs of a mapping, with those of its sources in the place of its `<<`. Its own keys win over those of
/// sources, and an earlier source wins over a later one.
fn merged(graph: &Graph<'_>, pairs: &[(Id, Id)], budget: &mut usize) -> Result<Vec<(Id, Id)>, Problem> {
    let own = pairs.iter().filter(|(key, _)| !is_merge_key(graph, *key));
    let mut keys: BTreeSet<&str> = own.filter_map(|(key, _)| graph.text(*key)).collect();
    let mut merged = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        if !is_merge_key(graph, *key) {
            merged.push((*key, *value));
            continue;
        }
        for source in sources(graph, *value)? {
            for (key, value) in source {
                let text = graph.text(*key).unwrap_or_default();
                *budget = budget.checked_sub(text.len() + 1).ok_or_else(|| too_much(graph, *key))?;
                if keys.insert(text) {
                    merged.push((*key, *value));
                }
            }
        }
    }
    Ok(merged)
}

/// The mappings that the value of a `<<` names.
fn sources<'g>(graph: &'g Graph<'_>, value: Id) -> Result<Vec<&'g [(Id, Id)]>, Problem> {
    match graph.resolved(value) {
        Some(Node { kind: Kind::Sequence(items), tag: None, .. }) => {
            items.iter().map(|item| source(graph, *item)).collect()
        }
        _ => Ok(vec![source(graph, value)?]),
    }
}

fn source<'g>(graph: &'g Graph<'_>, id: Id) -> Result<&'g [(Id, Id)], Problem> {
    match graph.resolved(id) {
        Some(Node { kind: Kind::Mapping(pairs), tag: None, .. }) => Ok(pairs),
        Some(node) => {
            Err(graph.problem(node.mark, "`<<` takes a mapping or a list of mappings, without tags"))
        }
        None => Ok(&[]),
    }
}

fn too_much(graph: &Graph<'_>, key: Id) -> Problem {
    let message = "the template's `<<` keys bring in too much";
    graph.get(key).map_or_else(|| Problem::new(message), |node| graph.problem(node.mark, message))
}

/// Checks that an `!external` has its required fields. The host checks their values when it fetches.
fn check_external(graph: &Graph<'_>, id: Id) -> Result<(), Problem> {
    let Some(Node { kind: Kind::Mapping(pairs), mark, .. }) = graph.get(id) else { return Ok(()) };
    let field =
        |name: &str| pairs.iter().find(|(key, _)| graph.text(*key) == Some(name)).map(|(_, value)| *value);
    let mut missing = Vec::new();
    for (name, required) in [("repo", true), ("ref", true), ("path", true), ("url", false)] {
        let value = field(name).and_then(|value| graph.get(value));
        match value.map(|node| (&node.kind, node)) {
            None => missing.extend(required.then_some(name)),
            Some((Kind::Scalar { text, quoted }, node)) if node.tag.is_none() => {
                let empty = text.is_empty() || !quoted && matches!(&**text, "~" | "null" | "Null" | "NULL");
                missing.extend((required && empty).then_some(name));
            }
            Some((_, node)) => {
                return Err(graph.problem(node.mark, format!("`!external`: `{name}` must be a text")));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("`!external`: repo, ref and path are required; missing: {}", missing.join(", "));
    Err(graph.problem(*mark, message))
}
