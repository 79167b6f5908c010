//! Depth-first over the directives, in document order.

use std::collections::{BTreeMap, BTreeSet};

use isomer_sdk::{Answer, Expansion, Mark, Problem};

use crate::{
    MAX_DEPTH, MAX_EXPANSIONS, directive,
    node::{Directive, Graph, Id, Kind, place},
    parse, path,
};

/// The result of a walk.
pub(crate) struct Walked<'a> {
    pub(crate) graph: Graph<'a>,
    /// Files, each after those that it includes.
    pub(crate) order: Vec<usize>,
    /// Paths of files that are still missing.
    pub(crate) need: Vec<String>,
}

pub(crate) fn walk(request: &Expansion) -> Result<Walked<'_>, Problem> {
    let mut answers = BTreeMap::new();
    for file in &request.files {
        answers.entry(file.path.as_str()).or_insert(&file.answer);
    }
    let mut walker = Walker {
        answers,
        has_directory: request.has_directory,
        walked: Walked { graph: Graph::default(), order: Vec::new(), need: Vec::new() },
        states: BTreeMap::new(),
        requested: BTreeSet::new(),
        frames: Vec::new(),
        expansions: 0,
    };
    walker.enter(&request.entry, None)?;
    while let Some(frame) = walker.frames.last_mut() {
        let file = walker.walked.graph.files.get(frame.file);
        match file.and_then(|file| file.directives.get(frame.next)).copied() {
            Some(directive) => {
                frame.next += 1;
                walker.follow(directive)?;
            }
            None => walker.leave(),
        }
    }
    Ok(walker.walked)
}

struct Walker<'a> {
    answers: BTreeMap<&'a str, &'a Answer>,
    has_directory: bool,
    walked: Walked<'a>,
    states: BTreeMap<String, State>,
    requested: BTreeSet<String>,
    /// Files being expanded, the entry first.
    frames: Vec<Frame>,
    /// Includes followed so far. A file that is included again counts with its own includes.
    expansions: usize,
}

#[derive(Clone, Copy)]
enum State {
    /// Being expanded.
    Open,
    Done {
        root: Id,
        /// Includes nested below it.
        height: usize,
        /// Includes that expanding it follows.
        expansions: usize,
    },
}

struct Frame {
    file: usize,
    next: usize,
    height: usize,
    expansions_before: usize,
    /// The include that led here.
    from: Option<Id>,
}

/// An include that is being followed.
struct Include {
    node: Id,
    mark: Mark,
    written: String,
}

impl<'a> Walker<'a> {
    fn follow(&mut self, directive: Directive) -> Result<(), Problem> {
        let include = match directive {
            Directive::External(mark) if !self.has_directory => {
                return Err(self.walked.graph.problem(mark, "`!external` works in dir-based templates only"));
            }
            Directive::External(_) => return Ok(()),
            Directive::Include(node) => match self.walked.graph.get(node).map(|node| (&node.kind, node.mark))
            {
                Some((Kind::Include { path, .. }, mark)) => {
                    Include { node, mark, written: path.clone().into_owned() }
                }
                _ => return Ok(()),
            },
        };
        if !self.has_directory {
            return Err(self.refused(&include, "includes work in dir-based templates only"));
        }
        let Some(including) = self.frames.last().and_then(|frame| self.walked.graph.files.get(frame.file))
        else {
            return Ok(());
        };
        let target =
            path::join(&including.path, &include.written).map_err(|why| self.refused(&include, why))?;
        let state = self.states.get(&target).copied();
        if let Some(State::Open) = state {
            return Err(self.refused(&include, &self.cycle(&target)));
        }
        // The entry itself is not included, so the number of frames is the level that begins now.
        let level = self.frames.len();
        let (below, expansions) = match state {
            Some(State::Done { height, expansions, .. }) => (height, expansions),
            _ => (0, 0),
        };
        if level + below > MAX_DEPTH {
            return Err(
                self.refused(&include, &format!("max depth: {MAX_DEPTH} nested includes are allowed"))
            );
        }
        self.expansions = self.expansions.saturating_add(1).saturating_add(expansions);
        if self.expansions > MAX_EXPANSIONS {
            return Err(
                self.refused(&include, &format!("more than {MAX_EXPANSIONS} includes in one template"))
            );
        }
        if let Some(State::Done { root, height, .. }) = state {
            self.graft(include.node, root);
            self.raise_height(height);
            return Ok(());
        }
        self.enter(&target, Some(include))
    }

    /// Begins to expand a file, or requests it.
    fn enter(&mut self, path: &str, from: Option<Include>) -> Result<(), Problem> {
        let answer = self.answers.get(path).copied();
        let bytes = match (answer, &from) {
            (Some(Answer::Bytes(bytes)), _) => bytes,
            (None, _) => {
                if self.requested.insert(path.to_owned()) {
                    self.walked.need.push(path.to_owned());
                }
                return Ok(());
            }
            (Some(Answer::Missing), Some(include)) => return Err(self.refused(include, "missing file")),
            (Some(Answer::Refused(why)), Some(include)) => return Err(self.refused(include, why)),
            (Some(Answer::Missing), None) => return Err(Problem::at(place(path, 1, 1), "missing file")),
            (Some(Answer::Refused(why)), None) => return Err(Problem::at(place(path, 1, 1), why.as_str())),
        };
        let file = parse::parse(&mut self.walked.graph, path, bytes).map_err(|problem| match &from {
            Some(include) => self.inside(include, problem),
            None => problem,
        })?;
        self.states.insert(path.to_owned(), State::Open);
        let from = from.map(|include| include.node);
        self.frames.push(Frame { file, next: 0, height: 0, expansions_before: self.expansions, from });
        Ok(())
    }

    /// Ends the innermost file, all of whose directives are done.
    fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        let Some(file) = self.walked.graph.files.get(frame.file) else { return };
        let expansions = self.expansions.saturating_sub(frame.expansions_before);
        let (root, height) = (file.root, frame.height);
        self.states.insert(file.path.clone(), State::Done { root, height, expansions });
        self.walked.order.push(frame.file);
        if let Some(include) = frame.from {
            self.graft(include, root);
            self.raise_height(height);
        }
    }

    fn graft(&mut self, include: Id, root: Id) {
        if let Some(Kind::Include { target, .. }) =
            self.walked.graph.nodes.get_mut(include).map(|node| &mut node.kind)
        {
            *target = Some(root);
        }
    }

    /// Notes that the innermost file includes one with `height` nested includes.
    fn raise_height(&mut self, height: usize) {
        if let Some(frame) = self.frames.last_mut() {
            frame.height = frame.height.max(height + 1);
        }
    }

    fn refused(&self, include: &Include, why: &str) -> Problem {
        self.walked.graph.problem(include.mark, format!("{}: {why}", directive::include(&include.written)))
    }

    /// A problem in an included file, with the place of the include.
    fn inside(&self, include: &Include, problem: Problem) -> Problem {
        let from = self.walked.graph.problem(include.mark, "").at.unwrap_or_default();
        let message = format!("{} ({from}): {}", directive::include(&include.written), problem.message);
        Problem { message, ..problem }
    }

    /// The path of a cycle, from the first visit of `target` on.
    fn cycle(&self, target: &str) -> String {
        let path = |frame: &Frame| self.walked.graph.files.get(frame.file).map(|file| file.path.as_str());
        let paths: Vec<&str> =
            self.frames.iter().filter_map(path).skip_while(|path| *path != target).collect();
        format!("cycle: {} -> {target}", paths.join(" -> "))
    }
}
