//! One import under way: its report and its events.

use std::{sync::Arc, time::Instant};

use events::{
    Event,
    definitions::{ImportCompleted, ImportFailed, ImportFailure, ImportStarted},
};
use fleet::Fleet;
use types::WorkspaceId;

use crate::{
    assembler::Assembly,
    fields::with_place,
    plan::{Action, Plan},
    report::{Imported, ImportedWorkspace, Mode, RemovedWorkspace},
    template::Org,
};

/// What all steps of an import know.
pub(crate) struct ImportContext<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) org: Arc<Org>,
    pub(crate) started: Instant,
    /// Directory of the template as the client named it; empty for inline and uploaded templates.
    pub(crate) dir: String,
    pub(crate) mode: Option<Mode>,
}

impl ImportContext<'_> {
    pub(crate) fn report(&self, plan: &Plan, assembly: &Assembly, warnings: &[String]) -> Imported {
        let mut workspaces = Vec::with_capacity(plan.nodes.len());
        for ((id, action), node) in plan.nodes.iter().zip(&assembly.nodes) {
            if *action == Action::Keep {
                let (name, tier) = (&node.name, node.tier);
                tracing::debug!(name, existing_id = %id, tier, "provision.skip_existing");
            }
            workspaces.push(ImportedWorkspace {
                id: *id,
                action: *action,
                name: node.name.clone(),
                parent: node.parent,
                tier: node.tier,
                runtime: node.runtime.clone(),
                channels: if *action == Action::Create { node.channels.clone() } else { Vec::new() },
                channels_skipped: node.channels_skipped.clone(),
            });
        }
        Imported {
            org: self.org.name.clone(),
            mode: self.mode,
            workspaces,
            removed: plan.orphans.iter().flat_map(|orphan| self.removed(*orphan)).collect(),
            error: assembly.error.as_ref().map(|error| error.message.clone()),
            detail: assembly
                .error
                .as_ref()
                .and_then(|error| error.at.as_ref().map(|at| with_place(Some(at), &error.message))),
            missing_env: Vec::new(),
            warnings: warnings.to_vec(),
        }
    }

    /// An orphan and everything below it.
    fn removed(&self, orphan: WorkspaceId) -> Vec<RemovedWorkspace> {
        let directory = self.fleet.workspaces();
        let below = directory.descendants(orphan);
        let all = directory.get(orphan).into_iter().chain(below);
        let removed = all.map(|it| {
            let ancestors = directory.ancestors(it.row.id);
            let ancestors = ancestors.iter().rev().map(|ancestor| ancestor.row.name.clone()).collect();
            RemovedWorkspace { id: it.row.id, name: it.row.name.clone(), ancestors }
        });
        removed.collect()
    }

    pub(crate) fn started(&self) -> Event {
        let (dir, mode, name) = (self.dir.clone(), self.mode(), self.org.name.clone());
        Event::ImportStarted(ImportStarted { dir, mode, name })
    }

    pub(crate) fn completed(&self, imported: &Imported) -> Event {
        let created = imported.created();
        Event::ImportCompleted(ImportCompleted {
            create_error: imported.error.clone().unwrap_or_default(),
            created_count: number(created),
            dir: self.dir.clone(),
            duration_ms: self.duration_ms(),
            mode: self.mode(),
            name: self.org.name.clone(),
            reconcile_errors: 0,
            reconcile_removed_count: number(imported.removed.len()),
            skipped_count: number(imported.workspaces.len() - created),
        })
    }

    /// Records an import that failed before it changed anything. A dry run leaves no events.
    pub(crate) async fn record_failure(&self, reason: ImportFailure, missing: usize, dry_run: bool) {
        if dry_run {
            return;
        }
        let failed = Event::ImportFailed(ImportFailed {
            dir: self.dir.clone(),
            duration_ms: self.duration_ms(),
            missing_count: number(missing),
            mode: self.mode(),
            name: self.org.name.clone(),
            reason,
        });
        self.record(vec![self.started(), failed]).await;
    }

    pub(crate) async fn record(&self, events: Vec<Event>) {
        if let Err(error) = self.fleet.state().record(events).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the events of an import could not be recorded");
        }
    }

    fn mode(&self) -> String {
        Mode::word(self.mode).to_owned()
    }

    fn duration_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
