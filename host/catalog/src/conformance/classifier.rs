//! Probes of reload classifiers.

use wasm::classifier::Diff;

use super::{Probes, Unfit};

pub(super) async fn run(probes: &mut Probes<'_>) -> Result<(), Unfit> {
    let Some(classifier) = probes.component.classifier() else { return Ok(()) };
    let changes: [(&str, &[&str]); 3] = [
        ("classify nothing changed", &[]),
        ("classify a changed skill", &["skills/a/SKILL.md"]),
        ("classify changed code", &["skills/a/SKILL.md", "skills/a/run.py"]),
    ];
    for (probe, changed) in changes {
        let diff = Diff {
            runtime: "claude-code".to_owned(),
            plugin: "probe".to_owned(),
            added: Vec::new(),
            removed: Vec::new(),
            changed: changed.iter().map(|&path| path.to_owned()).collect(),
        };
        let first = classifier.classify(probes.settings, &diff).await;
        let second = classifier.classify(probes.settings, &diff).await;
        probes.same(probe, first, second)?;
    }
    Ok(())
}
