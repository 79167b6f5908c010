//! How lists and maps of a node and of the defaults become one, each by its own rule.

use std::collections::HashMap;

use types::{InitialMemory, PluginSpec};

use crate::template::{Defaults, Node, Prompts, Routing};

/// Seconds of idleness before the idle prompt where the template has no number.
const IDLE_SECONDS: i64 = 600;

/// Bytes of one memory; longer ones are cut.
const MEMORY_BYTES: usize = 100_000;

/// The defaults' plugins, then the node's; `!name` and `-name` remove one.
pub(super) fn plugins(defaults: &[PluginSpec], own: &[PluginSpec]) -> Vec<PluginSpec> {
    let mut all: Vec<Option<&PluginSpec>> = Vec::new();
    // Lists may have a hundred thousand.
    let mut places: HashMap<&str, usize> = HashMap::new();
    for plugin in defaults.iter().chain(own) {
        let name = plugin.source.trim_start_matches(['!', '-']);
        if name != plugin.source {
            let removed = places.remove(name).and_then(|place| all.get_mut(place));
            removed.into_iter().for_each(|place| *place = None);
        } else if !name.is_empty() && !places.contains_key(name) {
            places.insert(name, all.len());
            all.push(Some(plugin));
        }
    }
    all.into_iter().flatten().cloned().collect()
}

/// The node's list of a category replaces the defaults'; an empty one removes the category.
pub(super) fn routing(defaults: &Defaults, node: &Node) -> Routing {
    let mut all = defaults.category_routing.clone();
    all.extend(node.category_routing.clone());
    all.retain(|category, names| !category.is_empty() && !names.is_empty());
    all
}

pub(super) fn idle_seconds(own: &Prompts, defaults: &Prompts) -> i64 {
    let given = [own.idle_interval_seconds, defaults.idle_interval_seconds];
    given.into_iter().find(|seconds| *seconds > 0).unwrap_or(IDLE_SECONDS)
}

/// Memories with a known scope and a content, which is cut to [`MEMORY_BYTES`].
pub(super) fn memories(all: &[InitialMemory]) -> Vec<InitialMemory> {
    all.iter()
        .filter_map(|memory| match memory.scope.to_uppercase().as_str() {
            "" => with_scope(memory, "LOCAL"),
            scope @ ("LOCAL" | "TEAM" | "GLOBAL") => with_scope(memory, scope),
            _ => None,
        })
        .collect()
}

/// The template's memories for all workspaces: their scope is `GLOBAL`, whatever the template says.
pub(super) fn global_memories(all: &[InitialMemory]) -> Vec<InitialMemory> {
    all.iter().filter_map(|memory| with_scope(memory, "GLOBAL")).collect()
}

fn with_scope(memory: &InitialMemory, scope: &str) -> Option<InitialMemory> {
    if memory.content.is_empty() {
        return None;
    }
    let (cut, rest) = memory.content.split_at(memory.content.floor_char_boundary(MEMORY_BYTES));
    let content = if rest.is_empty() { memory.content.clone() } else { cut.into() };
    Some(InitialMemory { content, scope: scope.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn plugins_are_merged_in_order() {
        let plugin = |name: &str| PluginSpec { source: name.to_owned(), config: Json::Null };
        let all = plugins(
            &[plugin("a"), plugin("b"), plugin("c")],
            &[plugin("!b"), plugin("--c"), plugin("d"), plugin("a"), plugin("c"), plugin("!")],
        );
        assert_eq!(all.iter().map(|it| it.source.as_str()).collect::<Vec<_>>(), ["a", "d", "c"]);
    }

    #[test]
    fn routing_is_replaced_by_category() {
        let map = |pairs: &[(&str, &[&str])]| -> Routing {
            let pair = |(key, names): &(&str, &[&str])| {
                ((*key).to_owned(), names.iter().map(ToString::to_string).collect())
            };
            pairs.iter().map(pair).collect()
        };
        let defaults = Defaults {
            category_routing: map(&[("a", &["x"]), ("b", &["x"]), ("", &["x"])]),
            ..Defaults::default()
        };
        let node = Node { category_routing: map(&[("a", &["y", "z"]), ("b", &[])]), ..Node::default() };
        assert_eq!(routing(&defaults, &node), map(&[("a", &["y", "z"])]));
    }

    #[test]
    fn memories_have_a_known_scope_and_a_limited_size() {
        let memory =
            |content: &str, scope: &str| InitialMemory { content: content.into(), scope: scope.to_owned() };
        let long = "ä".repeat(60_000);
        let all =
            [memory("a", ""), memory("b", "team"), memory("c", "else"), memory("", ""), memory(&long, "")];
        let usable = memories(&all);
        assert_eq!((&usable[0], &usable[1]), (&memory("a", "LOCAL"), &memory("b", "TEAM")));
        assert_eq!((usable.len(), usable[2].content.len()), (3, MEMORY_BYTES));
    }

    #[test]
    fn global_memories_are_global_whatever_their_scope() {
        let memory =
            |content: &str, scope: &str| InitialMemory { content: content.into(), scope: scope.to_owned() };
        let all = [memory("a", "local"), memory("b", "else"), memory("", "")];
        assert_eq!(global_memories(&all), [memory("a", "GLOBAL"), memory("b", "GLOBAL")]);
    }
}
