//! Template resolvers: the files of an org template in, one tree out.

mod v0_1;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wire_json::RawJson;

use crate::{FunctionError, Outcome, Problem, Settings, World, call::CallContext, json};

pub(crate) use v0_1::Bindings;
#[cfg(fuzzing)]
pub(crate) use v0_1::fuzz_tree;

/// A file that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFile {
    /// Relative to the template's root, `/`-separated.
    pub path: String,
    /// What the host answered.
    pub answer: Answer,
}

/// The host's answer to a request for a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Its content.
    #[serde(with = "json::text")]
    Bytes(Vec<u8>),
    /// There is none.
    Missing,
    /// The host will not give it, for this reason.
    Refused(String),
}

/// One step's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expansion {
    /// The file to begin with; always among `files`.
    pub entry: String,
    /// Whether the host can provide further files.
    #[serde(default)]
    pub has_directory: bool,
    /// Everything answered so far, `entry` first.
    pub files: Vec<KnownFile>,
}

/// One step's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// The whole tree.
    Done(Tree),
    /// Paths to answer before the next call.
    Need(Vec<String>),
    /// The template has an error, which its author must correct.
    Failed(Problem),
}

/// A whole template, with the names of the files that its marks count in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Paths by [`Mark::file`].
    pub files: Vec<String>,
    /// The root.
    pub root: Node,
}

/// A node of YAML, before any typing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it was written.
    pub mark: Mark,
    /// Tag as written, if it has one that the resolver left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    /// Text as written.
    Scalar {
        /// After unescaping, before any typing.
        text: String,
        /// Quoted or block scalars are always strings.
        quoted: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys with values, in order.
    Mapping(Vec<(Node, Node)>),
}

/// Where a node was written. Line and column count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Index into [`Tree::files`].
    pub file: u32,
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// A component called as a resolver.
pub struct Resolver<'a> {
    pub(crate) context: &'a CallContext,
    pub(crate) bindings: &'a Bindings,
}

impl Resolver<'_> {
    /// Asks the guest whether these settings are valid.
    pub async fn validate_settings(&self, settings: &Settings) -> Outcome<Result<(), Problem>> {
        self.bindings.validate_settings(self.context, settings).await
    }

    /// One step of the resolution.
    pub async fn expand(&self, settings: &Settings, request: &Expansion) -> Outcome<Progress> {
        self.bindings.expand(self.context, settings, request).await
    }

    pub(crate) async fn call_by_name(
        &self,
        function: &str,
        settings: &Settings,
        input: Json,
    ) -> Result<Outcome<RawJson>, FunctionError> {
        Ok(match function {
            "validate-settings" => {
                json::answer(self.validate_settings(&json::settings(function, settings, &input)?).await)
            }
            "expand" => json::outcome(self.expand(settings, &json::input(function, input)?).await),
            _ => return Err(json::unknown(World::Template, function)),
        })
    }
}
