//! What every workspace of a template becomes once defaults, files and rules are applied. Whether it exists
//! already is the plan's question.

mod environment;
mod merge;
mod spec;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use fleet::{
    Runtimes,
    rules::{self, WorkspaceAccess},
};
use store::workspaces::Hosting;
use types::WorkspaceId;
use types::{SealedText, WorkspaceSpec};

pub use self::spec::SkippedChannel;
use crate::{
    files::Files,
    layout::{ChildFrame, Frame},
    template::{Node, Org},
    unsupported::Unsupported,
    variables::expand,
};

/// Variable that may name the model.
const MODEL: &str = "MODEL";

/// Bytes of a workspace's name.
const NAME_BYTES: usize = 255;

/// Bytes of the name of a model or runtime.
const MODEL_BYTES: usize = 100;

/// A workspace with every default applied.
#[derive(Debug)]
pub(crate) struct ResolvedNode {
    /// Id of the workspace if it has to be created.
    pub(crate) id: WorkspaceId,
    /// Index of the parent among the nodes.
    pub(crate) parent: Option<usize>,
    pub(crate) name: String,
    pub(crate) role: Option<String>,
    pub(crate) tier: i32,
    pub(crate) runtime: String,
    pub(crate) hosting: Hosting,
    pub(crate) workspace_dir: Option<String>,
    pub(crate) workspace_access: WorkspaceAccess,
    pub(crate) max_concurrent_tasks: i32,
    pub(crate) url: Option<String>,
    pub(crate) position: Position,
    pub(crate) spec: WorkspaceSpec,
    /// Variables in plain text, to be sealed as workspace secrets.
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) channels_skipped: Vec<SkippedChannel>,
}

/// Where the canvas shows a workspace.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Position {
    pub(crate) absolute: (f64, f64),
    /// Seen from the parent; for a root the same as `absolute`.
    pub(crate) relative: (f64, f64),
}

/// Assembles the workspaces of one template.
pub(crate) struct Assembler<'a> {
    pub(crate) org: &'a Org,
    /// Directory of the template as the client named it; empty for inline and uploaded templates.
    pub(crate) dir: &'a str,
    pub(crate) files: &'a Files,
    pub(crate) runtimes: &'a dyn Runtimes,
    pub(crate) default_tier: i32,
    /// Names of the global settings.
    pub(crate) globals: &'a HashSet<String>,
    /// Directory with the variables of personas.
    pub(crate) personas: &'a Path,
    /// Seals what may hold credentials.
    pub(crate) seal: &'a dyn Fn(&[u8]) -> Option<SealedText>,
}

/// The workspaces of a template, up to the first invalid one.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// Parents before their children, in the template's order.
    pub(crate) nodes: Vec<ResolvedNode>,
    /// What is wrong with the next node.
    pub(crate) error: Option<String>,
    pub(crate) unsupported: Unsupported,
}

impl Assembler<'_> {
    /// Assembles all workspaces. Reads files of the template.
    pub(crate) fn assemble(&self) -> Assembly {
        let org_env = self.env("");
        let mut assembly = Assembly::default();
        for node in self.org.workspaces.iter().filter(|node| node.spawns()) {
            let position = Position { absolute: node.canvas, relative: node.canvas };
            let added = self.add(&mut assembly, node, None, position, &Frame::of(node), &org_env);
            if let Err(error) = added {
                assembly.error = Some(error);
                break;
            }
        }
        self.add_global_memories(&mut assembly);
        assembly
    }

    /// Adds a workspace and everything below it.
    fn add(
        &self,
        assembly: &mut Assembly,
        node: &Node,
        parent: Option<usize>,
        position: Position,
        frame: &Frame,
        org_env: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let resolved = self.resolve(node, org_env, &mut assembly.unsupported)?;
        let index = assembly.nodes.len();
        assembly.nodes.push(ResolvedNode { parent, position, ..resolved });
        let (left, top) = position.absolute;
        let spawning = node.children.iter().filter(|child| child.spawns());
        for (child, ChildFrame { x, y, frame }) in spawning.zip(&frame.children) {
            let position = Position { absolute: (left + x, top + y), relative: (*x, *y) };
            self.add(assembly, child, Some(index), position, frame, org_env)?;
        }
        Ok(())
    }

    /// Resolves one node. Parent and position are the caller's.
    fn resolve(
        &self,
        node: &Node,
        org_env: &BTreeMap<String, String>,
        unsupported: &mut Unsupported,
    ) -> Result<ResolvedNode, String> {
        let defaults = &self.org.defaults;
        check_name(&node.name)?;
        let invalid = |problem: String| format!("workspace {}: {problem}", node.name);

        let asked = first_given(&[&node.runtime, &defaults.runtime]).unwrap_or_default().trim();
        let model = first_given(&[&node.model, &defaults.model]);
        for (field, text) in [("model", model.unwrap_or_default()), ("runtime", asked)] {
            if text.len() > MODEL_BYTES || text.contains(['\n', '\r']) {
                return Err(invalid(format!("invalid {field}")));
            }
        }
        let external = node.external || asked.eq_ignore_ascii_case(types::defaults::OPERATOR_RUNTIME);
        let runtime = match asked {
            _ if external => types::defaults::OPERATOR_RUNTIME.to_owned(),
            "" => self.runtimes.sanitize(types::defaults::RUNTIME),
            asked => self.known_runtime(asked),
        };
        let facts = self.runtimes.info(&runtime);
        let hosting = if external { Hosting::Operator } else { facts.hosting };
        let tier = [node.tier, defaults.tier].into_iter().find(|tier| *tier != 0);
        let tier = tier.map_or(Ok(self.default_tier), |tier| {
            rules::tier(tier).map_err(|_| invalid(format!("tier must be 1, 2, 3 or 4, not {tier}")))
        })?;

        let mut env = org_env.clone();
        if !node.files_dir.is_empty() {
            env.extend(self.env(&node.files_dir));
        }
        let (workspace_dir, workspace_access) = workspace_dir(node, &env).map_err(invalid)?;
        let secrets =
            if hosting == Hosting::Container { self.secrets(&node.files_dir, env) } else { BTreeMap::new() };
        let model = model.map(str::to_owned).or_else(|| {
            let by_variable = secrets.contains_key(MODEL) || self.globals.contains(MODEL);
            let default = facts.default_model.unwrap_or_else(|| types::defaults::MODEL.to_owned());
            (hosting == Hosting::Container && !by_variable).then_some(default)
        });
        let (spec, channels_skipped) = self.spec(node, model.as_deref(), hosting, unsupported);
        Ok(ResolvedNode {
            id: WorkspaceId::random(),
            parent: None,
            name: node.name.clone(),
            role: Some(node.role.clone()).filter(|role| !role.is_empty()),
            tier,
            runtime,
            hosting,
            workspace_dir,
            workspace_access,
            max_concurrent_tasks: i32::try_from(node.max_concurrent_tasks.max(1)).unwrap_or(i32::MAX),
            url: Some(node.url.clone()).filter(|url| external && !url.is_empty()),
            position: Position::default(),
            spec,
            secrets,
            channels_skipped,
        })
    }

    /// A runtime by name. Names of runtimes without a container may be written in any case.
    fn known_runtime(&self, asked: &str) -> String {
        let lower = self.runtimes.sanitize(&asked.to_ascii_lowercase());
        if self.runtimes.info(&lower).hosting == Hosting::Synthetic {
            lower
        } else {
            self.runtimes.sanitize(asked)
        }
    }
}

fn first_given<'a>(texts: &[&'a str]) -> Option<&'a str> {
    texts.iter().copied().find(|text| !text.trim().is_empty())
}

/// Real templates have names that the creation of a single workspace refuses (`App & Docs Lead`), so only
/// what would break lines and columns is refused here.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_BYTES || name.contains(char::is_control) {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(format!("workspace {shown}: invalid name"));
    }
    Ok(())
}

/// A workspace's directory of the host, and its access to that.
fn workspace_dir(
    node: &Node,
    env: &BTreeMap<String, String>,
) -> Result<(Option<String>, WorkspaceAccess), String> {
    let process = |name: &str| std::env::var(name).ok();
    let dir = Some(expand(&node.workspace_dir, env, process)).filter(|dir| !dir.is_empty());
    if let Some(dir) = &dir {
        rules::workspace_dir(dir).map_err(|wrong| format!("workspace_dir {}", wrong.reason()))?;
    }
    let word = if node.workspace_access.is_empty() { "none" } else { &node.workspace_access };
    let access: WorkspaceAccess = word
        .parse()
        .map_err(|_| format!("workspace_access=\"{word}\" — must be 'none', 'read_only', or 'read_write'"))?;
    if access != WorkspaceAccess::None && dir.is_none() {
        return Err(format!("workspace_access=\"{word}\" requires workspace_dir to be set"));
    }
    Ok((dir, access))
}
