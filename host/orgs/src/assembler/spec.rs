//! What is stored with a workspace for the subsystems that prepare it: files, configuration, plugins,
//! schedules, channels and memories.

use serde::Serialize;
use store::workspaces::Hosting;
use types::{OrgSpec, ScheduleSpec, WorkspaceSpec};

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
    ) -> (WorkspaceSpec, Vec<SkippedChannel>) {
        let defaults = &self.org.defaults;
        let template = normalize_path(&node.template).filter(|_| !node.template.is_empty());
        let mut org = OrgSpec { dir: self.dir.to_owned(), name: self.org.name.clone(), ..OrgSpec::default() };
        let mut note = |part: Part, kept: bool| {
            if kept {
                unsupported.add(part, &node.name);
            }
        };
        if hosting == Hosting::Container {
            let files_dir = Some(&node.files_dir).filter(|dir| !dir.is_empty());
            org.files_dir = files_dir.filter(|dir| normalize_path(dir).is_some()).cloned();
            note(Part::Files, org.files_dir.is_some());
            org.system_prompt.clone_from(&node.system_prompt);
            note(Part::Config, !org.system_prompt.is_empty());
            org.category_routing = routing(defaults, node);
            note(Part::Config, !org.category_routing.is_empty());
            org.plugins = plugins(&defaults.plugins, &node.plugins);
            note(Part::Plugins, !org.plugins.is_empty());
            org.initial_prompt =
                self.prompt(&node.files_dir, &node.prompts.initial, &defaults.prompts.initial);
            note(Part::Config, org.initial_prompt.is_some());
            org.idle_prompt = self.prompt(&node.files_dir, &node.prompts.idle, &defaults.prompts.idle);
            if org.idle_prompt.is_some() {
                org.idle_interval_seconds = Some(idle_seconds(&node.prompts, &defaults.prompts));
                note(Part::Config, true);
            }
        }
        org.schedules = self.schedules(node);
        note(Part::Schedules, !org.schedules.is_empty());
        let (channels, skipped) = channels(node);
        if !channels.is_empty() {
            // Their configuration may hold tokens.
            let text = serde_json::to_vec(&channels).unwrap_or_default();
            org.channels = (self.seal)(&text);
            note(Part::Channels, org.channels.is_some());
        }
        let own = &node.initial_memories;
        let memories = memories(if own.is_empty() { &defaults.initial_memories } else { own });
        note(Part::Memories, !memories.is_empty());
        let spec = WorkspaceSpec {
            template: template.map(|path| path.to_string_lossy().into_owned()),
            model: model.map(str::to_owned),
            initial_memories: memories,
            org: Some(org),
            ..WorkspaceSpec::default()
        };
        (spec, skipped)
    }

    /// Global memories are stored with the first workspace.
    pub(super) fn add_global_memories(&self, assembly: &mut Assembly) {
        let global = global_memories(&self.org.global_memories);
        let Some(first) = assembly.nodes.first_mut().filter(|_| !global.is_empty()) else { return };
        first.spec.initial_memories.extend(global);
        assembly.unsupported.add(Part::Memories, &first.name);
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
    fn schedules(&self, node: &Node) -> Vec<ScheduleSpec> {
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
            can_run.then(|| ScheduleSpec {
                name: schedule.name.clone(),
                cron_expr: schedule.cron_expr.clone(),
                timezone: schedule.timezone.clone(),
                prompt,
                enabled: schedule.enabled,
            })
        };
        node.schedules.iter().filter_map(complete).collect()
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
