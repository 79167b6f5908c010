//! Resolves `!include` in org templates and turns them into one tree.
//!
//! [`expand`] is a pure function of the files known so far. It has four steps, each linear in its input:
//!
//! 1. `parse`: a file's events become nodes in one arena. An alias is the id of its node, so no node is
//!    copied, and every id in a node is smaller than the node's own.
//! 2. `walk`: depth-first over the directives in document order. A file is parsed and walked once,
//!    however often it is included; all missing files are requested in one round.
//! 3. `merge`: `<<` is replaced by the pairs that it brings in, `!external` is checked.
//! 4. `flatten`: the graph becomes a tree with every node used once. Here aliases and repeated
//!    includes are copied, and here a tree that grows too large is refused.
//!
//! `!external` stays in place with its tag: the host fetches it.
#![deny(unsafe_code)]

mod directive;
mod flatten;
mod merge;
mod node;
mod parse;
mod path;
mod surrogates;
mod walk;

use isomer_sdk::{Expansion, NoSettings, Problem, Progress, Resolver};

/// Nesting of includes.
const MAX_DEPTH: usize = 16;
/// Includes that are followed in one template.
const MAX_EXPANSIONS: usize = 4_096;
/// Bytes of one file.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Indicators (`, [ ] { } : ?`) of one file. The parser reads a flow collection ahead as tokens of
/// some fifty bytes each; without a limit a file of commas would fill the guest's memory.
const MAX_INDICATORS: usize = 160_000;
/// Nodes of the whole tree, and of all files together as they are written. Hosts of the first release take
/// 100,000 nodes and 48 levels.
const MAX_NODES: usize = 200_000;
/// Depth of the tree; the root stands at 1. The host counts workspaces nested in each other, of which it allows
/// fewer than fit here.
const MAX_NESTING: usize = 192;
/// Bytes of all scalars of the tree. Smaller than the limit of all files, as tree and files share the guest's
/// memory; only aliases and repeated includes can exceed it.
const MAX_TEXT_BYTES: usize = 8 << 20;
/// Bytes of keys that merging compares. Without a limit, lists of overlapping mappings would take more time
/// than a call has.
const MAX_MERGED_BYTES: usize = 4 << 20;

/// The guest.
pub struct IncludeResolver;

isomer_sdk::export_resolver!(IncludeResolver);

impl Resolver for IncludeResolver {
    type Settings = NoSettings;

    fn expand(_: &NoSettings, request: &Expansion) -> Progress {
        expand(request)
    }
}

fn too_deep() -> String {
    format!("nested more than {MAX_NESTING} deep; workspaces may be nested 64 deep")
}

/// One round of a resolution.
#[must_use]
pub fn expand(request: &Expansion) -> Progress {
    try_expand(request).unwrap_or_else(Progress::Failed)
}

fn try_expand(request: &Expansion) -> Result<Progress, Problem> {
    let walk::Walked { mut graph, order, need } = walk::walk(request)?;
    let (Some(entry), true) = (graph.files.first(), need.is_empty()) else {
        return Ok(Progress::Need(need));
    };
    let root = entry.root;
    merge::merge(&mut graph, &order)?;
    flatten::flatten(&graph, root).map(Progress::Done)
}
