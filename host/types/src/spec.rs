//! What a workspace was created from, as its row stores it: JSON with a version.
//!
//! A field may be added without a new version; it needs a default, since older rows lack it. A field that
//! changes its meaning needs a new version. Fields that this server doesn't know are kept, so that a server
//! of an older release that rewrites a row loses nothing that a newer one wrote.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a workspace was created from, for its first start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceSpec {
    /// Rows without a version have version 1, which is not written.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: u32,
    /// Runtime template, as it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Model that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What its agent remembers from the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initial_memories: Vec<InitialMemory>,
    /// Where it was imported with an org template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgSpec>,
    /// Fields of later releases.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Default for WorkspaceSpec {
    fn default() -> Self {
        Self {
            version: first_version(),
            template: None,
            model: None,
            initial_memories: Vec::new(),
            org: None,
            unknown: Map::new(),
        }
    }
}

/// What an org template says of a workspace, for the subsystems that prepare it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrgSpec {
    /// Directory of the org template as the client named it; empty for inline and uploaded templates.
    pub dir: String,
    /// Name of the org template.
    pub name: String,
    /// Directory of the org template that becomes the workspace's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_dir: Option<String>,
    /// Text of the system prompt.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_prompt: String,
    /// Names of workspaces by category of work.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub category_routing: BTreeMap<String, Vec<String>>,
    /// Plugins to be installed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginSpec>,
    /// Sent when the agent has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_prompt: Option<String>,
    /// Sent when the agent has been idle for `idle_interval_seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_prompt: Option<String>,
    /// Set together with `idle_prompt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_interval_seconds: Option<i64>,
    /// Prompts that are sent at times.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduleSpec>,
    /// Chat channels: a sealed JSON list, because their configuration may hold tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<SealedText>,
    /// Fields of later releases.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Something that an agent remembers from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialMemory {
    /// Its text.
    pub content: String,
    /// Which workspaces share it.
    #[serde(default)]
    pub scope: String,
}

/// A plugin to be installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginSpec {
    /// Its name, or a source such as `github://owner/repo`.
    pub source: String,
    /// Settings in the plugin's own form.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
}

/// A prompt that is sent at times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of most fields say what they hold")]
pub struct ScheduleSpec {
    pub name: String,
    /// Five fields.
    pub cron_expr: String,
    pub timezone: String,
    pub prompt: String,
    pub enabled: bool,
}

/// A text that the deployment's cipher sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedText {
    /// Base64.
    pub sealed: String,
    /// Version of the cipher.
    pub version: i32,
}

pub(crate) fn first_version() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_first_version(version: &u32) -> bool {
    *version == first_version()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(stored: &Value) -> WorkspaceSpec {
        serde_json::from_value(stored.clone()).unwrap()
    }

    #[test]
    fn rows_without_a_version_are_read() {
        assert_eq!(read(&json!({})), WorkspaceSpec::default());
        let created = json!({ "initial_memories": [], "model": null, "template": null });
        assert_eq!(read(&created), WorkspaceSpec::default());
        let created = json!({
            "initial_memories": [{ "content": "a", "scope": "" }], "model": "sonnet", "template": "base",
        });
        let memory = InitialMemory { content: "a".to_owned(), scope: String::new() };
        assert_eq!(
            read(&created),
            WorkspaceSpec {
                template: Some("base".to_owned()),
                model: Some("sonnet".to_owned()),
                initial_memories: vec![memory],
                ..WorkspaceSpec::default()
            }
        );
    }

    #[test]
    fn rows_of_imported_workspaces_are_read_and_written_as_they_were() {
        let imported = json!({
            "initial_memories": [{ "content": "We ship on Thursdays.", "scope": "GLOBAL" }],
            "model": "sonnet",
            "org": {
                "category_routing": { "bugs": ["Lead"] },
                "channels": { "sealed": "AAEC", "version": 1 },
                "dir": "mixed",
                "files_dir": "lead",
                "idle_interval_seconds": 600,
                "idle_prompt": "Tidy up.",
                "initial_prompt": "Ask who is on call.",
                "name": "Mixed",
                "plugins": [{ "config": { "depth": 3 }, "source": "github://acme/notes" }, { "source": "planner" }],
                "schedules": [{
                    "cron_expr": "0 9 * * 1", "enabled": true, "name": "weekly", "prompt": "go", "timezone": "UTC",
                }],
                "system_prompt": "You lead.",
            },
            "template": "claude",
        });
        let spec = read(&imported);
        assert!(spec.unknown.is_empty() && spec.org.as_ref().unwrap().unknown.is_empty());
        assert_eq!(serde_json::to_value(spec).unwrap(), imported);
    }

    #[test]
    fn unknown_fields_and_later_versions_are_kept() {
        let later = json!({ "color": "red", "org": { "dir": "", "name": "", "size": 1 }, "version": 2 });
        assert_eq!(serde_json::to_value(read(&later)).unwrap(), later);
    }
}
