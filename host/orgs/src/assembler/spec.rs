//! What is stored with a workspace for the subsystems that prepare it: files, configuration, plugins,
//! schedules, channels and memories.

use serde::Serialize;
use serde_json::{Value as Json, json};
use store::workspaces::Hosting;

use super::{
    Assembler, Assembly,
    merge::{global_memories, idle_seconds, memories, plugins, routing},
};
use crate::{
    files::normalize_path,
    template::{Channel, Node, Prompt, Schedule},
    unsupported::{Part, Unsupported},
};

/// Types of channels that have an adapter.
const CHANNELS: [&str; 4] = ["telegram", "slack", "lark", "discord"];

/// A channel that can't be set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedChannel {
    /// Why it is skipped; clients compare this text.
    pub reason: String,
    /// Type of the channel.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of the channel's workspace.
    pub workspace: String,
}

impl Assembler<'_> {
    /// The spec of a workspace, and the channels that it can't have.
    pub(super) fn spec(
        &self,
        node: &Node,
        model: Option<&str>,
        hosting: Hosting,
        unsupported: &mut Unsupported,
    ) -> (Json, Vec<SkippedChannel>) {
        let defaults = &self.org.defaults;
        let template = normalize_path(&node.template).filter(|_| !node.template.is_empty());
        let mut org = json!({ "dir": self.dir, "name": self.org.name });
        let mut keep = |key: &str, part: Part, value: Json| {
            if let (false, Some(fields)) = (is_empty(&value), org.as_object_mut()) {
                fields.insert(key.to_owned(), value);
                unsupported.add(part, &node.name);
            }
        };
        if hosting == Hosting::Container {
            let files_dir = Some(&node.files_dir).filter(|dir| normalize_path(dir).is_some());
            keep("files_dir", Part::Files, json!(files_dir));
            keep("system_prompt", Part::Config, json!(node.system_prompt));
            keep("category_routing", Part::Config, json!(routing(defaults, node)));
            keep("plugins", Part::Plugins, json!(plugins(&defaults.plugins, &node.plugins)));
            let initial = self.prompt(&node.files_dir, &node.prompts.initial, &defaults.prompts.initial);
            keep("initial_prompt", Part::Config, json!(initial));
            if let Some(idle) = self.prompt(&node.files_dir, &node.prompts.idle, &defaults.prompts.idle) {
                let seconds = idle_seconds(&node.prompts, &defaults.prompts);
                keep("idle_prompt", Part::Config, json!(idle));
                keep("idle_interval_seconds", Part::Config, json!(seconds));
            }
        }
        keep("schedules", Part::Schedules, json!(self.schedules(node)));
        let (channels, skipped) = channels(node);
        if !channels.is_empty() {
            // Their configuration may hold tokens.
            let text = serde_json::to_vec(&channels).unwrap_or_default();
            keep("channels", Part::Channels, (self.seal)(&text).unwrap_or_default());
        }
        let own = &node.initial_memories;
        let memories = memories(if own.is_empty() { &defaults.initial_memories } else { own });
        if !memories.is_empty() {
            unsupported.add(Part::Memories, &node.name);
        }
        let spec = json!({
            "initial_memories": memories, "model": model, "org": org, "template": template,
        });
        (spec, skipped)
    }

    /// Global memories are stored with the first workspace.
    pub(super) fn add_global_memories(&self, assembly: &mut Assembly) {
        let global = global_memories(&self.org.global_memories);
        let Some(first) = assembly.nodes.first_mut().filter(|_| !global.is_empty()) else { return };
        if let Some(Json::Array(memories)) = first.spec.get_mut("initial_memories") {
            memories.extend(global.iter().map(|memory| json!(memory)));
            assembly.unsupported.add(Part::Memories, &first.name);
        }
    }

    /// The text of a prompt: inline, else from the file, else the same two of the defaults.
    fn prompt(&self, files_dir: &str, own: &Prompt, default: &Prompt) -> Option<String> {
        let file = |directory: &str, prompt: &Prompt| {
            let named = !prompt.file.is_empty() && self.files.has_directory();
            named.then(|| self.prompt_file(directory, &prompt.file)).flatten()
        };
        let inline = |prompt: &Prompt| Some(prompt.text.clone()).filter(|text| !text.trim().is_empty());
        let found = inline(own)
            .or_else(|| file(files_dir, own))
            .or_else(|| inline(default))
            .or_else(|| file("", default))?;
        let lines: Vec<&str> = found.trim().lines().map(str::trim_end).collect();
        Some(lines.join("\n"))
    }

    /// None for a file that is missing, which is logged, or empty.
    fn prompt_file(&self, directory: &str, path: &str) -> Option<String> {
        let text = self.files.text(directory, path);
        if text.is_none() {
            tracing::warn!(directory, path, "a prompt's file can't be read; the default is used");
        }
        text.filter(|text| !text.trim().is_empty())
    }

    /// Schedules that can run. Others are logged.
    fn schedules(&self, node: &Node) -> Vec<Schedule> {
        let complete = |schedule: &Schedule| {
            let from_file = schedule.prompt.is_empty() && !schedule.prompt_file.is_empty();
            let prompt = if from_file {
                self.prompt_file(&node.files_dir, &schedule.prompt_file).unwrap_or_default()
            } else {
                schedule.prompt.clone()
            };
            let can_run = !prompt.is_empty() && schedule.cron_expr.split_whitespace().count() == 5;
            if !can_run {
                let (workspace, schedule) = (&node.name, &schedule.name);
                tracing::warn!(workspace, schedule, "a schedule needs a prompt and five fields of cron");
            }
            can_run.then(|| Schedule { prompt, ..schedule.clone() })
        };
        node.schedules.iter().filter_map(complete).collect()
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Channels that have an adapter, and the others.
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
