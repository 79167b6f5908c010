//! What the subsystems that prepare a workspace read before its first start: prompts, memories, plugins,
//! schedules, channels. Stored beside the row, as JSON, because it may be large and is seldom read.
//!
//! Fields may be added under the rules of [`spec`](crate::WorkspaceSpec).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::SharedText;

/// What a workspace is set up with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkspaceSetup {
    /// What its agent remembers from the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub initial_memories: Vec<InitialMemory>,
    /// Directory of the org template that becomes the workspace's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_dir: Option<String>,
    /// Text of the system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<SharedText>,
    /// Names of workspaces by category of work.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub category_routing: BTreeMap<String, Vec<String>>,
    /// Plugins to be installed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginSpec>,
    /// Sent when the agent has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_prompt: Option<SharedText>,
    /// Sent when the agent has been idle for `idle_interval_seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_prompt: Option<SharedText>,
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
    pub content: SharedText,
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
    pub prompt: SharedText,
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

impl WorkspaceSetup {
    /// Its texts, each with its place in the setup's JSON (RFC 6901).
    pub fn texts_mut(&mut self) -> impl Iterator<Item = (String, &mut SharedText)> {
        let own = [
            ("/system_prompt", &mut self.system_prompt),
            ("/initial_prompt", &mut self.initial_prompt),
            ("/idle_prompt", &mut self.idle_prompt),
        ];
        let own = own.into_iter().filter_map(|(place, text)| Some((place.to_owned(), text.as_mut()?)));
        let memories = self.initial_memories.iter_mut().enumerate();
        let memories = memories
            .map(|(number, memory)| (format!("/initial_memories/{number}/content"), &mut memory.content));
        let schedules = self.schedules.iter_mut().enumerate();
        let schedules =
            schedules.map(|(number, schedule)| (format!("/schedules/{number}/prompt"), &mut schedule.prompt));
        own.chain(memories).chain(schedules)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_setup_is_read_and_written_as_it_was_and_every_text_has_its_place() {
        let stored = json!({
            "category_routing": { "bugs": ["Lead"] },
            "channels": { "sealed": "AAEC", "version": 1 },
            "files_dir": "lead",
            "idle_interval_seconds": 600,
            "idle_prompt": "Tidy up.",
            "initial_memories": [{ "content": "We ship on Thursdays.", "scope": "GLOBAL" }],
            "initial_prompt": "Ask who is on call.",
            "later": 1,
            "plugins": [{ "config": { "depth": 3 }, "source": "github://acme/notes" }, { "source": "planner" }],
            "schedules": [{
                "cron_expr": "0 9 * * 1", "enabled": true, "name": "weekly", "prompt": "go", "timezone": "UTC",
            }],
            "system_prompt": "You lead.",
        });
        let mut setup: WorkspaceSetup = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(serde_json::to_value(&setup).unwrap(), stored);
        let places: Vec<String> = setup.texts_mut().map(|(place, _)| place).collect();
        assert_eq!(places.len(), 5);
        for (place, text) in setup.texts_mut() {
            assert_eq!(stored.pointer(&place).and_then(Value::as_str), Some(&**text), "{place}");
        }
    }
}
