//! Settings that a template needs: the whole set, and those of it that are missing.

use std::collections::{BTreeSet, HashSet};

use crate::template::{Node, Org, Requirement};

/// Characters in the name of a setting at most.
const NAME_CHARACTERS: usize = 128;

/// All requirements of a template, each once, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Requirements {
    /// Settings without which the import is refused.
    pub(crate) required: Vec<Requirement>,
    /// Settings whose absence is no obstacle.
    pub(crate) recommended: Vec<Requirement>,
}

impl Requirement {
    /// Whether one of its names is among `settings`.
    #[must_use]
    pub(crate) fn is_met(&self, settings: &HashSet<String>) -> bool {
        self.names().iter().any(|name| settings.contains(name))
    }

    /// The requirement without invalid names; none if no name is left.
    fn valid(&self) -> Option<Self> {
        let mut names: Vec<String> = Vec::new();
        for name in self.names() {
            if !is_name(name) {
                tracing::warn!(name, "a requirement with an invalid setting name is ignored");
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
    /// Requirements of the template and of all its workspaces, those with `spawning: false` included.
    #[must_use]
    pub(crate) fn of(org: &Org) -> Self {
        let mut required = Vec::new();
        let mut recommended = Vec::new();
        let mut add = |of_node: &[Requirement], recommended_by_node: &[Requirement]| {
            required.extend(of_node.iter().filter_map(Requirement::valid));
            recommended.extend(recommended_by_node.iter().filter_map(Requirement::valid));
        };
        add(&org.required_env, &org.recommended_env);
        let mut left: Vec<&Node> = org.workspaces.iter().rev().collect();
        while let Some(node) = left.pop() {
            add(&node.required_env, &node.recommended_env);
            left.extend(node.children.iter().rev());
        }
        let required = distinct(required);
        let single_names = singles(&required);
        recommended.retain(|it| {
            let covered = it.names().iter().any(|name| single_names.contains(name));
            !covered && !required.iter().any(|other| other.members() == it.members())
        });
        Self { recommended: distinct(recommended), required }
    }

    /// Required ones that `settings` don't meet.
    #[must_use]
    pub(crate) fn missing(&self, settings: &HashSet<String>) -> Vec<Requirement> {
        self.required.iter().filter(|it| !it.is_met(settings)).cloned().collect()
    }
}

/// Each set of names once and sorted, without groups that contain a name required by itself.
fn distinct(all: Vec<Requirement>) -> Vec<Requirement> {
    let single_names = singles(&all);
    let mut kept: Vec<Requirement> = Vec::new();
    for requirement in all {
        let covered = matches!(&requirement, Requirement::Any { any_of } if any_of.iter().any(|name| single_names.contains(name)));
        if !covered && !kept.iter().any(|other| other.members() == requirement.members()) {
            kept.push(requirement);
        }
    }
    kept.sort_by_cached_key(|requirement| {
        let mut members = requirement.names().to_vec();
        members.sort_unstable();
        (matches!(requirement, Requirement::Any { .. }), members)
    });
    kept
}

fn singles(all: &[Requirement]) -> HashSet<String> {
    let single = |requirement: &Requirement| match requirement {
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
    fn requirements_are_distinct_and_singles_come_first() {
        let all = of(vec![any(&["B", "A"]), one("Z"), any(&["A", "B"]), one("C"), one("C")], vec![]);
        assert_eq!(all.required, [one("C"), one("Z"), any(&["B", "A"])]);
    }

    #[test]
    fn a_single_requirement_covers_groups_and_recommendations() {
        let all = of(vec![one("A"), any(&["A", "B"])], vec![any(&["A", "C"]), one("A"), one("D")]);
        assert_eq!((all.required, all.recommended), (vec![one("A")], vec![one("D")]));
        let all = of(vec![any(&["A", "B"])], vec![any(&["B", "A"]), any(&["A", "C"])]);
        assert_eq!(all.recommended, [any(&["A", "C"])]);
    }

    #[test]
    fn invalid_names_are_dropped() {
        let long = "A".repeat(129);
        let all = of(vec![one("a"), any(&["1X", "OK"]), any(&["x", ""]), one(&long), one("_A")], vec![]);
        assert_eq!(all.required, [one("OK")]);
    }

    #[test]
    fn workspaces_with_spawning_false_count() {
        let not_spawned = Node {
            spawning: Some(false),
            children: vec![Node { required_env: vec![one("DEEP")], ..Node::default() }],
            ..Node::default()
        };
        let org = Org { workspaces: vec![not_spawned], ..Org::default() };
        assert_eq!(Requirements::of(&org).required, [one("DEEP")]);
    }

    #[test]
    fn one_setting_of_a_group_is_enough() {
        let all = of(vec![any(&["A", "B"]), one("C")], vec![]);
        let settings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(all.missing(&settings(&["B"])), [one("C")]);
        assert_eq!(all.missing(&settings(&["B", "C"])), []);
    }
}
