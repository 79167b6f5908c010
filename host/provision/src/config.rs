//! Files of a configuration directory: the generated `config.yaml`, and what adapters plan.

use serde_yaml::{Mapping, Value as Yaml};
use wasm::adapter::{Content, File, Value};

use crate::{NotReady, spec::ConfigFile, workspace::Workspace};

/// Where an agent's configuration begins.
const CONFIG: &str = "config.yaml";

/// The configuration of a workspace that is made from no template.
pub(crate) fn generated(workspace: &Workspace<'_>, model: &str) -> ConfigFile {
    let text = format!(
        "name: {}\ndescription: {}\nversion: \"1.0.0\"\ntier: {}\nruntime: {}\nmodel: {}\nruntime_config:\n  \
         timeout: 0\n",
        quoted(workspace.name),
        quoted(workspace.role.unwrap_or_default()),
        workspace.tier,
        quoted(workspace.runtime),
        quoted(model),
    );
    ConfigFile { path: CONFIG.to_owned(), content: text.into_bytes() }
}

/// A text on one line between double quotes. What JSON escapes, YAML escapes alike.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.replace(['\r', '\n'], "")).to_string()
}

/// A file that an adapter plans, as bytes.
pub(crate) fn planned(file: &File, runtime: &str) -> Result<ConfigFile, NotReady> {
    let content = match &file.content {
        Content::Bytes(bytes) => bytes.clone(),
        Content::Yaml(value) => serde_yaml::to_string(&yaml(value))
            .map_err(|_| NotReady::Yaml { runtime: runtime.to_owned(), path: file.path.clone() })?
            .into_bytes(),
    };
    Ok(ConfigFile { path: file.path.clone(), content })
}

fn yaml(value: &Value) -> Yaml {
    match value {
        Value::Null => Yaml::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Decimal(value) => (*value).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Sequence(items) => Yaml::Sequence(items.iter().map(yaml).collect()),
        Value::Mapping(entries) => {
            let entries = entries.iter().map(|(key, value)| (Yaml::from(key.as_str()), yaml(value)));
            Yaml::Mapping(entries.collect::<Mapping>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_values_are_written_as_yaml_in_their_order() {
        let text = |text: &str| Value::Text(text.to_owned());
        let value = Value::Mapping(vec![
            ("version".to_owned(), text("1.10")),
            ("a".to_owned(), Value::Sequence(vec![Value::Integer(-1), Value::Decimal(0.5), Value::Null])),
            ("on".to_owned(), Value::Boolean(true)),
        ]);
        let file = File { path: "x.yaml".to_owned(), content: Content::Yaml(value) };
        let written = planned(&file, "codex").unwrap();
        let written = String::from_utf8(written.content).unwrap();
        assert_eq!(written, "version: '1.10'\na:\n- -1\n- 0.5\n- null\non: true\n");
    }

    #[test]
    fn planned_bytes_are_written_as_they_are() {
        let content = Content::Bytes(b"\xff\r\n".to_vec());
        let file = File { path: "a/b".to_owned(), content };
        let written = planned(&file, "codex").unwrap();
        assert_eq!(written, ConfigFile { path: "a/b".to_owned(), content: b"\xff\r\n".to_vec() });
    }

    #[test]
    fn texts_in_the_generated_configuration_stay_texts() {
        for (text, quotes) in
            [("yes", "\"yes\""), ("a\r\nb", "\"ab\""), ("say \"1\": \\", r#""say \"1\": \\""#), ("", "\"\"")]
        {
            assert_eq!(quoted(text), quotes);
            let read: String = serde_yaml::from_str(&quoted(text)).unwrap();
            assert_eq!(read, text.replace(['\r', '\n'], ""));
        }
    }
}
