//! What an import would do to the workspaces that there are: whom it makes, whom it finds, whom it
//! removes. Reads memory only, so that it can be done again when somebody was quicker.

use std::collections::{HashMap, HashSet};

use fleet::WorkspaceIndex;
use uuid::Uuid;

use crate::{
    member::Member,
    template::{Node, Org},
};

/// What happens to each member, and to others.
#[derive(Debug)]
pub(crate) struct Plan {
    /// By member: its id, and whether it is made or was there before.
    pub(crate) members: Vec<(Uuid, Fate)>,
    /// Workspaces that have a name of the template and no place in it; those above first.
    pub(crate) orphans: Vec<Uuid>,
}

/// What happens to a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is made.
    Create,
    /// It is there, and stays as it is.
    Keep,
    /// It goes.
    Remove,
}

impl Plan {
    /// Plans an import. `names`: others that have one of these are removed.
    pub(crate) fn of(members: &[Member], names: Option<&HashSet<&str>>, directory: &WorkspaceIndex) -> Self {
        let mut siblings: HashMap<Option<Uuid>, HashMap<String, Uuid>> = HashMap::new();
        let mut planned: Vec<(Uuid, Fate)> = Vec::with_capacity(members.len());
        for member in members {
            let parent = member.parent.and_then(|parent| planned.get(parent));
            let known = siblings.entry(parent.map(|(id, _)| *id)).or_insert_with(|| match parent {
                Some((_, Fate::Create)) => HashMap::new(),
                parent => directory
                    .children(parent.map(|(id, _)| *id))
                    .iter()
                    .map(|child| (child.row.name.clone(), child.row.id))
                    .collect(),
            });
            planned.push(match known.get(&member.name) {
                Some(id) => (*id, Fate::Keep),
                None => {
                    known.insert(member.name.clone(), member.id);
                    (member.id, Fate::Create)
                }
            });
        }
        let orphans = match names.filter(|names| !names.is_empty() && !planned.is_empty()) {
            Some(names) => orphans(&planned, names, directory),
            None => Vec::new(),
        };
        Self { members: planned, orphans }
    }
}

fn orphans(planned: &[(Uuid, Fate)], names: &HashSet<&str>, directory: &WorkspaceIndex) -> Vec<Uuid> {
    let placed: HashSet<Uuid> = planned.iter().map(|(id, _)| *id).collect();
    let lost = |id: Uuid, name: &str| names.contains(name) && !placed.contains(&id);
    let all = directory.list();
    let all: HashSet<Uuid> =
        all.iter().filter(|it| lost(it.row.id, &it.row.name)).map(|it| it.row.id).collect();
    // What is below another orphan goes with that one.
    let mut tops: Vec<Uuid> = all
        .iter()
        .copied()
        .filter(|id| !directory.ancestors(*id).iter().any(|above| all.contains(&above.row.id)))
        .collect();
    tops.sort_unstable();
    tops
}

/// Every name of a template, those that are only drawn too.
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
