//! From the graph to a tree in which every node is used once.

use std::collections::VecDeque;

use isomer_sdk::{Node as Out, Problem, Scalar, TemplateTree, Value};

use crate::{
    MAX_NESTING, MAX_NODES, MAX_TEXT_BYTES,
    node::{Graph, Id, Kind, Node},
};

/// Copies what hangs below `root`, level by level: a child's index is claimed when its parent is
/// written and so is always greater. Indices are claimed before anything is copied, so that an
/// alias bomb is noticed while it is small.
pub(crate) fn flatten(graph: &Graph<'_>, root: Id) -> Result<TemplateTree, Problem> {
    let mut out = Output { waiting: VecDeque::from([(root, 1)]), claimed: 1, text: 0 };
    let mut nodes = Vec::new();
    while let Some((id, depth)) = out.waiting.pop_front() {
        let Some(node) = graph.resolved(id) else { continue };
        let refuse = |message| graph.problem(node.mark, message);
        out.count_text(node).map_err(refuse)?;
        let value = match &node.kind {
            Kind::Scalar { text, quoted } => {
                Value::Scalar(Scalar { text: text.clone().into_owned(), quoted: *quoted })
            }
            Kind::Sequence(items) => {
                out.room_below(depth, items.len()).map_err(refuse)?;
                Value::Sequence(items.iter().map(|item| out.claim(*item, depth)).collect())
            }
            Kind::Mapping(pairs) => {
                out.room_below(depth, pairs.len().saturating_mul(2)).map_err(refuse)?;
                Value::Mapping(
                    pairs
                        .iter()
                        .map(|(key, value)| (out.claim(*key, depth), out.claim(*value, depth)))
                        .collect(),
                )
            }
            // The walk grafts every include before it says that nothing is needed.
            Kind::Include { path, .. } => {
                Value::Scalar(Scalar { text: path.clone().into_owned(), quoted: true })
            }
        };
        nodes.push(Out { value, mark: node.mark, tag: node.tag.clone() });
    }
    Ok(TemplateTree { files: graph.files.iter().map(|file| file.path.clone()).collect(), nodes })
}

struct Output {
    waiting: VecDeque<(Id, usize)>,
    claimed: u32,
    text: usize,
}

impl Output {
    fn room_below(&self, depth: usize, children: usize) -> Result<(), String> {
        if children > 0 && depth >= MAX_NESTING {
            return Err(format!("nested more than {MAX_NESTING} deep"));
        }
        if (self.claimed as usize).saturating_add(children) > MAX_NODES {
            return Err(format!("the template expands to more than {MAX_NODES} nodes"));
        }
        Ok(())
    }

    fn claim(&mut self, id: Id, depth: usize) -> u32 {
        self.waiting.push_back((id, depth + 1));
        let index = self.claimed;
        self.claimed += 1;
        index
    }

    fn count_text(&mut self, node: &Node<'_>) -> Result<(), String> {
        let text = match &node.kind {
            Kind::Scalar { text, .. } => text.len(),
            _ => 0,
        };
        self.text += text + node.tag.as_ref().map_or(0, String::len);
        if self.text > MAX_TEXT_BYTES {
            return Err(format!("the template expands to more than {} MiB of text", MAX_TEXT_BYTES >> 20));
        }
        Ok(())
    }
}
