//! A workspace of a template with everything that defaults, files and rules make of it: what remains
//! is to find out whether it is there already.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use fleet::{
    Memory, Runtimes,
    rules::{self, WorkspaceAccess},
};
use serde::Serialize;
use serde_json::{Value as Json, json};
use store::workspaces::Hosting;
use uuid::Uuid;

use crate::{
    env_file,
    files::{Files, clean},
    kept::{Kept, Part},
    layout::{Frame, Slot},
    template::{Channel, Defaults, Node, Org, Plugin, Prompt, Prompts, Routing, Schedule},
    variables::expand,
};

/// Runtime of a workspace for which nothing says one.
const DEFAULT_RUNTIME: &str = "langgraph";

/// Runtime of a workspace that somebody else runs.
const OPERATOR_RUNTIME: &str = "external";

/// Model of a workspace for which nothing says one, nor its runtime.
const DEFAULT_MODEL: &str = "anthropic:claude-opus-4-7";

/// Variable that a model may come from.
const MODEL: &str = "MODEL";

/// Seconds of idleness before the idle prompt, where nothing says how many.
const IDLE_SECONDS: i64 = 600;

/// Bytes that an agent may remember of one thing.
const MEMORY_BYTES: usize = 100_000;

/// Kinds of channels that there are.
const CHANNELS: [&str; 4] = ["telegram", "slack", "lark", "discord"];

/// A workspace as it is to be.
#[derive(Debug)]
pub(crate) struct Member {
    /// The id that it gets if it isn't there yet.
    pub(crate) id: Uuid,
    /// Its parent among the members.
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
    /// Its place on the canvas …
    pub(crate) absolute: (f64, f64),
    /// … and seen from its parent.
    pub(crate) relative: (f64, f64),
    /// What is kept of it for those who start it.
    pub(crate) spec: Json,
    /// Its variables, in plain text.
    pub(crate) secrets: BTreeMap<String, String>,
    /// Channels that it can't have, and why.
    pub(crate) channels_skipped: Vec<SkippedChannel>,
}

/// A channel that can't be set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedChannel {
    /// Why.
    pub reason: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose it would be.
    pub workspace: String,
}

/// What all members of an organisation have in common.
pub(crate) struct Resolver<'a> {
    pub(crate) org: &'a Org,
    /// Directory of the template, as a client named it; empty if none did.
    pub(crate) dir: &'a str,
    pub(crate) files: &'a Files,
    pub(crate) runtimes: &'a dyn Runtimes,
    /// Tier where nothing says one.
    pub(crate) tier: i32,
    /// Names of the settings that everybody has.
    pub(crate) globals: &'a HashSet<String>,
    /// Where personas lie.
    pub(crate) personas: &'a Path,
    /// Seals what must not lie open in a row.
    pub(crate) seal: &'a dyn Fn(&[u8]) -> Option<Json>,
}

/// The members of an organisation, up to the first that can't be.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Parents before their children, in the template's order.
    pub(crate) members: Vec<Member>,
    /// What is wrong with the next one.
    pub(crate) error: Option<String>,
    /// What is kept for later.
    pub(crate) kept: Kept,
}

impl Resolver<'_> {
    /// Finds out what every workspace is to be.
    pub(crate) fn members(&self) -> Members {
        let org_env = self.env("");
        let mut found = Members::default();
        for node in self.org.workspaces.iter().filter(|node| node.spawns()) {
            let frame = Frame::of(node);
            if let Err(error) = self.add(&mut found, node, None, (node.canvas, node.canvas), &frame, &org_env)
            {
                found.error = Some(error);
                break;
            }
        }
        self.give_global_memories(&mut found);
        found
    }

    /// Adds a workspace and everything below it.
    fn add(
        &self,
        found: &mut Members,
        node: &Node,
        parent: Option<usize>,
        place: ((f64, f64), (f64, f64)),
        frame: &Frame,
        org_env: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let (absolute, relative) = place;
        let mut member = self.member(node, org_env, &mut found.kept)?;
        (member.parent, member.absolute, member.relative) = (parent, absolute, relative);
        let index = found.members.len();
        found.members.push(member);
        let spawning = node.children.iter().filter(|child| child.spawns());
        for (child, Slot { x, y, frame }) in spawning.zip(&frame.children) {
            let place = ((absolute.0 + x, absolute.1 + y), (*x, *y));
            self.add(found, child, Some(index), place, frame, org_env)?;
        }
        Ok(())
    }

    fn member(
        &self,
        node: &Node,
        org_env: &BTreeMap<String, String>,
        kept: &mut Kept,
    ) -> Result<Member, String> {
        let defaults = &self.org.defaults;
        check_names(node)?;
        let wrong = |what: String| format!("workspace {}: {what}", node.name);

        let asked = first(&[&node.runtime, &defaults.runtime]).unwrap_or_default();
        let external = node.external || asked.trim().eq_ignore_ascii_case(OPERATOR_RUNTIME);
        let runtime = match asked.trim() {
            _ if external => OPERATOR_RUNTIME.to_owned(),
            "" => self.runtimes.sanitize(DEFAULT_RUNTIME),
            asked => self.known(asked),
        };
        let facts = self.runtimes.info(&runtime);
        let hosting = if external { Hosting::Operator } else { facts.hosting };
        let tier = [node.tier, defaults.tier].into_iter().find(|tier| *tier != 0);
        let tier = tier.map_or(Ok(self.tier), |tier| {
            rules::tier(tier).map_err(|_| wrong(format!("tier must be 1, 2, 3 or 4, not {tier}")))
        })?;

        let mut own_env = org_env.clone();
        let has_own = !node.files_dir.is_empty();
        own_env.extend(if has_own { self.env(&node.files_dir) } else { BTreeMap::new() });
        let (workspace_dir, workspace_access) = directory(node, &own_env).map_err(wrong)?;

        let mut secrets = BTreeMap::new();
        if hosting == Hosting::Container {
            secrets = self.persona(&node.files_dir);
            secrets.extend(own_env);
            secrets.retain(|key, _| !rules::is_reserved(key));
        }
        let model = first(&[&node.model, &defaults.model]).map(str::to_owned);
        let elsewhere = secrets.contains_key(MODEL) || self.globals.contains(MODEL);
        let model = model.or_else(|| {
            let default = facts.default_model.unwrap_or_else(|| DEFAULT_MODEL.to_owned());
            (hosting == Hosting::Container && !elsewhere).then_some(default)
        });
        let (spec, channels_skipped) = self.spec(node, model.as_deref(), hosting, kept);
        Ok(Member {
            id: Uuid::new_v4(),
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
            absolute: (0.0, 0.0),
            relative: (0.0, 0.0),
            spec,
            secrets,
            channels_skipped,
        })
    }

    /// A runtime by name; names of those without a container may be written in any case.
    fn known(&self, asked: &str) -> String {
        let lower = self.runtimes.sanitize(&asked.to_ascii_lowercase());
        if self.runtimes.info(&lower).hosting == Hosting::Synthetic {
            lower
        } else {
            self.runtimes.sanitize(asked)
        }
    }

    /// What is kept for those who start it, give it its plugins, schedules, channels and memories.
    fn spec(
        &self,
        node: &Node,
        model: Option<&str>,
        hosting: Hosting,
        kept: &mut Kept,
    ) -> (Json, Vec<SkippedChannel>) {
        let defaults = &self.org.defaults;
        let template = clean(&node.template).filter(|_| !node.template.is_empty());
        let mut of_org = json!({ "dir": self.dir, "name": self.org.name });
        let mut keep = |key: &str, part: Option<Part>, value: Json| {
            if let (false, Some(fields)) = (is_nothing(&value), of_org.as_object_mut()) {
                fields.insert(key.to_owned(), value);
                kept.add(part, &node.name);
            }
        };
        if hosting == Hosting::Container {
            let files_dir = Some(&node.files_dir).filter(|dir| clean(dir).is_some());
            keep("files_dir", Some(Part::Files), json!(files_dir));
            keep("system_prompt", Some(Part::Config), json!(node.system_prompt));
            keep("category_routing", Some(Part::Config), json!(routing(defaults, node)));
            keep("plugins", Some(Part::Plugins), json!(plugins(&defaults.plugins, &node.plugins)));
            let initial = self.prompt(&node.files_dir, &node.prompts.initial, &defaults.prompts.initial);
            keep("initial_prompt", Some(Part::Config), json!(initial));
            if let Some(idle) = self.prompt(&node.files_dir, &node.prompts.idle, &defaults.prompts.idle) {
                keep("idle_prompt", Some(Part::Config), json!(idle));
                keep("idle_interval_seconds", None, json!(idle_seconds(&node.prompts, &defaults.prompts)));
            }
        }
        keep("schedules", Some(Part::Schedules), json!(self.schedules(node)));
        let (channels, skipped) = channels(node);
        if !channels.is_empty() {
            let text = serde_json::to_vec(&channels).unwrap_or_default();
            keep("channels", Some(Part::Channels), (self.seal)(&text).unwrap_or_default());
        }
        let of_node = &node.initial_memories;
        let memories = memories(if of_node.is_empty() { &defaults.initial_memories } else { of_node });
        if !memories.is_empty() {
            kept.add(Some(Part::Memories), &node.name);
        }
        let spec = json!({
            "initial_memories": memories, "model": model, "org": of_org, "template": template,
        });
        (spec, skipped)
    }

    /// The text of a prompt: the node's, else that of its file, else the defaults' in the same order.
    fn prompt(&self, files_dir: &str, own: &Prompt, default: &Prompt) -> Option<String> {
        let file = |directory: &str, prompt: &Prompt| {
            let named = !prompt.file.is_empty() && self.files.has_directory();
            named.then(|| self.file(directory, &prompt.file)).flatten()
        };
        let inline = |prompt: &Prompt| Some(prompt.text.clone()).filter(|text| !text.trim().is_empty());
        let found = inline(own)
            .or_else(|| file(files_dir, own))
            .or_else(|| inline(default))
            .or_else(|| file("", default))?;
        let lines: Vec<&str> = found.trim().lines().map(str::trim_end).collect();
        Some(lines.join("\n"))
    }

    /// A file that a template names. One that isn't there is in the log, and as good as empty.
    fn file(&self, directory: &str, path: &str) -> Option<String> {
        let text = self.files.text(directory, path);
        if text.is_none() {
            tracing::warn!(directory, path, "a prompt's file can't be read; the defaults stand in");
        }
        text.filter(|text| !text.trim().is_empty())
    }

    /// Schedules that can run. Others are in the log.
    fn schedules(&self, node: &Node) -> Vec<Schedule> {
        let complete = |schedule: &Schedule| {
            let file = || self.file(&node.files_dir, &schedule.prompt_file).unwrap_or_default();
            let written = !schedule.prompt.is_empty() || schedule.prompt_file.is_empty();
            let prompt = if written { schedule.prompt.clone() } else { file() };
            let usable = !prompt.is_empty() && schedule.cron_expr.split_whitespace().count() == 5;
            if !usable {
                let (workspace, schedule) = (&node.name, &schedule.name);
                tracing::warn!(workspace, schedule, "a schedule needs a prompt and five fields of cron");
            }
            usable.then(|| Schedule { prompt, ..schedule.clone() })
        };
        node.schedules.iter().filter_map(complete).collect()
    }

    /// Variables of a directory of the template.
    fn env(&self, directory: &str) -> BTreeMap<String, String> {
        self.files.text(directory, ".env").map(|text| env_file::parse(&text)).unwrap_or_default()
    }

    /// Variables of the persona that a node's directory is named after.
    fn persona(&self, files_dir: &str) -> BTreeMap<String, String> {
        let key = files_dir.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if key.is_empty() || !key.bytes().all(is_key) {
            return BTreeMap::new();
        }
        let directory: PathBuf = self.personas.join(key);
        let text = std::fs::read_to_string(directory.join("env")).unwrap_or_default();
        env_file::parse(&text)
    }

    /// What everybody remembers is kept with the first workspace.
    fn give_global_memories(&self, found: &mut Members) {
        let mut all = memories(&self.org.global_memories);
        all.iter_mut().for_each(|memory| "GLOBAL".clone_into(&mut memory.scope));
        let Some(first) = found.members.first_mut().filter(|_| !all.is_empty()) else { return };
        if let Some(Json::Array(memories)) = first.spec.get_mut("initial_memories") {
            memories.extend(all.iter().map(|memory| json!(memory)));
            found.kept.add(Some(Part::Memories), &first.name);
        }
    }
}

fn is_nothing(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

fn first<'a>(texts: &[&'a str]) -> Option<&'a str> {
    texts.iter().copied().find(|text| !text.trim().is_empty())
}

/// Real templates have names and roles that the API would not take from a form; what they must not
/// break are lines and columns.
fn check_names(node: &Node) -> Result<(), String> {
    let shown: String = node.name.chars().filter(|c| !c.is_control()).take(80).collect();
    if node.name.is_empty() || node.name.len() > 255 || node.name.contains(char::is_control) {
        return Err(format!("workspace {shown}: invalid name"));
    }
    for (field, text) in [("model", &node.model), ("runtime", &node.runtime)] {
        if text.len() > 100 || text.contains(['\n', '\r']) {
            return Err(format!("workspace {shown}: invalid {field}"));
        }
    }
    Ok(())
}

/// Directory of the host, and what may be done there.
fn directory(
    node: &Node,
    env: &BTreeMap<String, String>,
) -> Result<(Option<String>, WorkspaceAccess), String> {
    let process = |name: &str| std::env::var(name).ok();
    let dir = Some(expand(&node.workspace_dir, env, process).text).filter(|dir| !dir.is_empty());
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

/// Defaults first, then the node's own; `!name` and `-name` take one away.
fn plugins(defaults: &[Plugin], own: &[Plugin]) -> Vec<Plugin> {
    let mut all: Vec<Plugin> = Vec::new();
    for plugin in defaults.iter().chain(own) {
        let name = plugin.source.trim_start_matches(['!', '-']);
        if name != plugin.source {
            all.retain(|other| other.source != name);
        } else if !name.is_empty() && !all.iter().any(|other| other.source == name) {
            all.push(plugin.clone());
        }
    }
    all
}

/// The node's list of a category replaces that of the defaults; an empty one removes it.
fn routing(defaults: &Defaults, node: &Node) -> Routing {
    let mut all = defaults.category_routing.clone();
    all.extend(node.category_routing.clone());
    all.retain(|category, names| !category.is_empty() && !names.is_empty());
    all
}

fn idle_seconds(own: &Prompts, defaults: &Prompts) -> i64 {
    let given = [own.idle_interval_seconds, defaults.idle_interval_seconds];
    given.into_iter().find(|seconds| *seconds > 0).unwrap_or(IDLE_SECONDS)
}

/// Memories that can be: known scopes, not empty, not too long.
fn memories(all: &[Memory]) -> Vec<Memory> {
    let usable = |memory: &Memory| {
        let scope = if memory.scope.is_empty() { "LOCAL".to_owned() } else { memory.scope.to_uppercase() };
        let known = matches!(scope.as_str(), "LOCAL" | "TEAM" | "GLOBAL");
        let content = &memory.content[..memory.content.floor_char_boundary(MEMORY_BYTES)];
        (known && !content.is_empty()).then(|| Memory { content: content.to_owned(), scope })
    };
    all.iter().filter_map(usable).collect()
}

/// Channels that could be set up, and those that could not.
fn channels(node: &Node) -> (Vec<&Channel>, Vec<SkippedChannel>) {
    let mut usable = Vec::new();
    let mut skipped = Vec::new();
    for channel in &node.channels {
        let reason = match channel.kind.as_str() {
            "" => "empty type",
            kind if CHANNELS.contains(&kind) => {
                usable.push(channel);
                continue;
            }
            _ => "unknown adapter",
        };
        let (kind, workspace) = (channel.kind.clone(), node.name.clone());
        skipped.push(SkippedChannel { reason: reason.to_owned(), kind, workspace });
    }
    (usable, skipped)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use fleet::{Adapter, RuntimeInfo};

    use super::*;

    struct Known;

    impl Runtimes for Known {
        fn sanitize(&self, runtime: &str) -> String {
            let known = ["claude-code", "langgraph", "hermes", "mock"];
            if known.contains(&runtime) { runtime } else { "claude-code" }.to_owned()
        }

        fn info(&self, runtime: &str) -> RuntimeInfo {
            RuntimeInfo {
                hosting: if runtime == "mock" { Hosting::Synthetic } else { Hosting::Container },
                default_model: (runtime == "claude-code").then(|| "sonnet".to_owned()),
                provision_timeout: None::<Duration>,
                self_reports_health: false,
            }
        }

        fn adapter(&self, _: &str) -> Box<dyn Adapter> {
            unreachable!("a template is resolved without plans")
        }
    }

    /// An organisation in a directory with personas beside it.
    struct Scene {
        dir: tempfile::TempDir,
        org: Org,
        globals: HashSet<String>,
    }

    impl Scene {
        fn new(nodes: Vec<Node>, defaults: Defaults) -> Self {
            let org = Org { name: "T".to_owned(), defaults, workspaces: nodes, ..Org::default() };
            Self { dir: tempfile::tempdir().unwrap(), org, globals: HashSet::new() }
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn members(&self) -> Members {
            let root = self.dir.path().join("t");
            fs::create_dir_all(&root).unwrap();
            let bound = fs::canonicalize(self.dir.path()).unwrap();
            let files = Files::Directory { root, bound };
            let resolver = Resolver {
                org: &self.org,
                dir: "t",
                files: &files,
                runtimes: &Known,
                tier: 3,
                globals: &self.globals,
                personas: &self.dir.path().join("personas"),
                seal: &|_| Some(json!("sealed")),
            };
            resolver.members()
        }

        fn only(&self) -> Member {
            let mut found = self.members();
            assert_eq!((found.error, found.members.len()), (None, 1));
            found.members.remove(0)
        }
    }

    fn named(name: &str) -> Node {
        Node { name: name.to_owned(), ..Node::default() }
    }

    #[test]
    fn runtimes_by_table() {
        for (own, default, external, runtime, hosting) in [
            ("", "", false, "langgraph", Hosting::Container),
            ("", "hermes", false, "hermes", Hosting::Container),
            ("claude-code", "hermes", false, "claude-code", Hosting::Container),
            ("unknown", "", false, "claude-code", Hosting::Container),
            (" Mock ", "", false, "mock", Hosting::Synthetic),
            ("external", "", false, "external", Hosting::Operator),
            ("mock", "", true, "external", Hosting::Operator),
        ] {
            let node = Node { runtime: own.to_owned(), external, ..named("A") };
            let defaults = Defaults { runtime: default.to_owned(), ..Defaults::default() };
            let member = Scene::new(vec![node], defaults).only();
            assert_eq!((member.runtime.as_str(), member.hosting), (runtime, hosting), "{own:?}");
        }
    }

    #[test]
    fn later_variables_win_and_only_containers_have_any() {
        let node = Node { files_dir: "teams/lead".to_owned(), ..named("A") };
        let scene =
            Scene::new(vec![node.clone(), Node { runtime: "mock".to_owned(), ..node }], Defaults::default());
        scene.file("personas/lead/env", "A=persona\nB=persona\nC=persona\nPATH=/evil");
        scene.file("t/.env", "B=org\nC=org");
        scene.file("t/teams/lead/.env", "C=own\nPATH=/evil");
        let found = scene.members();
        let secrets: Vec<(&str, &str)> =
            found.members[0].secrets.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(secrets, [("A", "persona"), ("B", "org"), ("C", "own")]);
        assert!(found.members[1].secrets.is_empty());
    }

    #[test]
    fn directories_outside_have_no_variables() {
        for files_dir in ["../other", "/etc", "a/../../other"] {
            let scene =
                Scene::new(vec![Node { files_dir: files_dir.to_owned(), ..named("A") }], Defaults::default());
            scene.file("other/.env", "A=1");
            let member = scene.only();
            assert!(member.secrets.is_empty(), "{files_dir}");
        }
    }

    #[test]
    fn a_models_default_gives_way_to_everything() {
        let model = |scene: &Scene| scene.only().spec["model"].clone();
        let scene =
            Scene::new(vec![Node { runtime: "claude-code".to_owned(), ..named("A") }], Defaults::default());
        assert_eq!(model(&scene), "sonnet");
        assert_eq!(model(&Scene::new(vec![named("A")], Defaults::default())), DEFAULT_MODEL);
        scene.file("t/.env", "MODEL=own");
        assert_eq!(model(&scene), Json::Null);
        let mut scene = Scene::new(vec![named("A")], Defaults::default());
        scene.globals.insert("MODEL".to_owned());
        assert_eq!(model(&scene), Json::Null);
        scene.org.defaults.model = "default".to_owned();
        assert_eq!(model(&scene), "default");
        scene.org.workspaces[0].model = "node".to_owned();
        assert_eq!(model(&scene), "node");
    }

    #[test]
    fn prompts_are_the_nodes_then_the_defaults() {
        let prompt = |text: &str, file: &str| Prompt { text: text.to_owned(), file: file.to_owned() };
        for (own, default, expected) in [
            (prompt("own", "own.md"), prompt("default", ""), json!("own")),
            (prompt("", "own.md"), prompt("default", ""), json!("file of the node")),
            (prompt("", "none.md"), prompt("default", "default.md"), json!("default")),
            (prompt("", ""), prompt("", "default.md"), json!("file of\nthe template")),
            (prompt("", "../../x.md"), prompt("", ""), Json::Null),
            (prompt("", ""), prompt("", ""), Json::Null),
        ] {
            let prompts = |initial: &Prompt| Prompts { initial: initial.clone(), ..Prompts::default() };
            let node = Node { files_dir: "a".to_owned(), prompts: prompts(&own), ..named("A") };
            let scene =
                Scene::new(vec![node], Defaults { prompts: prompts(&default), ..Defaults::default() });
            scene.file("t/a/own.md", "\nfile of the node\n\n");
            scene.file("t/default.md", "file of  \nthe template");
            scene.file("x.md", "secret");
            let spec = scene.only().spec;
            assert_eq!(spec["org"].get("initial_prompt").cloned().unwrap_or_default(), expected, "{own:?}");
        }
    }

    #[test]
    fn lists_are_merged_each_in_its_way() {
        let plugin = |name: &str| Plugin { source: name.to_owned(), config: Json::Null };
        let all = plugins(
            &[plugin("a"), plugin("b"), plugin("c")],
            &[plugin("!b"), plugin("--c"), plugin("d"), plugin("a"), plugin("c"), plugin("!")],
        );
        assert_eq!(all.iter().map(|it| it.source.as_str()).collect::<Vec<_>>(), ["a", "d", "c"]);

        let map = |pairs: &[(&str, &[&str])]| -> Routing {
            let pair = |(key, names): &(&str, &[&str])| {
                ((*key).to_owned(), names.iter().map(ToString::to_string).collect())
            };
            pairs.iter().map(pair).collect()
        };
        let defaults = Defaults {
            category_routing: map(&[("a", &["x"]), ("b", &["x"]), ("", &["x"])]),
            ..Defaults::default()
        };
        let node = Node { category_routing: map(&[("a", &["y", "z"]), ("b", &[])]), ..Node::default() };
        assert_eq!(routing(&defaults, &node), map(&[("a", &["y", "z"])]));

        let memory =
            |content: &str, scope: &str| Memory { content: content.to_owned(), scope: scope.to_owned() };
        let long = "ä".repeat(60_000);
        let kept = memories(&[
            memory("a", ""),
            memory("b", "team"),
            memory("c", "else"),
            memory("", ""),
            memory(&long, ""),
        ]);
        assert_eq!((&kept[0], &kept[1]), (&memory("a", "LOCAL"), &memory("b", "TEAM")));
        assert_eq!((kept.len(), kept[2].content.len()), (3, MEMORY_BYTES));
    }

    #[test]
    fn a_fault_ends_the_tree_in_depth_first_order() {
        let bad = Node { workspace_dir: "x".to_owned(), ..named("Bad") };
        let tree = Node {
            children: vec![named("B"), Node { children: vec![bad], ..named("C") }, named("D")],
            ..named("A")
        };
        let found = Scene::new(vec![tree, named("E")], Defaults::default()).members();
        assert_eq!(found.members.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["A", "B", "C"]);
        assert_eq!(found.error.as_deref(), Some("workspace Bad: workspace_dir must be an absolute path"));
    }

    #[test]
    fn schedules_need_a_prompt_and_a_time() {
        let schedule = |cron: &str, prompt: &str, file: &str| Schedule {
            name: "s".to_owned(),
            cron_expr: cron.to_owned(),
            timezone: "UTC".to_owned(),
            prompt: prompt.to_owned(),
            prompt_file: file.to_owned(),
            enabled: true,
        };
        let schedules = vec![
            schedule("0 9 * * 1", "go", ""),
            schedule("0 9 * *", "go", ""),
            schedule("0 9 * * 1", "", "none.md"),
            schedule("0 9 * * 1", "", "s.md"),
        ];
        let scene = Scene::new(vec![Node { schedules, ..named("A") }], Defaults::default());
        scene.file("t/s.md", "from a file");
        let kept = scene.only().spec["org"]["schedules"].clone();
        let prompts: Vec<&str> =
            kept.as_array().unwrap().iter().map(|it| it["prompt"].as_str().unwrap()).collect();
        assert_eq!(prompts, ["go", "from a file"]);
    }
}
