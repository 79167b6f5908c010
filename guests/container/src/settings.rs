//! The settings of a guest row: the properties of one runtime.

use isomer_sdk::{Description, Problem};
use serde::Deserialize;

/// Settings of a row of this guest. Fields other than the names default to those of
/// [`Description::container`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    name: String,
    display_name: String,
    #[serde(default)]
    aliases: Vec<String>,
    image_base: Option<String>,
    default_model: Option<String>,
    port: Option<u16>,
    config_dir: Option<String>,
    remote_config_dir: Option<String>,
    template_dirs: Option<Vec<String>>,
    memory_file: Option<String>,
    provision_timeout_seconds: Option<u32>,
    #[serde(default)]
    transcripts: bool,
    /// Variables that get the model, besides `MODEL`.
    #[serde(default)]
    pub(crate) model_env: Vec<String>,
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), Problem> {
        is_name("/name", &self.name)?;
        for (index, alias) in self.aliases.iter().enumerate() {
            is_name(&format!("/aliases/{index}"), alias)?;
        }
        if self.display_name.trim().is_empty() {
            return Err(Problem::at("/display_name", "people need something to call the runtime"));
        }
        if self.port == Some(0) {
            return Err(Problem::at("/port", "0 is no port to listen on"));
        }
        let dirs = [("/config_dir", &self.config_dir), ("/remote_config_dir", &self.remote_config_dir)];
        for (at, dir) in dirs {
            if dir.as_deref().is_some_and(|dir| !dir.starts_with('/')) {
                return Err(Problem::at(at, "an absolute path is needed"));
            }
        }
        Ok(())
    }

    pub(crate) fn describe(&self) -> Description {
        let usual = Description::container(&self.name, &self.display_name);
        Description {
            aliases: self.aliases.clone(),
            image_base: self.image_base.clone().or(usual.image_base),
            default_model: self.default_model.clone().or(usual.default_model),
            port: self.port.unwrap_or(usual.port),
            config_dir: self.config_dir.clone().unwrap_or(usual.config_dir),
            remote_config_dir: self.remote_config_dir.clone().unwrap_or(usual.remote_config_dir),
            template_dirs: self.template_dirs.clone().unwrap_or(usual.template_dirs),
            memory_file: self.memory_file.clone().or(usual.memory_file),
            provision_timeout_seconds: self.provision_timeout_seconds,
            transcripts: self.transcripts,
            ..usual
        }
    }
}

fn is_name(at: &str, name: &str) -> Result<(), Problem> {
    let form = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if form && (1..=64).contains(&name.len()) && !name.starts_with('-') {
        return Ok(());
    }
    Err(Problem::at(
        at,
        "a name has 1 to 64 lower-case letters, digits and hyphens, and begins with no hyphen",
    ))
}

#[cfg(test)]
mod tests {
    use isomer_sdk::{Adapter as _, EnvSet, Hosting, PlanRequest, parse_settings};

    use super::*;
    use crate::Container;

    fn settings(json: &str) -> Settings {
        let settings = parse_settings::<Settings>(json).unwrap();
        settings.check().unwrap();
        settings
    }

    #[test]
    fn omitted_fields_have_the_usual_values() {
        let about = settings(r#"{"name": "crewai", "display_name": "CrewAI"}"#).describe();
        assert_eq!((about.name.as_str(), about.hosting, about.port), ("crewai", Hosting::Container, 8_000));
        assert_eq!(about.image_base.as_deref(), Some("workspace-template-crewai"));
        assert_eq!(about.default_model.as_deref(), Some("anthropic:claude-opus-4-7"));
        assert_eq!((about.config_dir.as_str(), about.remote_config_dir.as_str()), ("/configs", "/configs"));
        assert_eq!(about.template_dirs, ["crewai-default", "crewai"]);
        assert!(!about.transcripts && !about.translates_messages && about.volumes.is_empty());
        assert_eq!(about.provision_timeout_seconds, None);
    }

    #[test]
    fn every_property_can_be_set() {
        let about = settings(
            r#"{"name": "x", "display_name": "X", "aliases": ["y"], "image_base": "img", "default_model": "m",
                "port": 9000, "config_dir": "/opt/x", "remote_config_dir": "/opt/configs", "template_dirs": ["t"],
                "memory_file": "AGENTS.md", "provision_timeout_seconds": 60, "transcripts": true}"#,
        )
        .describe();
        assert_eq!(about.aliases, ["y"]);
        assert_eq!(about.image_base.as_deref(), Some("img"));
        assert_eq!(about.default_model.as_deref(), Some("m"));
        assert_eq!(
            (about.port, about.config_dir.as_str(), about.remote_config_dir.as_str()),
            (9_000, "/opt/x", "/opt/configs")
        );
        assert_eq!(
            (about.template_dirs, about.memory_file.as_deref()),
            (vec!["t".to_owned()], Some("AGENTS.md"))
        );
        assert_eq!((about.provision_timeout_seconds, about.transcripts), (Some(60), true));
    }

    #[test]
    fn problems_name_the_field() {
        for (json, at) in [
            (r#"{"name": "X", "display_name": "X"}"#, "/name"),
            (r#"{"name": "-x", "display_name": "X"}"#, "/name"),
            (r#"{"name": "", "display_name": "X"}"#, "/name"),
            (r#"{"name": "x", "display_name": " "}"#, "/display_name"),
            (r#"{"name": "x", "display_name": "X", "aliases": ["ok", "Not"]}"#, "/aliases/1"),
            (r#"{"name": "x", "display_name": "X", "port": 0}"#, "/port"),
            (r#"{"name": "x", "display_name": "X", "config_dir": "configs"}"#, "/config_dir"),
        ] {
            let problem = parse_settings::<Settings>(json).unwrap().check().unwrap_err();
            assert_eq!(problem.at.as_deref(), Some(at), "{json}");
        }
        for (json, at) in [
            (r#"{"name": "x", "display_name": "X", "tier": 1}"#, "/tier"),
            (r#"{"name": "x", "display_name": "X", "port": 70000}"#, "/port"),
            (r#"{"display_name": "X"}"#, ""),
        ] {
            assert_eq!(parse_settings::<Settings>(json).unwrap_err().at.as_deref(), Some(at), "{json}");
        }
    }

    #[test]
    fn the_model_is_set_in_every_variable_of_the_settings() {
        let settings = settings(r#"{"name": "x", "display_name": "X", "model_env": ["X_MODEL"]}"#);
        let mut request = PlanRequest::sample("x");
        assert!(Container::plan(&settings, &request).unwrap().env.is_empty());
        request.model = Some("openai:gpt-4o".into());
        let plan = Container::plan(&settings, &request).unwrap();
        assert_eq!(
            plan.env,
            [EnvSet::new("MODEL", "openai:gpt-4o"), EnvSet::new("X_MODEL", "openai:gpt-4o")]
        );
        assert_eq!(plan.provider, None);
    }
}
