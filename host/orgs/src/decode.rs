//! From a tree of YAML nodes to a template: the fields and their types.

use serde_json::Value as Json;
use types::{InitialMemory, PluginSpec};
use wasm::template::{Mark, Node as Yaml, Tree, Value};

use crate::{
    fields::{InvalidValue, NodeRef},
    limits::Limits,
    template::{Channel, Defaults, Node, Org, Prompt, Prompts, Requirement, Routing, Schedule},
};

/// Levels of free JSON in a template at most.
const FREE_JSON_LEVELS: usize = 64;

/// Tag of a part that lies in another repository.
const EXTERNAL: &str = "!external";

/// Decodes a template.
///
/// # Errors
/// If a value isn't of its field's type, a tag is unknown, or the template exceeds `limits`.
pub(crate) fn org(tree: &Tree, limits: Limits) -> Result<Org, InvalidValue> {
    let root = NodeRef::root(tree);
    check_tags(root)?;
    let fields = root.fields()?;
    let org = Org {
        name: fields.text("name")?,
        description: fields.free_text("description")?,
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
        return Err(InvalidValue { at: root.at(), path: "workspaces".to_owned(), message });
    }
    Ok(Org { externals, ..org })
}

/// Number of workspaces of all levels.
pub(crate) fn count(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| 1 + count(&node.children)).sum()
}

/// An inline template as the tree that its YAML would give.
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

fn defaults(value: NodeRef<'_>) -> Result<Defaults, InvalidValue> {
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

/// A list of workspaces without its `!external` parts.
fn nodes(value: NodeRef<'_>, level: usize, limits: Limits) -> Result<Vec<Node>, InvalidValue> {
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

fn node(value: NodeRef<'_>, level: usize, limits: Limits) -> Result<Node, InvalidValue> {
    let fields = value.fields()?;
    if level > limits.levels {
        let message = format!("workspaces may be nested {} deep", limits.levels);
        return Err(value.invalid(message));
    }
    Ok(Node {
        name: fields.text("name")?,
        role: fields.text("role")?,
        runtime: fields.text("runtime")?,
        tier: fields.integer("tier")?,
        template: fields.text("template")?,
        files_dir: fields.text("files_dir")?,
        spawning: fields.flag("spawning")?,
        system_prompt: fields.free_text("system_prompt")?,
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

fn prompts(value: NodeRef<'_>) -> Result<Prompts, InvalidValue> {
    let fields = value.fields()?;
    Ok(Prompts {
        initial: Prompt {
            text: fields.free_text("initial_prompt")?,
            file: fields.text("initial_prompt_file")?,
        },
        idle: Prompt { text: fields.free_text("idle_prompt")?, file: fields.text("idle_prompt_file")? },
        idle_interval_seconds: fields.integer("idle_interval_seconds")?,
    })
}

/// A plugin's name, or its source with a configuration.
fn plugin(value: NodeRef<'_>) -> Result<PluginSpec, InvalidValue> {
    if let Ok(source) = value.text() {
        return Ok(PluginSpec { source, config: Json::Null });
    }
    let fields = value.fields()?;
    let config = fields.get("config").map_or(Ok(Json::Null), free_json)?;
    Ok(PluginSpec { source: fields.text("source")?, config })
}

/// Free JSON, which is stored as it is: databases give back what has at most 127 levels, with the row around it.
fn free_json(value: NodeRef<'_>) -> Result<Json, InvalidValue> {
    if value.levels() > FREE_JSON_LEVELS {
        return Err(value.invalid(format!("is nested too deeply: at most {FREE_JSON_LEVELS} levels")));
    }
    Ok(value.json())
}

fn routing(value: NodeRef<'_>) -> Result<Routing, InvalidValue> {
    let entries = value.fields()?;
    entries.iter().map(|(category, names)| Ok((category.to_owned(), names.items(NodeRef::text)?))).collect()
}

fn memory(value: NodeRef<'_>) -> Result<InitialMemory, InvalidValue> {
    let fields = value.fields()?;
    Ok(InitialMemory { content: fields.free_text("content")?, scope: fields.text("scope")? })
}

fn schedule(value: NodeRef<'_>) -> Result<Schedule, InvalidValue> {
    let fields = value.fields()?;
    let timezone = fields.text("timezone")?;
    Ok(Schedule {
        name: fields.text("name")?,
        cron_expr: fields.text("cron_expr")?,
        timezone: if timezone.is_empty() { "UTC".to_owned() } else { timezone },
        prompt: fields.free_text("prompt")?,
        prompt_file: fields.text("prompt_file")?,
        enabled: fields.flag("enabled")?.unwrap_or(true),
    })
}

fn channel(value: NodeRef<'_>) -> Result<Channel, InvalidValue> {
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

/// A setting's name, or `any_of` with several.
fn requirement(value: NodeRef<'_>) -> Result<Requirement, InvalidValue> {
    if let Ok(name) = value.text() {
        return Ok(Requirement::One(name));
    }
    let any_of = value.fields()?.texts("any_of")?;
    if any_of.is_empty() {
        return Err(value.invalid("needs a name, or `any_of` with a list of names"));
    }
    Ok(Requirement::Any { any_of })
}

/// An `!external` part as warnings name it.
fn external(value: NodeRef<'_>) -> Option<String> {
    (value.tag() == Some(EXTERNAL)).then(|| {
        let repo = value.fields().and_then(|fields| fields.text("repo")).unwrap_or_default();
        let at = value.at().map(|at| format!("{at}: ")).unwrap_or_default();
        format!("{at}{EXTERNAL} {repo}")
    })
}

/// Tags are `!external`, which is left for later, and those of the YAML core schema, such as `!!int`. Others
/// are most likely misspelled directives.
fn check_tags(value: NodeRef<'_>) -> Result<(), InvalidValue> {
    match value.tag() {
        Some(tag) if tag != EXTERNAL && !tag.starts_with("!!") => {
            Err(value.invalid(format!("unknown tag `{tag}`: a template has `!include` and `{EXTERNAL}`")))
        }
        _ => value.check_children(check_tags),
    }
}

/// Collects every `!external` part of a tree. The resolver has checked their fields.
fn collect_externals(value: NodeRef<'_>, found: &mut Vec<String>) {
    if let Some(shown) = external(value) {
        found.push(shown);
    }
    for child in value.children() {
        collect_externals(child, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decoded(template: &Json) -> Result<Org, InvalidValue> {
        org(&tree(template), Limits::default())
    }

    #[test]
    fn unknown_tags_are_refused_with_their_path() {
        let tagged = |tag: &str| {
            let mut tree = tree(&json!({ "name": "T", "workspaces": [{ "name": "A", "role": "r" }] }));
            let Value::Mapping(fields) = &mut tree.root.value else { panic!("no mapping") };
            let Value::Sequence(items) = &mut fields.last_mut().unwrap().1.value else { panic!("no list") };
            let Value::Mapping(fields) = &mut items[0].value else { panic!("no mapping") };
            fields.last_mut().unwrap().1.tag = Some(tag.to_owned());
            org(&tree, Limits::default())
        };
        let error = tagged("!inlcude").unwrap_err();
        assert_eq!(error.path, "workspaces[0].role");
        assert!(error.message.contains("unknown tag `!inlcude`"), "{error}");
        assert_eq!(tagged("!!str").unwrap().workspaces[0].role, "r");
    }

    #[test]
    fn nul_is_replaced_in_free_text_and_refused_in_names() {
        let nul = "a\0b";
        let template = json!({
            "name": "T",
            "workspaces": [{
                "name": "A",
                "system_prompt": nul,
                "initial_memories": [{ "content": nul }],
                "plugins": [{ "source": "p", "config": { nul: nul } }],
                "schedules": [{ "prompt": nul }],
            }],
        });
        let node = decoded(&template).unwrap().workspaces.remove(0);
        let replaced = "a\u{fffd}b";
        assert_eq!(node.system_prompt, replaced);
        assert_eq!(node.initial_memories[0].content, replaced);
        assert_eq!(node.plugins[0].config, json!({ replaced: replaced }));
        assert_eq!(node.schedules[0].prompt, replaced);
        for field in ["name", "role", "model", "runtime"] {
            let error = decoded(&json!({ "name": "T", "workspaces": [{ field: nul }] })).unwrap_err();
            assert_eq!(error.path, format!("workspaces[0].{field}"));
        }
    }

    #[test]
    fn an_error_at_the_root_has_no_path() {
        let error = decoded(&json!([])).unwrap_err();
        assert_eq!(error.to_string(), "needs a mapping of fields");
    }
}
