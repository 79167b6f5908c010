//! Probes of template resolvers.

use wasm::template::{Answer, Expansion, KnownFile, Progress, Value};

use super::{Probes, Unfit};

pub(super) async fn run(probes: &mut Probes<'_>) -> Result<(), Unfit> {
    const PLAIN: &str = "a template without directives resolves to itself";
    let progress = expand(probes, PLAIN, b"name: probe\nversion: 1.10\n").await?;
    let Progress::Done(tree) = progress else {
        return Err(probes.fail(PLAIN, format!("it answered {}", kind(&progress))));
    };
    let kept = match &tree.root.value {
        Value::Mapping(entries) => entries.iter().any(|(key, value)| {
            matches!(&key.value, Value::Scalar { text, .. } if text == "version")
                && matches!(&value.value, Value::Scalar { text, quoted: false } if text == "1.10")
                && (value.mark.line, value.mark.column) == (2, 10)
        }),
        Value::Scalar { .. } | Value::Sequence(_) => false,
    };
    if !kept {
        return Err(
            probes.fail(PLAIN, "`version: 1.10` must stay the text 1.10, marked at line 2, column 10")
        );
    }

    const BROKEN: &str = "broken YAML is a problem with its place";
    let progress = expand(probes, BROKEN, b"a: [1,\nb: }").await?;
    match progress {
        Progress::Failed(problem) if problem.at.is_some() => Ok(()),
        other => Err(probes.fail(BROKEN, format!("it answered {}", kind(&other)))),
    }
}

/// What an author is told of an answer, which may be large.
fn kind(progress: &Progress) -> String {
    match progress {
        Progress::Done(_) => "with a tree".to_owned(),
        Progress::Need(paths) => format!("that it needs {} further files", paths.len()),
        Progress::Failed(problem) => format!("with a problem: {problem}"),
    }
}

async fn expand(probes: &mut Probes<'_>, probe: &str, content: &[u8]) -> Result<Progress, Unfit> {
    let entry = "org.yaml".to_owned();
    let files = vec![KnownFile { path: entry.clone(), answer: Answer::Bytes(content.to_vec()) }];
    let request = Expansion { entry, has_directory: true, files };
    let Some(resolver) = probes.component.resolver() else { return Err(Unfit) };
    let first = resolver.expand(probes.settings, &request).await;
    let second = resolver.expand(probes.settings, &request).await;
    probes.same(probe, first, second)
}
