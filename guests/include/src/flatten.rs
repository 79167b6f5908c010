//! From the graph to a tree in which every node is used once.

use std::collections::VecDeque;

use isomer_sdk::{Node as Out, Problem, Scalar, TemplateTree, Value};

use crate::{
    MAX_NESTING, MAX_NODES, MAX_TEXT_BYTES,
    node::{Graph, Id, Kind, Node},
    too_deep,
};

/// Copies the nodes below `root`, level by level. A child's index is assigned when its parent is written, so
/// it is always greater. Indices are assigned before nodes are copied, so that an alias bomb is noticed while
/// it is small.
pub(crate) fn flatten(graph: &Graph<'_>, root: Id) -> Result<TemplateTree, Problem> {
    let mut out = Output { queue: VecDeque::from([(root, 1)]), assigned: 1, text: 0 };
    let mut nodes = Vec::new();
    while let Some((id, depth)) = out.queue.pop_front() {
        let Some(node) = graph.resolved(id) else { continue };
        let refuse = |message| graph.problem(node.mark, message);
        out.count_text(node).map_err(refuse)?;
        let value = match &node.kind {
            Kind::Scalar { text, quoted } => {
                Value::Scalar(Scalar { text: text.clone().into_owned(), quoted: *quoted })
            }
            Kind::Sequence(items) => {
                out.check_capacity(depth, items.len()).map_err(refuse)?;
                Value::Sequence(items.iter().map(|item| out.assign_index(*item, depth)).collect())
            }
            Kind::Mapping(pairs) => {
                out.check_capacity(depth, pairs.len().saturating_mul(2)).map_err(refuse)?;
                Value::Mapping(
                    pairs
                        .iter()
                        .map(|(key, value)| (out.assign_index(*key, depth), out.assign_index(*value, depth)))
                        .collect(),
                )
            }
            // Not reached: the walk grafts every include before it reports that no file is missing.
            Kind::Include { path, .. } => {
                Value::Scalar(Scalar { text: path.clone().into_owned(), quoted: true })
            }
        };
        nodes.push(Out { value, mark: node.mark, tag: node.tag.clone() });
    }
    Ok(TemplateTree { files: graph.files.iter().map(|file| file.path.clone()).collect(), nodes })
}

struct Output {
    queue: VecDeque<(Id, usize)>,
    assigned: u32,
    text: usize,
}

impl Output {
    fn check_capacity(&self, depth: usize, children: usize) -> Result<(), String> {
        if children > 0 && depth >= MAX_NESTING {
            return Err(too_deep());
        }
        if (self.assigned as usize).saturating_add(children) > MAX_NODES {
            return Err(format!("the template expands to more than {MAX_NODES} nodes"));
        }
        Ok(())
    }

    fn assign_index(&mut self, id: Id, depth: usize) -> u32 {
        self.queue.push_back((id, depth + 1));
        let index = self.assigned;
        self.assigned += 1;
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
