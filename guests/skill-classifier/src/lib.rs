//! Hot if only skill texts changed: agents read a `SKILL.md` anew whenever they use the skill.
#![deny(unsafe_code)]

use isomer_sdk::{Classifier, Diff, NoSettings, Verdict};

/// Files that a reason names before it only counts.
const NAMED: usize = 3;

/// The guest.
pub struct SkillClassifier;

isomer_sdk::export_classifier!(SkillClassifier);

impl Classifier for SkillClassifier {
    type Settings = NoSettings;

    fn classify(_: &NoSettings, diff: &Diff) -> Verdict {
        let code: Vec<&String> = diff.changed.iter().filter(|path| !is_skill_text(path)).collect();
        let offences = [
            ("added", diff.added.iter().collect()),
            ("removed", diff.removed.iter().collect()),
            ("changed", code),
        ];
        let reasons: Vec<String> = offences
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
    let named = paths.iter().take(NAMED).map(|path| path.as_str()).collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(NAMED) {
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
    fn skill_texts_only_are_hot() {
        assert_eq!(classify(&[], &[], &[]), Verdict::Hot);
        assert_eq!(classify(&[], &[], &["SKILL.md", "skills/a/SKILL.md"]), Verdict::Hot);
    }

    #[test]
    fn everything_else_is_cold_and_named() {
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
