//! What is stored with a workspace for the subsystems that prepare it: files, configuration, plugins,
//! schedules, channels and memories.

use std::collections::BTreeMap;

use store::workspaces::Hosting;
use types::{ScheduleSpec, WorkspaceSetup};

use super::{
    Assembler, Assembly, Shared,
    merge::{global_memories, idle_seconds, memories, plugins, routing},
    prompts::{IDLE, INITIAL, PromptTexts},
};
use crate::{
    channels::{SkippedChannel, usable},
    cron,
    fields::with_place,
    files::normalize_path,
    notes::Notes,
    shown::shown,
    template::{Node, Schedule},
    unsupported::Part,
};

/// A workspace's channels: types of those that it gets, and the others.
pub(super) type Channels = (Vec<String>, Vec<SkippedChannel>);

impl Assembler<'_> {
    /// What a workspace is set up with, and its channels. `env` has the variables of the template.
    pub(super) fn setup(
        &self,
        node: &Node,
        hosting: Hosting,
        env: &BTreeMap<String, String>,
        shared: &Shared<'_>,
        assembly: &mut Assembly,
    ) -> (WorkspaceSetup, Channels) {
        let defaults = &self.org.defaults;
        let (prompts, notes) = (&shared.prompts, &mut assembly.notes);
        let mut setup = WorkspaceSetup::default();
        // Its `.env` is read for every workspace.
        let files_dir = self.files_dir(node, notes);
        if hosting == Hosting::Container {
            setup.files_dir = files_dir;
            setup.system_prompt = Some(node.system_prompt.clone()).filter(|text| !text.is_empty());
            setup.category_routing = routing(defaults, node);
            setup.plugins = plugins(&defaults.plugins, &node.plugins);
            setup.initial_prompt = prompts.prompt(INITIAL, node, notes);
            setup.idle_prompt = prompts.prompt(IDLE, node, notes);
            let idle = || idle_seconds(&node.prompts, &defaults.prompts);
            setup.idle_interval_seconds = setup.idle_prompt.is_some().then(idle);
        }
        setup.schedules = self.schedules(node, prompts, notes);
        setup.initial_memories = match node.initial_memories.as_slice() {
            [] => shared.default_memories.clone(),
            own => memories(own),
        };
        if assembly.nodes.is_empty() {
            setup.initial_memories.extend(global_memories(&self.org.global_memories));
        }
        let channels = self.channels(node, env, &mut setup);
        let configured = setup.system_prompt.is_some()
            || setup.initial_prompt.is_some()
            || setup.idle_prompt.is_some()
            || !setup.category_routing.is_empty();
        for (part, kept) in [
            (Part::Files, setup.files_dir.is_some()),
            (Part::Config, configured),
            (Part::Plugins, !setup.plugins.is_empty()),
            (Part::Schedules, !setup.schedules.is_empty()),
            (Part::Channels, setup.channels.is_some()),
            (Part::Memories, !setup.initial_memories.is_empty()),
        ] {
            if kept {
                assembly.unsupported.add(part, &node.name);
            }
        }
        (setup, channels)
    }

    fn files_dir(&self, node: &Node, notes: &mut Notes) -> Option<String> {
        let dir = Some(&node.files_dir).filter(|dir| !dir.is_empty())?;
        if self.files.has_directory()
            && let Err(reason) = self.files.check_directory(dir)
        {
            notes.add(|| {
                let text = format!("files_dir `{}` is not used: {reason}", shown(dir));
                with_place(node.marks.of("files_dir"), &text)
            });
        }
        normalize_path(dir).is_some().then(|| dir.clone())
    }

    /// Schedules that can run. Others are noted.
    fn schedules(&self, node: &Node, prompts: &PromptTexts<'_>, notes: &mut Notes) -> Vec<ScheduleSpec> {
        let mut usable = Vec::new();
        for schedule in &node.schedules {
            let Schedule { name, cron_expr, timezone, enabled, marks, .. } = schedule;
            let mut prompt = schedule.prompt.clone();
            if prompt.is_empty() {
                let file = prompts.file(&node.files_dir, &schedule.prompt_file, "prompt_file", marks, notes);
                prompt = file.unwrap_or_default();
            }
            let checked = match self.checked_cron(cron_expr, timezone) {
                Ok(()) if prompt.is_empty() => Err(("prompt", "it has no prompt".to_owned())),
                Ok(()) => Ok(()),
                Err(reason) => Err(("cron_expr", reason)),
            };
            match checked {
                Ok(()) => usable.push(ScheduleSpec {
                    name: name.clone(),
                    cron_expr: cron_expr.clone(),
                    timezone: timezone.clone(),
                    prompt,
                    enabled: *enabled,
                }),
                Err((field, reason)) => notes.add(|| {
                    let text = format!(
                        "the schedule `{}` of {} is left out: {reason}",
                        shown(name),
                        shown(&node.name)
                    );
                    with_place(marks.of(field), &text)
                }),
            }
        }
        usable
    }

    /// The answer for an expression and a time zone is kept: that an expression never matches is found by a long
    /// search, and templates repeat their expressions.
    fn checked_cron(&self, expression: &str, timezone: &str) -> Result<(), String> {
        let key = (expression.to_owned(), timezone.to_owned());
        self.crons.borrow_mut().entry(key).or_insert_with(|| cron::check(expression, timezone)).clone()
    }

    /// Stores the channels that can be set up.
    fn channels(&self, node: &Node, env: &BTreeMap<String, String>, setup: &mut WorkspaceSetup) -> Channels {
        let mut channels = Vec::new();
        let mut skipped = Vec::new();
        let mut skip = |kind: &str, reason: String| {
            skipped.push(SkippedChannel { reason, kind: kind.to_owned(), workspace: node.name.clone() });
        };
        for channel in &node.channels {
            match usable(channel, env, self.variables) {
                // One workspace has one channel of a type: the last one counts.
                Ok(usable) => {
                    channels.retain(|other: &crate::channels::UsableChannel<'_>| other.kind != usable.kind);
                    channels.push(usable);
                }
                Err(reason) => skip(&channel.kind, reason),
            }
        }
        if channels.is_empty() {
            return (Vec::new(), skipped);
        }
        // Their configuration may hold tokens.
        setup.channels = (self.seal)(&serde_json::to_vec(&channels).unwrap_or_default());
        if setup.channels.is_none() {
            channels
                .iter()
                .for_each(|channel| skip(channel.kind, "channel config encryption failed".to_owned()));
            channels.clear();
        }
        (channels.iter().map(|channel| channel.kind.to_owned()).collect(), skipped)
    }
}
