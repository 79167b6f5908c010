//! Hot if only skill texts changed: agents read a `SKILL.md` at every use of the skill.
#![deny(unsafe_code)]

use isomer_sdk::{Classifier, Diff, NoSettings, Verdict};

/// Files that a reason names; further ones are counted.
const MAX_NAMED: usize = 3;

/// The guest.
pub struct SkillClassifier;

isomer_sdk::export_classifier!(SkillClassifier);

impl Classifier for SkillClassifier {
    type Settings = NoSettings;

    fn classify(_: &NoSettings, diff: &Diff) -> Verdict {
        let code: Vec<&String> = diff.changed.iter().filter(|path| !is_skill_text(path)).collect();
        let restarting = [
            ("added", diff.added.iter().collect()),
            ("removed", diff.removed.iter().collect()),
            ("changed", code),
        ];
        let reasons: Vec<String> = restarting
            .iter()
            .filter(|(_, paths)| !paths.is_empty())
            .map(|(what, paths)| reason(what, paths))
            .collect();
        if reasons.is_empty() { Verdict::Hot } else { Verdict::Cold(reasons.join("; ")) }
    }
}

fn is_skill_text(path: &str) -> bool {
    path.rsplit('/').next() == Some("SKILL.md")
}

fn reason(what: &str, paths: &[&String]) -> String {
    let named = paths.iter().take(MAX_NAMED).map(|path| path.as_str()).collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(MAX_NAMED) {
        0 => format!("{what}: {named}"),
        more => format!("{what}: {named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(added: &[&str], removed: &[&str], changed: &[&str]) -> Verdict {
        let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let diff = Diff {
            runtime: "claude-code".into(),
            plugin: "p".into(),
            added: owned(added),
            removed: owned(removed),
            changed: owned(changed),
        };
        SkillClassifier::classify(&NoSettings {}, &diff)
    }

    #[test]
    fn changes_of_skill_texts_only_are_hot() {
        assert_eq!(classify(&[], &[], &[]), Verdict::Hot);
        assert_eq!(classify(&[], &[], &["SKILL.md", "skills/a/SKILL.md"]), Verdict::Hot);
    }

    #[test]
    fn other_changes_are_cold_and_named() {
        for (added, removed, changed, reason) in [
            (&["skills/b/SKILL.md"][..], &[][..], &[][..], "added: skills/b/SKILL.md"),
            (&[], &["skills/b/SKILL.md"], &[], "removed: skills/b/SKILL.md"),
            (&[], &[], &["skills/a/skill.md"], "changed: skills/a/skill.md"),
            (&[], &[], &["skills/a/SKILL.md", "x.py"], "changed: x.py"),
            (&[], &[], &["SKILL.md.bak"], "changed: SKILL.md.bak"),
            (&["n"], &["o"], &["SKILL.md"], "added: n; removed: o"),
            (&[], &[], &["a", "b", "c", "d", "e"], "changed: a, b, c and 2 more"),
        ] {
            assert_eq!(classify(added, removed, changed), Verdict::Cold(reason.into()));
        }
    }
}
