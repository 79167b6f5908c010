//! Settings that a template needs: which there are in all, and which are missing.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use crate::template::{Node, Org};

/// Characters in the name of a setting at most.
const NAME_CHARACTERS: usize = 128;

/// A setting, or several of which one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Requirement {
    /// This one.
    One(String),
    /// One of these, in the author's order.
    Any {
        /// Their names.
        any_of: Vec<String>,
    },
}

/// Everything that a template needs, each once, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Without which it can't be imported.
    pub required: Vec<Requirement>,
    /// Without which it works less well.
    pub recommended: Vec<Requirement>,
}

impl Requirement {
    /// The names in it.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Any { any_of } => any_of,
        }
    }

    /// Is it met by these settings?
    #[must_use]
    pub fn is_met(&self, settings: &HashSet<String>) -> bool {
        self.names().iter().any(|name| settings.contains(name))
    }

    /// Itself without names that no setting can have; none if nothing is left.
    fn valid(&self) -> Option<Self> {
        let mut names: Vec<String> = Vec::new();
        for name in self.names() {
            if !is_name(name) {
                tracing::warn!(name, "no setting can be called that; the requirement is left out");
            } else if !names.contains(name) {
                names.push(name.clone());
            }
        }
        match names.as_slice() {
            [] => None,
            [one] => Some(Self::One(one.clone())),
            _ => Some(Self::Any { any_of: names }),
        }
    }

    fn members(&self) -> BTreeSet<&str> {
        self.names().iter().map(String::as_str).collect()
    }
}

impl Requirements {
    /// What the template and all of its workspaces need, those that are only drawn too.
    #[must_use]
    pub fn of(org: &Org) -> Self {
        let mut required = Vec::new();
        let mut recommended = Vec::new();
        let mut add = |needs: &[Requirement], wishes: &[Requirement]| {
            required.extend(needs.iter().filter_map(Requirement::valid));
            recommended.extend(wishes.iter().filter_map(Requirement::valid));
        };
        add(&org.required_env, &org.recommended_env);
        let mut left: Vec<&Node> = org.workspaces.iter().rev().collect();
        while let Some(node) = left.pop() {
            add(&node.required_env, &node.recommended_env);
            left.extend(node.children.iter().rev());
        }
        let required = distinct(required);
        let certain = singles(&required);
        recommended.retain(|wish| {
            let covered = wish.names().iter().any(|name| certain.contains(name));
            !covered && !required.iter().any(|need| need.members() == wish.members())
        });
        Self { recommended: distinct(recommended), required }
    }

    /// Those required that these settings don't meet.
    #[must_use]
    pub fn missing(&self, settings: &HashSet<String>) -> Vec<Requirement> {
        self.required.iter().filter(|need| !need.is_met(settings)).cloned().collect()
    }
}

/// Each set of names once, groups without those that a single name covers; sorted.
fn distinct(all: Vec<Requirement>) -> Vec<Requirement> {
    let certain = singles(&all);
    let mut kept: Vec<Requirement> = Vec::new();
    for one in all {
        let covered =
            matches!(&one, Requirement::Any { any_of } if any_of.iter().any(|name| certain.contains(name)));
        if !covered && !kept.iter().any(|other| other.members() == one.members()) {
            kept.push(one);
        }
    }
    kept.sort_by_cached_key(|one| {
        let mut members = one.names().to_vec();
        members.sort_unstable();
        (matches!(one, Requirement::Any { .. }), members)
    });
    kept
}

fn singles(all: &[Requirement]) -> HashSet<String> {
    let single = |one: &Requirement| match one {
        Requirement::One(name) => Some(name.clone()),
        Requirement::Any { .. } => None,
    };
    all.iter().filter_map(single).collect()
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_CHARACTERS
        && name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Requirement {
        Requirement::One(name.to_owned())
    }

    fn any(names: &[&str]) -> Requirement {
        Requirement::Any { any_of: names.iter().map(|&name| name.to_owned()).collect() }
    }

    fn of(required: Vec<Requirement>, recommended: Vec<Requirement>) -> Requirements {
        Requirements::of(&Org { required_env: required, recommended_env: recommended, ..Org::default() })
    }

    #[test]
    fn each_is_there_once_and_singles_come_first() {
        let all = of(vec![any(&["B", "A"]), one("Z"), any(&["A", "B"]), one("C"), one("C")], vec![]);
        assert_eq!(all.required, [one("C"), one("Z"), any(&["B", "A"])]);
    }

    #[test]
    fn what_is_required_alone_covers_groups_and_wishes() {
        let all = of(vec![one("A"), any(&["A", "B"])], vec![any(&["A", "C"]), one("A"), one("D")]);
        assert_eq!((all.required, all.recommended), (vec![one("A")], vec![one("D")]));
        let all = of(vec![any(&["A", "B"])], vec![any(&["B", "A"]), any(&["A", "C"])]);
        assert_eq!(all.recommended, [any(&["A", "C"])]);
    }

    #[test]
    fn names_that_can_not_be_are_dropped() {
        let long = "A".repeat(129);
        let all = of(vec![one("a"), any(&["1X", "OK"]), any(&["x", ""]), one(&long), one("_A")], vec![]);
        assert_eq!(all.required, [one("OK")]);
    }

    #[test]
    fn workspaces_that_are_only_drawn_count() {
        let drawn = Node {
            spawning: Some(false),
            children: vec![Node { required_env: vec![one("DEEP")], ..Node::default() }],
            ..Node::default()
        };
        let org = Org { workspaces: vec![drawn], ..Org::default() };
        assert_eq!(Requirements::of(&org).required, [one("DEEP")]);
    }

    #[test]
    fn one_of_a_group_is_enough() {
        let all = of(vec![any(&["A", "B"]), one("C")], vec![]);
        let settings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(all.missing(&settings(&["B"])), [one("C")]);
        assert_eq!(all.missing(&settings(&["B", "C"])), []);
    }
}
