//! Settings that a template needs: the whole set, and those of it that are missing.

use std::collections::{BTreeSet, HashSet};

use crate::{
    fields::with_place,
    shown::shown,
    template::{Node, Org, Placed, Requirement},
};

/// Characters in the name of a setting at most.
const NAME_CHARACTERS: usize = 128;

/// All requirements of a template, each once, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Requirements {
    /// Settings without which the import is refused.
    required: Vec<Placed<Requirement>>,
    /// Settings whose absence is no obstacle.
    recommended: Vec<Placed<Requirement>>,
}

/// Missing settings whose places are named.
const MAX_PLACES: usize = 10;

impl Requirement {
    /// Whether one of its names is among `settings`.
    #[must_use]
    pub(crate) fn is_met(&self, settings: &HashSet<String>) -> bool {
        self.names().iter().any(|name| settings.contains(name))
    }

    /// The requirement without invalid names; none if no name is left.
    fn valid(&self) -> Option<Self> {
        let (mut names, mut known) = (Vec::new(), HashSet::new());
        for name in self.names() {
            if !is_name(name) {
                tracing::debug!(name = shown(name), "a requirement with an invalid setting name is ignored");
            } else if known.insert(name) {
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
        let valid = |placed: &Placed<Requirement>| {
            placed.value.valid().map(|value| Placed { at: placed.at.clone(), value })
        };
        let mut add = |of_node: &[Placed<Requirement>], recommended_by_node: &[Placed<Requirement>]| {
            required.extend(of_node.iter().filter_map(valid));
            recommended.extend(recommended_by_node.iter().filter_map(valid));
        };
        add(&org.required_env, &org.recommended_env);
        let mut left: Vec<&Node> = org.workspaces.iter().rev().collect();
        while let Some(node) = left.pop() {
            add(&node.required_env, &node.recommended_env);
            left.extend(node.children.iter().rev());
        }
        let required = distinct(required);
        let single_names = singles(&required);
        let known: HashSet<_> = required.iter().map(|it| it.value.members()).collect();
        recommended.retain(|it| {
            let covered = it.value.names().iter().any(|name| single_names.contains(name));
            !covered && !known.contains(&it.value.members())
        });
        Self { recommended: distinct(recommended), required }
    }

    /// Required ones that `settings` don't meet.
    #[must_use]
    pub(crate) fn missing(&self, settings: &HashSet<String>) -> Vec<Requirement> {
        self.required().into_iter().filter(|it| !it.is_met(settings)).collect()
    }

    /// Settings without which the import is refused.
    #[must_use]
    pub(crate) fn required(&self) -> Vec<Requirement> {
        self.required.iter().map(|placed| placed.value.clone()).collect()
    }

    /// Settings whose absence is no obstacle.
    #[must_use]
    pub(crate) fn recommended(&self) -> Vec<Requirement> {
        self.recommended.iter().map(|placed| placed.value.clone()).collect()
    }

    /// Where the template asks for these settings; none for an inline template.
    #[must_use]
    pub(crate) fn places(&self, missing: &[Requirement]) -> Option<String> {
        let asked =
            self.required.iter().filter(|placed| placed.at.is_some() && missing.contains(&placed.value));
        let shown = asked.take(MAX_PLACES).map(|placed| {
            with_place(placed.at.as_ref(), &format!("{} is not set", placed.value.names().join(" or ")))
        });
        let shown: Vec<String> = shown.collect();
        (!shown.is_empty()).then(|| shown.join("; "))
    }
}

/// Each set of names once and sorted, without groups that contain a name required by itself. Of equal ones the
/// first stays.
fn distinct(all: Vec<Placed<Requirement>>) -> Vec<Placed<Requirement>> {
    let single_names = singles(&all);
    let mut known: HashSet<BTreeSet<String>> = HashSet::new();
    let mut kept = Vec::new();
    for placed in all {
        let covered = matches!(&placed.value, Requirement::Any { any_of } if any_of.iter().any(|name| single_names.contains(name)));
        let members = placed.value.names().iter().cloned().collect();
        if !covered && known.insert(members) {
            kept.push(placed);
        }
    }
    kept.sort_by_cached_key(|placed| {
        let mut members = placed.value.names().to_vec();
        members.sort_unstable();
        (matches!(placed.value, Requirement::Any { .. }), members)
    });
    kept
}

fn singles(all: &[Placed<Requirement>]) -> HashSet<String> {
    let single = |placed: &Placed<Requirement>| match &placed.value {
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

    fn placed(all: Vec<Requirement>) -> Vec<Placed<Requirement>> {
        all.into_iter().map(|value| Placed { at: None, value }).collect()
    }

    fn of(required: Vec<Requirement>, recommended: Vec<Requirement>) -> Requirements {
        let (required_env, recommended_env) = (placed(required), placed(recommended));
        Requirements::of(&Org { required_env, recommended_env, ..Org::default() })
    }

    #[test]
    fn requirements_are_distinct_and_singles_come_first() {
        let all = of(vec![any(&["B", "A"]), one("Z"), any(&["A", "B"]), one("C"), one("C")], vec![]);
        assert_eq!(all.required(), [one("C"), one("Z"), any(&["B", "A"])]);
    }

    #[test]
    fn a_single_requirement_covers_groups_and_recommendations() {
        let all = of(vec![one("A"), any(&["A", "B"])], vec![any(&["A", "C"]), one("A"), one("D")]);
        assert_eq!((all.required(), all.recommended()), (vec![one("A")], vec![one("D")]));
        let all = of(vec![any(&["A", "B"])], vec![any(&["B", "A"]), any(&["A", "C"])]);
        assert_eq!(all.recommended(), [any(&["A", "C"])]);
    }

    #[test]
    fn invalid_names_are_dropped() {
        let long = "A".repeat(129);
        let all = of(vec![one("a"), any(&["1X", "OK"]), any(&["x", ""]), one(&long), one("_A")], vec![]);
        assert_eq!(all.required(), [one("OK")]);
    }

    #[test]
    fn workspaces_with_spawning_false_count() {
        let not_spawned = Node {
            spawning: Some(false),
            children: vec![Node { required_env: placed(vec![one("DEEP")]), ..Node::default() }],
            ..Node::default()
        };
        let org = Org { workspaces: vec![not_spawned], ..Org::default() };
        assert_eq!(Requirements::of(&org).required(), [one("DEEP")]);
    }

    #[test]
    fn one_setting_of_a_group_is_enough() {
        let all = of(vec![any(&["A", "B"]), one("C")], vec![]);
        let settings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(all.missing(&settings(&["B"])), [one("C")]);
        assert_eq!(all.missing(&settings(&["B", "C"])), []);
    }
}
