//! What every workspace of a template becomes once defaults, files and rules are applied. Whether it exists
//! already is the plan's question.

mod environment;
mod merge;
mod prompts;
mod setup;
mod size;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use fleet::{
    HostDirectories, Runtimes,
    rules::{self, WorkspaceAccess},
};
use store::workspaces::Hosting;
use types::{InitialMemory, OrgSpec, SealedText, WorkspaceId, WorkspaceSetup, WorkspaceSpec};

use self::{merge::memories, prompts::PromptTexts, size::Size};
use crate::{
    channels::SkippedChannel,
    fields::{InvalidValue, Place, with_place},
    files::{Files, normalize_path},
    layout::{ChildFrame, Frame},
    notes::Notes,
    shown::shown,
    template::{Node, Org},
    unsupported::Unsupported,
    variables::{ServerVariables, expand},
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
    /// Where the URL is written.
    pub(crate) url_at: Option<Place>,
    pub(crate) position: Position,
    pub(crate) spec: WorkspaceSpec,
    pub(crate) setup: WorkspaceSetup,
    /// Variables in plain text, to be sealed as workspace secrets.
    pub(crate) secrets: BTreeMap<String, String>,
    /// Types of its channels.
    pub(crate) channels: Vec<String>,
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
    /// Variables of the server that the template may use.
    pub(crate) variables: &'a ServerVariables,
    /// Which directories of the host workspaces may have.
    pub(crate) host: &'a HostDirectories,
    /// Domain of the agents' mail addresses.
    pub(crate) mail_domain: &'a str,
    /// Bytes that all workspaces may be set up with.
    pub(crate) setup_bytes: usize,
    /// Cron expressions and time zones that were checked.
    pub(crate) crons: RefCell<HashMap<(String, String), Result<(), String>>>,
    /// Seals what may hold credentials.
    pub(crate) seal: &'a dyn Fn(&[u8]) -> Option<SealedText>,
}

/// The workspaces of a template, up to the first invalid one.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// Parents before their children, in the template's order.
    pub(crate) nodes: Vec<ResolvedNode>,
    /// What is wrong with the next node.
    pub(crate) error: Option<NodeError>,
    pub(crate) unsupported: Unsupported,
    pub(crate) notes: Notes,
}

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeError {
    pub(crate) at: Option<Place>,
    /// With the name of the workspace.
    pub(crate) message: String,
}

/// Why a tree ends before the template does.
enum Stop {
    Invalid(NodeError),
    TooLarge(InvalidValue),
}

/// What all nodes of one template share while they are assembled.
struct Shared<'a> {
    org_env: BTreeMap<String, String>,
    prompts: PromptTexts<'a>,
    /// Cut and filtered once, so that workspaces share their texts.
    default_memories: Vec<InitialMemory>,
    size: RefCell<Size>,
}

impl Assembler<'_> {
    /// Assembles all workspaces. Reads files of the template.
    ///
    /// # Errors
    /// If they are set up with more than is allowed.
    pub(crate) fn assemble(&self) -> Result<Assembly, InvalidValue> {
        let mut assembly = Assembly::default();
        let shared = Shared {
            org_env: self.env("", None, &mut assembly.notes),
            prompts: PromptTexts::new(self.files, &self.org.defaults),
            default_memories: memories(&self.org.defaults.initial_memories),
            size: RefCell::default(),
        };
        for node in self.org.workspaces.iter().filter(|node| node.spawns()) {
            let position = Position { absolute: node.canvas, relative: node.canvas };
            match self.add(&mut assembly, node, None, position, &Frame::of(node), &shared) {
                Ok(()) => {}
                Err(Stop::TooLarge(error)) => return Err(error),
                Err(Stop::Invalid(error)) => {
                    assembly.error = Some(error);
                    break;
                }
            }
        }
        Ok(assembly)
    }

    /// Adds a workspace and everything below it.
    fn add(
        &self,
        assembly: &mut Assembly,
        node: &Node,
        parent: Option<usize>,
        position: Position,
        frame: &Frame,
        shared: &Shared<'_>,
    ) -> Result<(), Stop> {
        let resolved = self.resolve(node, shared, assembly).map_err(Stop::Invalid)?;
        shared.size.borrow_mut().add(&resolved, node, self.setup_bytes).map_err(Stop::TooLarge)?;
        let index = assembly.nodes.len();
        assembly.nodes.push(ResolvedNode { parent, position, ..resolved });
        let (left, top) = position.absolute;
        let spawning = node.children.iter().filter(|child| child.spawns());
        for (child, ChildFrame { x, y, frame }) in spawning.zip(&frame.children) {
            let position = Position { absolute: (left + x, top + y), relative: (*x, *y) };
            self.add(assembly, child, Some(index), position, frame, shared)?;
        }
        Ok(())
    }

    /// Resolves one node. Parent and position are the caller's.
    fn resolve(
        &self,
        node: &Node,
        shared: &Shared<'_>,
        assembly: &mut Assembly,
    ) -> Result<ResolvedNode, NodeError> {
        let defaults = &self.org.defaults;
        check_name(&node.name)
            .map_err(|message| NodeError { at: node.marks.of("name").cloned(), message })?;
        let error = |at: Option<&Place>, problem: String| NodeError {
            at: at.cloned(),
            message: format!("workspace {}: {problem}", node.name),
        };
        let invalid = |field: &str, problem: String| error(node.marks.of(field), problem);

        let asked = first_given(&[&node.runtime, &defaults.runtime]).unwrap_or_default().trim();
        let model = first_given(&[&node.model, &defaults.model]);
        for (field, own, text) in
            [("model", &node.model, model.unwrap_or_default()), ("runtime", &node.runtime, asked)]
        {
            if text.len() > MODEL_BYTES || text.contains(['\n', '\r']) {
                let marks = if own.trim().is_empty() { &defaults.marks } else { &node.marks };
                return Err(error(marks.of(field), format!("invalid {field}")));
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
        let tiers = [(node.tier, &node.marks), (defaults.tier, &defaults.marks)];
        let tier = tiers.into_iter().find(|(tier, _)| *tier != 0);
        let tier = tier.map_or(Ok(self.default_tier), |(tier, marks)| {
            let problem = || format!("tier must be 1, 2, 3 or 4, not {tier}");
            rules::tier(tier).map_err(|_| error(marks.of("tier"), problem()))
        })?;

        let mut env = shared.org_env.clone();
        if !node.files_dir.is_empty() {
            env.extend(self.env(&node.files_dir, node.marks.of("files_dir"), &mut assembly.notes));
        }
        let (workspace_dir, workspace_access) =
            workspace_dir(node, &env, (self.variables, self.host), &mut assembly.notes)
                .map_err(|(field, problem)| invalid(field, problem))?;
        let (setup, (channels, channels_skipped)) = self.setup(node, hosting, &env, shared, assembly);
        let secrets =
            if hosting == Hosting::Container { self.secrets(&node.files_dir, env) } else { BTreeMap::new() };
        let model = model.map(str::to_owned).or_else(|| {
            let by_variable = secrets.contains_key(MODEL) || self.globals.contains(MODEL);
            let default = facts.default_model.unwrap_or_else(|| types::defaults::MODEL.to_owned());
            (hosting == Hosting::Container && !by_variable).then_some(default)
        });
        let template = normalize_path(&node.template).filter(|_| !node.template.is_empty());
        let org = OrgSpec { dir: self.dir.to_owned(), name: self.org.name.clone(), ..OrgSpec::default() };
        let spec = WorkspaceSpec {
            template: template.map(|path| path.to_string_lossy().into_owned()),
            model,
            org: Some(org),
            ..WorkspaceSpec::default()
        };
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
            url_at: node.marks.of("url").cloned(),
            position: Position::default(),
            spec,
            setup,
            secrets,
            channels,
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

/// A workspace's directory of the host, and its access to that; else the field that is wrong, and why.
fn workspace_dir(
    node: &Node,
    env: &BTreeMap<String, String>,
    (server, host): (&ServerVariables, &HostDirectories),
    notes: &mut Notes,
) -> Result<(Option<String>, WorkspaceAccess), (&'static str, String)> {
    let expanded = expand(&node.workspace_dir, env, server);
    if expanded.is_missing {
        notes.add(|| {
            let text = format!(
                "workspace_dir `{}` names a variable without a value: put it into a .env of the template, or open \
                 it to templates by ORG_TEMPLATE_VARIABLES of the server",
                shown(&node.workspace_dir)
            );
            with_place(node.marks.of("workspace_dir"), &text)
        });
    }
    if expanded.is_too_long {
        return Err(("workspace_dir", "workspace_dir is too long".to_owned()));
    }
    let dir = Some(expanded.text).filter(|dir| !dir.is_empty());
    if let Some(dir) = &dir {
        let wrong = host.check(dir);
        wrong.map_err(|wrong| ("workspace_dir", format!("workspace_dir {}", wrong.reason())))?;
    }
    let field = "workspace_access";
    let word = if node.workspace_access.is_empty() { "none" } else { &node.workspace_access };
    let access: WorkspaceAccess = word
        .parse()
        .map_err(|_| {
            format!("workspace_access=\"{}\" — must be 'none', 'read_only', or 'read_write'", shown(word))
        })
        .map_err(|problem| (field, problem))?;
    if access != WorkspaceAccess::None && dir.is_none() {
        return Err((field, format!("workspace_access=\"{word}\" requires workspace_dir to be set")));
    }
    Ok((dir, access))
}
