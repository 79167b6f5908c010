//! The graph that files are parsed into.

use std::{borrow::Cow, ops::Range};

use isomer_sdk::{Mark, Problem};

/// Index of a node in [`Graph::nodes`].
pub(crate) type Id = usize;

/// Nodes of all files parsed so far.
#[derive(Default)]
pub(crate) struct Graph<'a> {
    pub(crate) nodes: Vec<Node<'a>>,
    /// In the order of their first use, the entry first. Marks have indices of this list.
    pub(crate) files: Vec<File>,
}

/// A parsed file.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) root: Id,
    pub(crate) nodes: Range<Id>,
    /// In document order.
    pub(crate) directives: Vec<Directive>,
}

/// A directive of a file.
#[derive(Clone, Copy)]
pub(crate) enum Directive {
    /// `!include`, as the node that holds its path.
    Include(Id),
    External(Mark),
}

pub(crate) struct Node<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) mark: Mark,
    pub(crate) tag: Option<String>,
}

pub(crate) enum Kind<'a> {
    Scalar {
        text: Cow<'a, str>,
        quoted: bool,
    },
    Sequence(Vec<Id>),
    Mapping(Vec<(Id, Id)>),
    /// `!include` with the path as written, and the root of the file that it names once that is
    /// parsed.
    Include {
        path: Cow<'a, str>,
        target: Option<Id>,
    },
}

impl<'a> Graph<'a> {
    pub(crate) fn get(&self, id: Id) -> Option<&Node<'a>> {
        self.nodes.get(id)
    }

    /// The node itself, or for an include the root of the included file.
    pub(crate) fn resolved(&self, mut id: Id) -> Option<&Node<'a>> {
        loop {
            match self.nodes.get(id)? {
                Node { kind: Kind::Include { target: Some(target), .. }, .. } => id = *target,
                node => return Some(node),
            }
        }
    }

    /// Text of a scalar; none for other nodes.
    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        match &self.resolved(id)?.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// A problem at a mark.
    pub(crate) fn problem(&self, mark: Mark, message: impl Into<String>) -> Problem {
        let path = self.files.get(mark.file as usize).map_or("?", |file| file.path.as_str());
        Problem::at(place(path, mark.line, mark.column), message)
    }
}

/// A place as problems write it.
pub(crate) fn place(path: &str, line: u32, column: u32) -> String {
    format!("{path}:{line}:{column}")
}
