//! A resolver that passes its conformance probes and then returns invalid trees. The content of the entry
//! chooses the tree.

use isomer_sdk::{
    Answer, Expansion, Mark, Node, Problem, Progress, Resolver, Scalar, TemplateTree as Tree, Value,
};
use serde::Deserialize;

/// No settings.
#[derive(Deserialize)]
pub struct Settings {}

/// The guest.
pub struct HostileResolver;

isomer_sdk::export_resolver!(HostileResolver);

impl Resolver for HostileResolver {
    type Settings = Settings;

    fn expand(_: &Settings, request: &Expansion) -> Progress {
        let content = match request.files.first().map(|file| &file.answer) {
            Some(Answer::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        let sequence = |items: &[u32]| node(Value::Sequence(items.to_vec()), 1, 1);
        let nodes = match content.as_str() {
            // The conformance probes.
            "name: probe\nversion: 1.10\n" => vec![
                node(Value::Mapping(vec![(1, 2), (3, 4)]), 1, 1),
                scalar("name", 1, 1),
                scalar("probe", 1, 7),
                scalar("version", 2, 1),
                scalar("1.10", 2, 10),
            ],
            "a: [1,\nb: }" => {
                return Progress::Failed(Problem::at("org.yaml:2:4", "broken"));
            }
            // Trees that the host must refuse.
            "empty" => Vec::new(),
            "cyclic" => vec![sequence(&[1]), sequence(&[0])],
            "self" => vec![sequence(&[0])],
            "shared" => vec![sequence(&[1, 1]), scalar("x", 1, 1)],
            "dangling" => vec![sequence(&[9])],
            "orphan" => vec![scalar("x", 1, 1), scalar("y", 1, 1)],
            "deep" => {
                (1..=250).map(|next| if next < 250 { sequence(&[next]) } else { sequence(&[]) }).collect()
            }
            "wide" => {
                let children: Vec<u32> = (1..=200_000).collect();
                let mut nodes = vec![sequence(&children)];
                nodes.extend(children.iter().map(|_| scalar("", 1, 1)));
                nodes
            }
            "mark" => vec![Node { mark: Mark { file: 7, line: 1, column: 1 }, ..scalar("x", 1, 1) }],
            "need-nothing" => return Progress::Need(Vec::new()),
            "need-again" => return Progress::Need(vec![request.entry.clone()]),
            "need-escape" => return Progress::Need(vec!["../../etc/passwd".into()]),
            "loop" => loop {
                std::hint::black_box(());
            },
            "long-file" => {
                return Progress::Done(Tree {
                    files: vec!["x".repeat(20 << 20)],
                    nodes: vec![scalar("", 1, 1)],
                });
            }
            "long-problem" => return Progress::Failed(Problem::at("x", "y".repeat(100 << 10))),
            other => vec![scalar(other, 1, 1)],
        };
        Progress::Done(Tree { files: vec![request.entry.clone()], nodes })
    }
}

fn node(value: Value, line: u32, column: u32) -> Node {
    Node { value, mark: Mark { file: 0, line, column }, tag: None }
}

fn scalar(text: &str, line: u32, column: u32) -> Node {
    node(Value::Scalar(Scalar { text: text.to_owned(), quoted: false }), line, column)
}
