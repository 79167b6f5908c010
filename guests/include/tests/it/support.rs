//! A host that answers from memory.

use include_resolver::expand;
use isomer_sdk::{Answer, Expansion, KnownFile, Problem, Progress, TemplateTree, Value};

/// The host's answers by path.
#[derive(Default)]
pub(crate) struct Host {
    files: Vec<(String, Answer)>,
    pub(crate) has_directory: bool,
    /// Calls that the last resolution took.
    pub(crate) rounds: usize,
}

impl Host {
    /// A host with these files; the entry is always `org.yaml`.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let files =
            files.iter().map(|(path, text)| ((*path).to_owned(), Answer::Bytes(text.as_bytes().to_vec())));
        Self { files: files.collect(), has_directory: true, rounds: 0 }
    }

    pub(crate) fn and(mut self, path: &str, answer: Answer) -> Self {
        self.files.push((path.to_owned(), answer));
        self
    }

    pub(crate) fn resolve(&mut self) -> Result<TemplateTree, Problem> {
        self.rounds = 0;
        let mut known = vec![self.answer("org.yaml")];
        loop {
            self.rounds += 1;
            assert!(self.rounds <= 40, "too many rounds");
            let request = Expansion {
                entry: "org.yaml".into(),
                has_directory: self.has_directory,
                files: known.clone(),
            };
            match expand(&request) {
                Progress::Done(tree) => return Ok(tree),
                Progress::Failed(problem) => return Err(problem),
                Progress::Need(paths) => {
                    assert!(!paths.is_empty(), "a round that asks for nothing");
                    for path in paths {
                        assert!(known.iter().all(|file| file.path != path), "{path} is asked for twice");
                        known.push(self.answer(&path));
                    }
                }
            }
        }
    }

    fn answer(&self, path: &str) -> KnownFile {
        let found = self.files.iter().find(|(known, _)| known == path);
        KnownFile { path: path.into(), answer: found.map_or(Answer::Missing, |(_, answer)| answer.clone()) }
    }
}

/// The tree in one line: `{k: v, l: [a, "b"]}`, quoted scalars in quotes, tags in front. Asserts that the
/// arena is valid.
pub(crate) fn shown(tree: &TemplateTree) -> String {
    let mut used = vec![false; tree.nodes.len()];
    let text = show(tree, 0, &mut used);
    assert!(used.iter().all(|used| *used), "a node that is not used");
    text
}

fn show(tree: &TemplateTree, id: u32, used: &mut [bool]) -> String {
    assert!(!std::mem::replace(&mut used[id as usize], true), "node {id} is used twice");
    let node = &tree.nodes[id as usize];
    assert!((node.mark.file as usize) < tree.files.len() && node.mark.line > 0 && node.mark.column > 0);
    let mut below = |child: u32| {
        assert!(child > id, "child {child} of {id}");
        show(tree, child, used)
    };
    let value = match &node.value {
        Value::Scalar(scalar) if scalar.quoted => format!("{:?}", scalar.text),
        Value::Scalar(scalar) => scalar.text.clone(),
        Value::Sequence(items) => {
            format!("[{}]", items.iter().map(|item| below(*item)).collect::<Vec<_>>().join(", "))
        }
        Value::Mapping(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", below(*key), below(*value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
    };
    node.tag.as_ref().map_or(value.clone(), |tag| format!("{tag} {value}"))
}

/// Resolves and shows.
pub(crate) fn resolved(files: &[(&str, &str)]) -> String {
    shown(&Host::with(files).resolve().unwrap_or_else(|problem| panic!("{problem:?}")))
}

/// Resolves, and expects a problem at a place with a text.
pub(crate) fn refused(files: &[(&str, &str)], at: &str, fragment: &str) {
    expect(Host::with(files).resolve(), at, fragment);
}

pub(crate) fn expect(outcome: Result<TemplateTree, Problem>, at: &str, fragment: &str) {
    let problem = outcome.expect_err(fragment);
    assert_eq!(problem.at.as_deref(), Some(at), "{}", problem.message);
    assert!(problem.message.contains(fragment), "{}", problem.message);
}
