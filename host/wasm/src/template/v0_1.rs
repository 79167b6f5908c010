//! World `isomer:template/template-resolver@0.1.0`.

use std::collections::HashSet;

use wasmtime::{Store, component::InstancePre};

use super::{Answer, Expansion, Mark, Node, Progress, Tree, Value};
use crate::{
    InvalidOutput, Outcome, Problem, Settings,
    call::{self, CallContext},
    limits,
    state::State,
    validate,
};

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, unused_qualifications)]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../../wit/types/0.1.0", "../../wit/template/0.1.0"],
        world: "isomer:template/template-resolver@0.1.0",
        exports: { default: async },
    });
}

use bindings::{TemplateResolver, TemplateResolverPre, exports::isomer::template::resolver as wit};

/// The typed functions that this world's component exports.
pub(crate) struct Bindings(TemplateResolverPre<State>);

impl Bindings {
    pub(crate) fn new(pre: InstancePre<State>) -> wasmtime::Result<Self> {
        TemplateResolverPre::new(pre).map(Self)
    }

    pub(crate) async fn validate_settings(
        &self,
        on: &CallContext,
        settings: &Settings,
    ) -> Outcome<Result<(), Problem>> {
        call::run(
            on,
            limits::SMALL_ANSWER,
            async |store: &mut Store<State>| self.0.instantiate_async(store).await,
            async |store: &mut Store<State>, instance: &TemplateResolver| {
                instance.isomer_template_resolver().call_validate_settings(store, settings.text()).await
            },
            |answer| Ok(answer.map_err(problem)),
        )
        .await
    }

    pub(crate) async fn expand(
        &self,
        on: &CallContext,
        settings: &Settings,
        request: &Expansion,
    ) -> Outcome<Progress> {
        let request = expansion(request);
        call::run(
            on,
            on.sandbox.limits().answer_bytes,
            async |store: &mut Store<State>| self.0.instantiate_async(store).await,
            async |store: &mut Store<State>, instance: &TemplateResolver| {
                instance.isomer_template_resolver().call_expand(store, settings.text(), &request).await
            },
            |answer| progress(&request, answer),
        )
        .await
    }
}

fn problem(problem: wit::Problem) -> Problem {
    validate::problem(problem.at, problem.message)
}

fn expansion(request: &Expansion) -> wit::Expansion {
    wit::Expansion {
        entry: request.entry.clone(),
        has_directory: request.has_directory,
        files: request
            .files
            .iter()
            .map(|file| wit::KnownFile {
                path: file.path.clone(),
                answer: match &file.answer {
                    Answer::Bytes(bytes) => wit::Answer::Bytes(bytes.clone()),
                    Answer::Missing => wit::Answer::Missing,
                    Answer::Refused(why) => wit::Answer::Refused(why.clone()),
                },
            })
            .collect(),
    }
}

fn progress(request: &wit::Expansion, answer: wit::Progress) -> Result<Progress, InvalidOutput> {
    match answer {
        wit::Progress::Done(done) => {
            files(request, &done.files)?;
            tree(done).map(Progress::Done)
        }
        wit::Progress::Need(paths) => need(request, paths).map(Progress::Need),
        wit::Progress::Failed(no) => Ok(Progress::Failed(problem(no))),
    }
}

/// Paths must be plain and new: a resolver that asks again for what it has would never end.
fn need(request: &wit::Expansion, paths: Vec<String>) -> Result<Vec<String>, InvalidOutput> {
    if paths.is_empty() {
        return Err(InvalidOutput::new("need", "a resolver that needs nothing is done or has failed"));
    }
    validate::at_most("need", paths.len(), limits::ROUND_PATHS)?;
    paths.iter().try_for_each(|path| validate::plain_path("need", path))?;
    let known = request.files.iter().map(|file| file.path.as_str());
    validate::distinct("need", known.chain(paths.iter().map(String::as_str)))?;
    Ok(paths)
}

/// Marks may name only files that the resolver was given.
fn files(request: &wit::Expansion, files: &[String]) -> Result<(), InvalidOutput> {
    validate::distinct("tree.files", files.iter().map(String::as_str))?;
    let given: HashSet<&str> = request.files.iter().map(|file| file.path.as_str()).collect();
    match files.iter().find(|file| !given.contains(file.as_str())) {
        Some(file) => Err(InvalidOutput::new(
            "tree.files",
            format!("`{}` is no file that was given", validate::clip(file, 128)),
        )),
        None => Ok(()),
    }
}

fn tree(tree: wit::Tree) -> Result<Tree, InvalidOutput> {
    validate::arena("tree", &tree.nodes, |node| match &node.value {
        wit::Value::Scalar(_) => Vec::new(),
        wit::Value::Sequence(items) => items.clone(),
        wit::Value::Mapping(entries) => entries.iter().flat_map(|(key, value)| [*key, *value]).collect(),
    })?;
    let files = tree.files.len();
    // Children come after their parents, so building from the end finds every child built.
    let mut built: Vec<Option<Node>> = tree.nodes.iter().map(|_| None).collect();
    for (index, node) in tree.nodes.into_iter().enumerate().rev() {
        if node.mark.file as usize >= files {
            return Err(InvalidOutput::new(
                "tree",
                format!("node {index} is marked in a file that isn't listed"),
            ));
        }
        let mut child = |id: u32| {
            let child = built.get_mut(id as usize).and_then(Option::take);
            child.ok_or_else(|| InvalidOutput::new("tree", format!("node {id} is used twice")))
        };
        let value = match node.value {
            wit::Value::Scalar(scalar) => Value::Scalar { text: scalar.text, quoted: scalar.quoted },
            wit::Value::Sequence(items) => {
                Value::Sequence(items.into_iter().map(&mut child).collect::<Result<_, _>>()?)
            }
            wit::Value::Mapping(entries) => {
                let pair = |(key, value)| Ok((child(key)?, child(value)?));
                Value::Mapping(entries.into_iter().map(pair).collect::<Result<_, InvalidOutput>>()?)
            }
        };
        let mark = Mark { file: node.mark.file, line: node.mark.line, column: node.mark.column };
        let tag = node.tag.map(validate::message);
        if let Some(slot) = built.get_mut(index) {
            *slot = Some(Node { value, mark, tag });
        }
    }
    let root = built.into_iter().next().flatten();
    root.map(|root| Tree { files: tree.files, root })
        .ok_or_else(|| InvalidOutput::new("tree", "it has no root"))
}

/// What the check lets through has as many nodes as were handed in, and is no deeper than allowed.
#[cfg(fuzzing)]
pub(crate) fn fuzz_tree(bytes: &mut crate::fuzz_bytes::Bytes<'_>) {
    fn size(node: &Node) -> (usize, usize) {
        let children: Vec<&Node> = match &node.value {
            Value::Scalar { .. } => Vec::new(),
            Value::Sequence(items) => items.iter().collect(),
            Value::Mapping(pairs) => pairs.iter().flat_map(|(key, value)| [key, value]).collect(),
        };
        let sizes = children.into_iter().map(size);
        sizes.fold((1, 1), |(count, depth), (more, below)| (count + more, depth.max(below + 1)))
    }
    let mut nodes = Vec::new();
    while !bytes.done() {
        let value = match bytes.byte() % 3 {
            0 => wit::Value::Scalar(wit::Scalar { text: bytes.text(), quoted: bytes.byte() % 2 == 0 }),
            1 => wit::Value::Sequence(bytes.ids()),
            _ => wit::Value::Mapping(bytes.ids().into_iter().zip(bytes.ids()).collect()),
        };
        let mark = wit::Mark { file: u32::from(bytes.byte() % 3), line: 1, column: 1 };
        nodes.push(wit::Node { value, mark, tag: None });
    }
    let count = nodes.len();
    if let Ok(tree) = tree(wit::Tree { files: vec!["a".to_owned(), "b".to_owned()], nodes }) {
        let (found, depth) = size(&tree.root);
        assert_eq!(found, count);
        assert!(depth <= limits::TREE_DEPTH);
    }
}
