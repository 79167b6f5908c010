//! From a file's bytes to nodes.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
};

use isomer_sdk::{Mark, Problem};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::{
    MAX_FILE_BYTES, MAX_INDICATORS, MAX_NESTING, MAX_NODES,
    directive::{self, EXTERNAL, INCLUDE},
    node::{Directive, File, Graph, Id, Kind, Node, place},
    surrogates::{self, Readable, Replaced},
    too_deep,
};

/// Parses a file and adds it to the graph.
///
/// Nodes are added when they end, so that a node's id is greater than those of its children and of
/// the nodes that its aliases name.
pub(crate) fn parse<'a>(graph: &mut Graph<'a>, path: &str, bytes: &'a [u8]) -> Result<usize, Problem> {
    let text = decode(path, bytes)?;
    let Readable { text, replaced } = surrogates::readable(text);
    let file = graph.files.len();
    let first = graph.nodes.len();
    let mut reader = Reader {
        nodes: &mut graph.nodes,
        path,
        file: u32::try_from(file).unwrap_or(u32::MAX),
        open: Vec::new(),
        anchors: BTreeMap::new(),
        directives: Vec::new(),
        replaced: &replaced,
    };
    let root = match text {
        Cow::Borrowed(text) => reader.read(Parser::new_from_str(text), |text| text)?,
        Cow::Owned(text) => reader.read(Parser::new_from_str(&text), |text| text.into_owned().into())?,
    };
    let directives = reader.directives;
    graph.files.push(File { path: path.to_owned(), root, nodes: first..graph.nodes.len(), directives });
    Ok(file)
}

fn decode<'a>(path: &str, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Problem::at(place(path, 1, 1), "the file is larger than 1 MiB"));
    }
    let behind = |good: &[u8]| {
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let last = good.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(last).chars().count() + 1;
        place(path, u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Problem::at(behind(good), "the file is not UTF-8 here")
    })?;
    // The parser would read a NUL as the end of the file.
    if let Some((good, _)) = text.split_once('\0') {
        return Err(Problem::at(behind(good.as_bytes()), "the file has a NUL character here"));
    }
    if text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b']' | b'{' | b'}' | b':' | b'?')).count()
        > MAX_INDICATORS
    {
        let message = format!("the file has more than {MAX_INDICATORS} of the characters , [ ] {{ }} : ?");
        return Err(Problem::at(place(path, 1, 1), message));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

struct Reader<'g, 'a> {
    nodes: &'g mut Vec<Node<'a>>,
    path: &'g str,
    file: u32,
    open: Vec<Open<'a>>,
    /// Nodes by anchor; none for a collection that is still open.
    anchors: BTreeMap<usize, Option<Id>>,
    directives: Vec<Directive>,
    /// Escapes that were replaced before the parser read the text.
    replaced: &'g [Replaced],
}

/// A collection whose end is not reached yet.
struct Open<'a> {
    items: Items<'a>,
    anchor: usize,
    mark: Mark,
    tag: Option<String>,
}

enum Items<'a> {
    Sequence(Vec<Id>),
    Mapping { pairs: Vec<(Id, Id)>, key: Option<Id>, keys: BTreeMap<Cow<'a, str>, u32> },
}

impl<'a> Reader<'_, 'a> {
    /// Reads the file's first document and returns its root. Further ones are not even parsed: the host warns
    /// of them.
    fn read<'p>(
        &mut self,
        mut parser: Parser<'p, StrInput<'p>>,
        keep: impl Fn(Cow<'p, str>) -> Cow<'a, str>,
    ) -> Result<Id, Problem> {
        let mut root = None;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let mark = self.mark(*error.marker());
                self.problem(mark, format!("not YAML: {}", directive::shown(error.info())))
            })?;
            match event {
                Event::DocumentEnd => break,
                event => root = self.event(kept(event, &keep), span)?.or(root),
            }
        }
        root.ok_or_else(|| self.problem(Mark { file: self.file, line: 1, column: 1 }, "empty document"))
    }

    /// Handles an event of the document. Returns the node that it completes, if any.
    fn event(&mut self, event: Event<'a>, span: Span) -> Result<Option<Id>, Problem> {
        let mut mark = self.mark(span.start);
        let id = match event {
            ref nothing if self.open.is_empty() && is_empty_document(nothing) => return Ok(None),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(Some(id)) => *id,
                Some(None) => {
                    return Err(self.problem(mark, "an alias inside of what it names would never end"));
                }
                None => return Err(self.problem(mark, "an alias to an anchor that is not there")),
            },
            Event::Scalar(text, style, anchor, tag) => {
                let text = surrogates::restored(self.replaced, text, style, span);
                let id = self.scalar(text, style, tag.as_deref(), mark)?;
                self.bind(anchor, Some(id));
                id
            }
            Event::SequenceStart(anchor, tag) => {
                let tag = self.collection_tag(tag.as_deref(), "!!seq", mark)?;
                if tag.as_deref() == Some(EXTERNAL) {
                    return Err(self.problem(mark, "`!external` takes a mapping, not a list"));
                }
                return self.begin(Open { items: Items::Sequence(Vec::new()), anchor, mark, tag });
            }
            Event::MappingStart(anchor, tag) => {
                let tag = self.collection_tag(tag.as_deref(), "!!map", mark)?;
                if tag.as_deref() == Some(EXTERNAL) {
                    self.directives.push(Directive::External(mark));
                }
                let items = Items::Mapping { pairs: Vec::new(), key: None, keys: BTreeMap::new() };
                return self.begin(Open { items, anchor, mark, tag });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(None) };
                mark = open.mark;
                let kind = match open.items {
                    Items::Sequence(items) => Kind::Sequence(items),
                    Items::Mapping { pairs, .. } => Kind::Mapping(pairs),
                };
                let id = self.add(Node { kind, mark, tag: open.tag })?;
                self.bind(open.anchor, Some(id));
                id
            }
            _ => return Ok(None),
        };
        self.place(id, mark)?;
        Ok(Some(id))
    }

    fn scalar(
        &mut self,
        text: Cow<'a, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        mark: Mark,
    ) -> Result<Id, Problem> {
        let mut quoted = style != ScalarStyle::Plain;
        let mut tag = tag.map(directive::written);
        match tag.as_deref() {
            Some(INCLUDE) => {
                let id =
                    self.add(Node { kind: Kind::Include { path: text, target: None }, mark, tag: None })?;
                self.directives.push(Directive::Include(id));
                return Ok(id);
            }
            Some(EXTERNAL) => {
                return Err(self.problem(mark, "`!external` takes a mapping with `repo`, `ref` and `path`"));
            }
            // Both tags mean a string.
            Some("!" | "!!str") => {
                quoted = true;
                tag = None;
            }
            _ => {}
        }
        self.add(Node { kind: Kind::Scalar { text, quoted }, mark, tag })
    }

    /// The tag of a collection; none for the standard tag of its kind.
    fn collection_tag(&self, tag: Option<&Tag>, usual: &str, mark: Mark) -> Result<Option<String>, Problem> {
        match tag.map(directive::written) {
            Some(tag) if tag == INCLUDE => {
                Err(self.problem(mark, "`!include` takes the path of one file: `!include teams/dev.yaml`"))
            }
            Some(tag) if tag == usual || tag == "!" => Ok(None),
            tag => Ok(tag),
        }
    }

    fn begin(&mut self, open: Open<'a>) -> Result<Option<Id>, Problem> {
        if self.open.len() >= MAX_NESTING {
            return Err(self.problem(open.mark, too_deep()));
        }
        self.bind(open.anchor, None);
        self.open.push(open);
        Ok(None)
    }

    /// Binds an anchor to a node. The parser counts anchors from 1.
    fn bind(&mut self, anchor: usize, id: Option<Id>) {
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
    }

    fn add(&mut self, node: Node<'a>) -> Result<Id, Problem> {
        if self.nodes.len() >= MAX_NODES {
            return Err(
                self.problem(node.mark, format!("the template's files have more than {MAX_NODES} nodes"))
            );
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// Adds a node to the innermost open collection.
    fn place(&mut self, id: Id, mark: Mark) -> Result<(), Problem> {
        match self.open.last_mut().map(|open| &mut open.items) {
            None => {}
            Some(Items::Sequence(items)) => items.push(id),
            Some(Items::Mapping { pairs, key, keys }) => match key.take() {
                Some(key) => pairs.push((key, id)),
                None => {
                    let Some(Node { kind: Kind::Scalar { text, .. }, .. }) = self.nodes.get(id) else {
                        return Err(self.problem(mark, "a mapping's key must be a plain or quoted text"));
                    };
                    match keys.entry(text.clone()) {
                        Entry::Vacant(entry) => entry.insert(mark.line),
                        Entry::Occupied(entry) => {
                            let message = format!(
                                "the key `{}` is there twice, first in line {}",
                                directive::shown(entry.key()),
                                entry.get()
                            );
                            return Err(self.problem(mark, message));
                        }
                    };
                    *key = Some(id);
                }
            },
        }
        Ok(())
    }

    fn mark(&self, marker: Marker) -> Mark {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let column = surrogates::column(self.replaced, marker) + 1;
        Mark { file: self.file, line: number(marker.line()), column: number(column) }
    }

    fn problem(&self, mark: Mark, message: impl Into<String>) -> Problem {
        Problem::at(place(self.path, mark.line, mark.column), message)
    }
}

/// An event whose texts live as long as the graph.
fn kept<'p, 'a>(event: Event<'p>, keep: &impl Fn(Cow<'p, str>) -> Cow<'a, str>) -> Event<'a> {
    let owned = |tag: Option<Cow<'p, Tag>>| tag.map(|tag| Cow::Owned(tag.into_owned()));
    match event {
        Event::Nothing => Event::Nothing,
        Event::StreamStart => Event::StreamStart,
        Event::StreamEnd => Event::StreamEnd,
        Event::DocumentStart(explicit) => Event::DocumentStart(explicit),
        Event::DocumentEnd => Event::DocumentEnd,
        Event::Alias(anchor) => Event::Alias(anchor),
        Event::Scalar(text, style, anchor, tag) => Event::Scalar(keep(text), style, anchor, owned(tag)),
        Event::SequenceStart(anchor, tag) => Event::SequenceStart(anchor, owned(tag)),
        Event::SequenceEnd => Event::SequenceEnd,
        Event::MappingStart(anchor, tag) => Event::MappingStart(anchor, owned(tag)),
        Event::MappingEnd => Event::MappingEnd,
    }
}

/// The event of an empty document.
fn is_empty_document(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, 0, None) if text.is_empty())
}
