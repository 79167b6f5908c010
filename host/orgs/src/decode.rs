//! From a tree of YAML nodes to a template: the fields and their types.

use serde_json::Value as Json;
use types::{InitialMemory, PluginSpec};
use wasm::{
    Problem,
    template::{Mark, Node as Yaml, Tree, Value},
};

use crate::{
    fields::{Fields, InvalidValue, NodeRef, Reader},
    limits::{Limits, NAME_BYTES, ROLE_BYTES},
    shown::shown,
    template::{Channel, Defaults, Node, Org, Placed, Prompt, Prompts, Requirement, Routing, Schedule},
};

/// Levels of free JSON in a template at most.
const FREE_JSON_LEVELS: usize = 64;

/// Tag of a part that lies in another repository.
const EXTERNAL: &str = "!external";

/// Tags of the YAML core schema, which are the types of scalars …
const SCALAR_TAGS: [&str; 5] = ["!!str", "!!int", "!!float", "!!bool", "!!null"];

/// … and of collections.
const COLLECTION_TAGS: [&str; 2] = ["!!seq", "!!map"];

/// Decodes a template.
///
/// # Errors
/// If a value isn't of its field's type, a tag is unknown, or the template exceeds `limits`.
pub(crate) fn org(tree: &Tree, limits: Limits) -> Result<Org, InvalidValue> {
    let reader = Reader::of(tree);
    let root = reader.root();
    check_tags(root)?;
    let org = root.record("the template", |fields| {
        Ok(Org {
            name: fields.short_text("name", NAME_BYTES)?,
            description: fields.free_text("description")?,
            defaults: fields.read("defaults", defaults)?,
            workspaces: fields.read("workspaces", |value| {
                let workspaces = nodes(value, 1, limits)?;
                let count = count(&workspaces);
                if count > limits.nodes {
                    let allowed = limits.nodes;
                    let message =
                        format!("{count} workspaces are too many: {allowed} may be imported at once");
                    return Err(value.invalid(message));
                }
                Ok(workspaces)
            })?,
            global_memories: fields.list("global_memories", memory)?,
            required_env: fields.list("required_env", requirement)?,
            recommended_env: fields.list("recommended_env", requirement)?,
            warnings: Vec::new(),
        })
    })?;
    Ok(Org { warnings: reader.warnings(), ..org })
}

/// Number of workspaces of all levels.
pub(crate) fn count(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| 1 + count(&node.children)).sum()
}

/// The first part of a template that would have to be fetched, which nothing does yet. Without it the
/// organization is not complete.
pub(crate) fn external(tree: &Tree) -> Option<Problem> {
    let mut left = vec![&tree.root];
    while let Some(node) = left.pop() {
        let field = |(key, value): &(Yaml, Yaml)| match (&key.value, &value.value) {
            (Value::Scalar { text: key, .. }, Value::Scalar { text, .. }) if key == "repo" => {
                Some(text.clone())
            }
            _ => None,
        };
        match &node.value {
            Value::Mapping(entries) if node.tag.as_deref() == Some(EXTERNAL) => {
                let repo = entries.iter().find_map(field).unwrap_or_default();
                let file = tree.files.get(node.mark.file as usize);
                let at = file.map(|file| format!("{}:{}:{}", shown(file), node.mark.line, node.mark.column));
                let message = format!(
                    "`{EXTERNAL} {}` is not fetched by this release: copy the files of that repository \
                     into the template and use `!include`",
                    shown(&repo)
                );
                return Some(Problem { at, message });
            }
            Value::Mapping(entries) => {
                left.extend(entries.iter().rev().flat_map(|(key, value)| [value, key]));
            }
            Value::Sequence(items) => left.extend(items.iter().rev()),
            Value::Scalar { .. } => {}
        }
    }
    None
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
    value.record("defaults", |fields| {
        Ok(Defaults {
            runtime: fields.text("runtime")?,
            tier: fields.integer("tier")?,
            model: fields.text("model")?,
            plugins: fields.list("plugins", plugin)?,
            prompts: prompts(fields)?,
            category_routing: fields.read("category_routing", routing)?,
            initial_memories: fields.list("initial_memories", memory)?,
            marks: fields.marks(),
        })
    })
}

fn nodes(value: NodeRef<'_>, level: usize, limits: Limits) -> Result<Vec<Node>, InvalidValue> {
    value.items(|item| node(item, level, limits))
}

fn node(value: NodeRef<'_>, level: usize, limits: Limits) -> Result<Node, InvalidValue> {
    if level > limits.levels {
        return Err(value.invalid(format!("workspaces may be nested {} deep", limits.levels)));
    }
    value.record("a workspace", |fields| {
        Ok(Node {
            name: fields.text("name")?,
            role: fields.short_text("role", ROLE_BYTES)?,
            runtime: fields.text("runtime")?,
            tier: fields.integer("tier")?,
            template: fields.path("template")?,
            files_dir: fields.path("files_dir")?,
            spawning: fields.flag("spawning")?,
            system_prompt: fields.shared_text("system_prompt")?,
            model: fields.text("model")?,
            workspace_dir: fields.text("workspace_dir")?,
            workspace_access: fields.text("workspace_access")?,
            plugins: fields.list("plugins", plugin)?,
            prompts: prompts(fields)?,
            category_routing: fields.read("category_routing", routing)?,
            initial_memories: fields.list("initial_memories", memory)?,
            max_concurrent_tasks: fields.integer("max_concurrent_tasks")?,
            schedules: fields.list("schedules", schedule)?,
            channels: fields.list("channels", channel)?,
            external: fields.flag("external")?.unwrap_or(false),
            url: fields.text("url")?,
            canvas: fields.read("canvas", |value| {
                value.record("canvas", |fields| Ok((fields.number("x")?, fields.number("y")?)))
            })?,
            required_env: fields.list("required_env", requirement)?,
            recommended_env: fields.list("recommended_env", requirement)?,
            children: fields.read("children", |value| nodes(value, level + 1, limits))?,
            marks: fields.marks(),
        })
    })
}

fn prompts(fields: &Fields<'_>) -> Result<Prompts, InvalidValue> {
    Ok(Prompts {
        initial: Prompt {
            text: fields.shared_text("initial_prompt")?,
            file: fields.path("initial_prompt_file")?,
        },
        idle: Prompt { text: fields.shared_text("idle_prompt")?, file: fields.path("idle_prompt_file")? },
        idle_interval_seconds: fields.integer("idle_interval_seconds")?,
    })
}

/// A plugin's name, or its source with a configuration.
fn plugin(value: NodeRef<'_>) -> Result<PluginSpec, InvalidValue> {
    if value.is_scalar() {
        return Ok(PluginSpec { source: value.text()?, config: Json::Null });
    }
    value.record("a plugin", |fields| {
        Ok(PluginSpec { source: fields.text("source")?, config: fields.read("config", free_json)? })
    })
}

/// Free JSON, which is stored as it is: databases give back what has at most 127 levels, with the row around it.
fn free_json(value: NodeRef<'_>) -> Result<Json, InvalidValue> {
    if value.levels() > FREE_JSON_LEVELS {
        return Err(value.invalid(format!("is nested too deeply: at most {FREE_JSON_LEVELS} levels")));
    }
    Ok(value.json())
}

fn routing(value: NodeRef<'_>) -> Result<Routing, InvalidValue> {
    Ok(value.fields()?.map(|names| names.items(NodeRef::text))?.into_iter().collect())
}

fn memory(value: NodeRef<'_>) -> Result<InitialMemory, InvalidValue> {
    value.record("a memory", |fields| {
        Ok(InitialMemory { content: fields.shared_text("content")?, scope: fields.text("scope")? })
    })
}

fn schedule(value: NodeRef<'_>) -> Result<Schedule, InvalidValue> {
    value.record("a schedule", |fields| {
        let timezone = fields.text("timezone")?;
        Ok(Schedule {
            name: fields.text("name")?,
            cron_expr: fields.text("cron_expr")?,
            timezone: if timezone.is_empty() { "UTC".to_owned() } else { timezone },
            prompt: fields.shared_text("prompt")?,
            prompt_file: fields.path("prompt_file")?,
            enabled: fields.flag("enabled")?.unwrap_or(true),
            marks: fields.marks(),
        })
    })
}

fn channel(value: NodeRef<'_>) -> Result<Channel, InvalidValue> {
    value.record("a channel", |fields| {
        Ok(Channel {
            kind: fields.text("type")?,
            config: fields
                .read("config", |value| Ok(value.fields()?.map(NodeRef::text)?.into_iter().collect()))?,
            allowed_users: fields.texts("allowed_users")?,
            enabled: fields.flag("enabled")?.unwrap_or(true),
        })
    })
}

/// A setting's name, or `any_of` with several.
fn requirement(value: NodeRef<'_>) -> Result<Placed<Requirement>, InvalidValue> {
    let placed = |requirement| Placed { at: value.place(), value: requirement };
    if value.is_scalar() {
        return Ok(placed(Requirement::One(value.text()?)));
    }
    let any_of = value.record("a requirement", |fields| fields.texts("any_of"))?;
    if any_of.is_empty() {
        return Err(value.invalid("needs a name, or `any_of` with a list of names"));
    }
    Ok(placed(Requirement::Any { any_of }))
}

/// Tags are those of the YAML core schema, such as `!!int`, on values of their kind. Others are most likely
/// misspelled directives.
fn check_tags(value: NodeRef<'_>) -> Result<(), InvalidValue> {
    let Some(tag) = value.tag() else { return value.check_children(check_tags) };
    if !SCALAR_TAGS.contains(&tag) && !COLLECTION_TAGS.contains(&tag) {
        return Err(value
            .invalid(format!("unknown tag `{}`: a template has `!include` and `{EXTERNAL}`", shown(tag))));
    }
    let fits = match tag {
        "!!seq" => value.is_sequence(),
        "!!map" => !value.is_sequence() && !value.is_scalar(),
        _ => value.is_scalar(),
    };
    if fits {
        value.check_children(check_tags)
    } else {
        Err(value.invalid(format!("the tag `{tag}` does not fit")))
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
        for tag in ["!!secret", "!!binary", "!secret"] {
            assert!(tagged(tag).unwrap_err().message.contains(&format!("unknown tag `{tag}`")));
        }
        assert!(tagged("!!map").unwrap_err().message.contains("does not fit"));
    }

    #[test]
    fn keys_that_resemble_known_ones_are_reported_and_others_ignored() {
        let template = json!({
            "name": "T",
            "Description": "d",
            "template_schema_version": 1,
            "workspaces": [
                { "name": "A", "chidren": [], "runtme": "mock", "parent": "x", "schedules": [{ "promt": "p" }] },
                { "name": "B", "chidren": [] },
            ],
        });
        let warnings = decoded(&template).unwrap().warnings;
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        for part in [
            "template: the template has no field `Description`, which is ignored; did you mean `description`?",
            "workspaces[0]: a workspace has no field `chidren`, which is ignored; did you mean `children`? \
             (and in 1 more places)",
            "workspaces[0]: a workspace has no field `runtme`",
            "workspaces[0].schedules[0]: a schedule has no field `promt`",
        ] {
            assert!(warnings.iter().any(|warning| warning.starts_with(part)), "{part}: {warnings:?}");
        }
    }

    #[test]
    fn many_unknown_keys_are_possible() {
        let node = |number: usize| {
            let unknown = (0..25).map(|key| (format!("x-{number}-{key}"), json!(1)));
            Json::Object(unknown.chain([("name".to_owned(), json!(number))]).collect())
        };
        let template = json!({ "name": "T", "workspaces": (0..2_000).map(node).collect::<Vec<_>>() });
        let org = decoded(&template).unwrap();
        assert_eq!((org.workspaces.len(), org.warnings), (2_000, Vec::new()));
    }

    #[test]
    fn sixty_four_levels_of_workspaces_are_allowed() {
        let nested = |levels: usize| {
            let leaf = json!({ "name": "N" });
            (1..levels).fold(leaf, |below, _| json!({ "name": "N", "children": [below] }))
        };
        let org = |levels| decoded(&json!({ "name": "T", "workspaces": [nested(levels)] }));
        assert_eq!(count(&org(64).unwrap().workspaces), 64);
        let error = org(65).unwrap_err();
        assert!(error.message.contains("workspaces may be nested 64 deep"), "{error}");
        assert!(
            error.path.starts_with("workspaces[0].children[0].ch") && error.path.contains('…'),
            "{error}"
        );
    }

    #[test]
    fn names_and_roles_have_a_maximum_length() {
        let error = decoded(&json!({ "name": "x".repeat(256) })).unwrap_err();
        assert_eq!(error.to_string(), "name: 256 bytes are too long: at most 255 are allowed");
        let node = json!({ "name": "A", "role": "x".repeat(ROLE_BYTES + 1) });
        let error = decoded(&json!({ "name": "T", "workspaces": [node] })).unwrap_err();
        assert!(error.to_string().starts_with("workspaces[0].role: 65537 bytes are too long"), "{error}");
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
        assert_eq!(&*node.system_prompt, replaced);
        assert_eq!(&*node.initial_memories[0].content, replaced);
        assert_eq!(node.plugins[0].config, json!({ replaced: replaced }));
        assert_eq!(&*node.schedules[0].prompt, replaced);
        for field in ["name", "role", "model", "runtime"] {
            let error = decoded(&json!({ "name": "T", "workspaces": [{ field: nul }] })).unwrap_err();
            assert_eq!(error.path, format!("workspaces[0].{field}"));
        }
    }

    #[test]
    fn no_field_names_a_file_with_credentials() {
        for (field, path) in [
            ("initial_prompt_file", ".env"),
            ("idle_prompt_file", "../.env.production"),
            ("files_dir", ".ssh"),
            ("files_dir", "a/.git/hooks"),
            ("template", ".aws"),
        ] {
            let error = decoded(&json!({ "name": "T", "workspaces": [{ field: path }] })).unwrap_err();
            assert_eq!(error.path, format!("workspaces[0].{field}"));
            assert!(error.message.contains("files with credentials"), "{error}");
        }
        let schedule = json!({ "schedules": [{ "prompt_file": "server.key" }] });
        let error = decoded(&json!({ "name": "T", "workspaces": [schedule] })).unwrap_err();
        assert_eq!(error.path, "workspaces[0].schedules[0].prompt_file");
        let error =
            decoded(&json!({ "name": "T", "defaults": { "initial_prompt_file": "id_rsa" } })).unwrap_err();
        assert_eq!(error.path, "defaults.initial_prompt_file");
    }

    #[test]
    fn an_error_at_the_root_has_no_path() {
        let error = decoded(&json!([])).unwrap_err();
        assert_eq!(error.to_string(), "needs a mapping of fields");
    }
}
