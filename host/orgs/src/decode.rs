//! From a tree of nodes to a template: which fields there are, and of what type.

use serde_json::Value as Json;
use wasm::template::{Mark, Node as Yaml, Tree, Value};

use fleet::Memory;

use crate::{
    fields::{Invalid, Place},
    limits::Limits,
    requirements::Requirement,
    template::{Channel, Defaults, Node, Org, Plugin, Prompt, Prompts, Routing, Schedule},
};

/// Tag of what is fetched from elsewhere.
const EXTERNAL: &str = "!external";

/// Reads a template.
///
/// # Errors
/// If a value isn't of its field's type, or there are more workspaces than one import may have.
pub(crate) fn org(tree: &Tree, limits: Limits) -> Result<Org, Invalid> {
    let root = Place::root(tree);
    let fields = root.fields()?;
    let org = Org {
        name: fields.text("name")?,
        description: fields.text("description")?,
        defaults: fields.read("defaults", |value| match external(value) {
            Some(_) => Ok(Defaults::default()),
            None => defaults(value),
        })?,
        workspaces: fields.read("workspaces", |value| nodes(value, 1, limits))?,
        global_memories: fields.list("global_memories", memory)?,
        required_env: fields.list("required_env", requirement)?,
        recommended_env: fields.list("recommended_env", requirement)?,
        externals: Vec::new(),
    };
    let mut externals = Vec::new();
    collect_externals(root, &mut externals);
    let count = count(&org.workspaces);
    if count > limits.nodes {
        let message = format!("{count} workspaces are too many: {} may be imported at once", limits.nodes);
        return Err(Invalid { at: root.at(), path: "workspaces".to_owned(), message });
    }
    Ok(Org { externals, ..org })
}

/// Workspaces of a tree, all levels.
pub(crate) fn count(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| 1 + count(&node.children)).sum()
}

/// A template that came as JSON, as the tree that it would be in YAML.
pub(crate) fn tree(template: &Json) -> Tree {
    Tree { files: Vec::new(), root: yaml(template) }
}

fn yaml(json: &Json) -> Yaml {
    let scalar = |text: String, quoted| Value::Scalar { text, quoted };
    let value = match json {
        Json::Null => scalar("null".to_owned(), false),
        Json::Bool(flag) => scalar(flag.to_string(), false),
        Json::Number(number) => scalar(number.to_string(), false),
        Json::String(text) => scalar(text.clone(), true),
        Json::Array(items) => Value::Sequence(items.iter().map(yaml).collect()),
        Json::Object(fields) => {
            let pair = |(key, value): (&String, &Json)| (yaml(&Json::from(key.as_str())), yaml(value));
            Value::Mapping(fields.iter().map(pair).collect())
        }
    };
    Yaml { value, mark: Mark { file: 0, line: 0, column: 0 }, tag: None }
}

fn defaults(value: Place<'_>) -> Result<Defaults, Invalid> {
    let fields = value.fields()?;
    Ok(Defaults {
        runtime: fields.text("runtime")?,
        tier: fields.integer("tier")?,
        model: fields.text("model")?,
        plugins: fields.list("plugins", plugin)?,
        prompts: prompts(value)?,
        category_routing: fields.read("category_routing", routing)?,
        initial_memories: fields.list("initial_memories", memory)?,
    })
}

/// A list of workspaces, without those that stand elsewhere.
fn nodes(value: Place<'_>, level: usize, limits: Limits) -> Result<Vec<Node>, Invalid> {
    if external(value).is_some() {
        return Ok(Vec::new());
    }
    let found =
        value.items(
            |item| {
                if external(item).is_some() { Ok(None) } else { node(item, level, limits).map(Some) }
            },
        )?;
    Ok(found.into_iter().flatten().collect())
}

fn node(value: Place<'_>, level: usize, limits: Limits) -> Result<Node, Invalid> {
    let fields = value.fields()?;
    if level > limits.levels {
        let message = format!("workspaces may be nested {} deep", limits.levels);
        return Err(Invalid { at: value.at(), path: String::new(), message });
    }
    Ok(Node {
        name: fields.text("name")?,
        role: fields.text("role")?,
        runtime: fields.text("runtime")?,
        tier: fields.integer("tier")?,
        template: fields.text("template")?,
        files_dir: fields.text("files_dir")?,
        spawning: fields.flag("spawning")?,
        system_prompt: fields.text("system_prompt")?,
        model: fields.text("model")?,
        workspace_dir: fields.text("workspace_dir")?,
        workspace_access: fields.text("workspace_access")?,
        plugins: fields.list("plugins", plugin)?,
        prompts: prompts(value)?,
        category_routing: fields.read("category_routing", routing)?,
        initial_memories: fields.list("initial_memories", memory)?,
        max_concurrent_tasks: fields.integer("max_concurrent_tasks")?,
        schedules: fields.list("schedules", schedule)?,
        channels: fields.list("channels", channel)?,
        external: fields.flag("external")?.unwrap_or(false),
        url: fields.text("url")?,
        canvas: fields.read("canvas", |value| {
            let fields = value.fields()?;
            Ok((fields.number("x")?, fields.number("y")?))
        })?,
        required_env: fields.list("required_env", requirement)?,
        recommended_env: fields.list("recommended_env", requirement)?,
        children: fields.read("children", |value| nodes(value, level + 1, limits))?,
    })
}

fn prompts(value: Place<'_>) -> Result<Prompts, Invalid> {
    let fields = value.fields()?;
    Ok(Prompts {
        initial: Prompt { text: fields.text("initial_prompt")?, file: fields.text("initial_prompt_file")? },
        idle: Prompt { text: fields.text("idle_prompt")?, file: fields.text("idle_prompt_file")? },
        idle_interval_seconds: fields.integer("idle_interval_seconds")?,
    })
}

/// By name, or with what it is told.
fn plugin(value: Place<'_>) -> Result<Plugin, Invalid> {
    if let Ok(source) = value.text() {
        return Ok(Plugin { source, config: Json::Null });
    }
    let fields = value.fields()?;
    let config = fields.get("config").map_or(Json::Null, Place::json);
    Ok(Plugin { source: fields.text("source")?, config })
}

fn routing(value: Place<'_>) -> Result<Routing, Invalid> {
    let entries = value.fields()?;
    entries.iter().map(|(category, names)| Ok((category.to_owned(), names.items(Place::text)?))).collect()
}

fn memory(value: Place<'_>) -> Result<Memory, Invalid> {
    let fields = value.fields()?;
    Ok(Memory { content: fields.text("content")?, scope: fields.text("scope")? })
}

fn schedule(value: Place<'_>) -> Result<Schedule, Invalid> {
    let fields = value.fields()?;
    let timezone = fields.text("timezone")?;
    Ok(Schedule {
        name: fields.text("name")?,
        cron_expr: fields.text("cron_expr")?,
        timezone: if timezone.is_empty() { "UTC".to_owned() } else { timezone },
        prompt: fields.text("prompt")?,
        prompt_file: fields.text("prompt_file")?,
        enabled: fields.flag("enabled")?.unwrap_or(true),
    })
}

fn channel(value: Place<'_>) -> Result<Channel, Invalid> {
    let fields = value.fields()?;
    Ok(Channel {
        kind: fields.text("type")?,
        config: fields.read("config", |value| {
            let entries = value.fields()?;
            entries.iter().map(|(key, value)| Ok((key.to_owned(), value.text()?))).collect()
        })?,
        allowed_users: fields.texts("allowed_users")?,
        enabled: fields.flag("enabled")?.unwrap_or(true),
    })
}

/// A name, or names of which one is enough.
fn requirement(value: Place<'_>) -> Result<Requirement, Invalid> {
    if let Ok(name) = value.text() {
        return Ok(Requirement::One(name));
    }
    let any_of = value.fields()?.texts("any_of")?;
    if any_of.is_empty() {
        let message = "needs a name, or `any_of` with a list of names".to_owned();
        return Err(Invalid { at: value.at(), path: String::new(), message });
    }
    Ok(Requirement::Any { any_of })
}

/// What an `!external` part is called in warnings.
fn external(value: Place<'_>) -> Option<String> {
    (value.tag() == Some(EXTERNAL)).then(|| {
        let repo = value.fields().and_then(|fields| fields.text("repo")).unwrap_or_default();
        let at = value.at().map(|at| format!("{at}: ")).unwrap_or_default();
        format!("{at}{EXTERNAL} {repo}")
    })
}

/// Every `!external` below a place. The resolver checked their fields.
fn collect_externals(value: Place<'_>, found: &mut Vec<String>) {
    if let Some(what) = external(value) {
        found.push(what);
    }
    for child in value.children() {
        collect_externals(child, found);
    }
}
