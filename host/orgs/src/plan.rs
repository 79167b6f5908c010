//! What an import does to the existing workspaces: create, keep, remove. A plan reads the workspace index
//! only, so that it can be made again after a conflict with another writer.

use std::collections::{HashMap, HashSet};

use fleet::WorkspaceIndex;
use types::WorkspaceId;

use crate::{
    assembler::ResolvedNode,
    template::{Node, Org},
};

/// The action for each node of a template, and the workspaces to remove.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Id and action by node.
    pub(crate) nodes: Vec<(WorkspaceId, Action)>,
    /// Roots of the subtrees to remove: workspaces that have a name of the template but no place in it.
    pub(crate) orphans: Vec<WorkspaceId>,
}

/// What an import does to a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The workspace is new.
    Create,
    /// The workspace exists and is not changed.
    Keep,
}

impl Plan {
    /// Plans an import. Existing workspaces with one of `names` that match no node are removed.
    pub(crate) fn of(
        nodes: &[ResolvedNode],
        names: Option<&HashSet<&str>>,
        directory: &WorkspaceIndex,
    ) -> Self {
        let mut siblings: HashMap<Option<WorkspaceId>, HashMap<String, WorkspaceId>> = HashMap::new();
        let mut planned: Vec<(WorkspaceId, Action)> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let parent = node.parent.and_then(|parent| planned.get(parent));
            let known = siblings.entry(parent.map(|(id, _)| *id)).or_insert_with(|| match parent {
                Some((_, Action::Create)) => HashMap::new(),
                parent => directory
                    .children(parent.map(|(id, _)| *id))
                    .iter()
                    .map(|child| (child.row.name.clone(), child.row.id))
                    .collect(),
            });
            planned.push(match known.get(&node.name) {
                Some(id) => (*id, Action::Keep),
                None => {
                    known.insert(node.name.clone(), node.id);
                    (node.id, Action::Create)
                }
            });
        }
        let orphans = match names.filter(|names| !names.is_empty() && !planned.is_empty()) {
            Some(names) => orphans(&planned, names, directory),
            None => Vec::new(),
        };
        Self { nodes: planned, orphans }
    }
}

fn orphans(
    planned: &[(WorkspaceId, Action)],
    names: &HashSet<&str>,
    directory: &WorkspaceIndex,
) -> Vec<WorkspaceId> {
    let placed: HashSet<WorkspaceId> = planned.iter().map(|(id, _)| *id).collect();
    let is_orphan = |id: WorkspaceId, name: &str| names.contains(name) && !placed.contains(&id);
    let all = directory.list();
    let all: HashSet<WorkspaceId> =
        all.iter().filter(|it| is_orphan(it.row.id, &it.row.name)).map(|it| it.row.id).collect();
    // An orphan below another one is removed with that.
    let mut tops: Vec<WorkspaceId> = all
        .iter()
        .copied()
        .filter(|id| !directory.ancestors(*id).iter().any(|above| all.contains(&above.row.id)))
        .collect();
    tops.sort_unstable();
    tops
}

/// Every name of a template, those of nodes with `spawning: false` included.
pub(crate) fn names(org: &Org) -> HashSet<&str> {
    let mut names = HashSet::new();
    let mut left: Vec<&Node> = org.workspaces.iter().collect();
    while let Some(node) = left.pop() {
        if !node.name.is_empty() {
            names.insert(node.name.as_str());
        }
        left.extend(&node.children);
    }
    names
}
