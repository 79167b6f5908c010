//! What must hold at the end of a history.

use std::{collections::BTreeMap, sync::Arc};

use events::Event;
use provision::{Backend as _, WorkspaceIo as _};
use store::workspaces::{Container, DesiredState, Hosting, Status};
use types::{EventSeq, WorkspaceId};

use super::history::{FILE, History};
use crate::{Workspace, machine};

impl History {
    pub(super) async fn check(self) {
        let mut runs = self.backend.running();
        for id in &self.created {
            let row = self.row(*id).await.unwrap();
            assert_eq!(row.is_removed(), self.removed.contains_key(id), "{row:?}");
            assert_eq!(row.removed_at.as_ref(), self.removed.get(id));
            assert_eq!(self.fleet.workspaces().get(*id).is_some(), !row.is_removed());
            let ancestor_paused = self.fleet.workspaces().paused_above(*id).is_some();
            let waits = row.status == Status::Offline && ancestor_paused;
            assert!(machine::is_converged(&row) || waits, "{row:?}");
            let run = runs.remove(id);
            let may_run = row.desired == DesiredState::Running && row.hosting == Hosting::Container;
            assert!(run.is_none() || (may_run && run == Some(row.attempt)), "{run:?} runs for {row:?}");
            let known = matches!(row.container, Container::Running);
            assert_eq!(known, run.is_some(), "{row:?}");
            if matches!(row.status, Status::Online | Status::Degraded) && row.hosting == Hosting::Container {
                assert!(run.is_some(), "{row:?}");
            }
        }
        assert!(runs.is_empty(), "no workspace wants {runs:?}");
        self.check_backend().await;
        self.check_events().await;
        let fresh = crate::WorkspaceIndex::default();
        fresh.load(self.store.live_workspaces().await.unwrap());
        // Presences were never stored here.
        let bare = |all: Vec<Arc<Workspace>>| -> Vec<Workspace> {
            all.iter().map(|it| Workspace { presence: None, ..it.as_ref().clone() }).collect()
        };
        assert_eq!(bare(self.fleet.workspaces().list()), bare(fresh.list()));
        for id in self.created.iter().map(|id| Some(*id)).chain([None]) {
            assert_eq!(bare(self.fleet.workspaces().children(id)), bare(fresh.children(id)));
        }
    }

    /// The backend knows the containers that run, what was written last, and nothing of what was removed.
    async fn check_backend(&self) {
        let listed = self.backend.list().await.unwrap();
        let listed: BTreeMap<WorkspaceId, i32> = listed.iter().map(|it| (it.workspace, it.attempt)).collect();
        let running = self.backend.running();
        assert_eq!(listed, running);
        for id in running.keys() {
            let file = self.backend.copy_out(*id, FILE).await.ok();
            assert_eq!(file.as_ref(), self.written_files.get(id), "files outlive containers");
        }
        for id in self.removed.keys() {
            assert!(!self.backend.has_volumes(*id), "what {id} stored is still there");
        }
    }

    /// Events have numbers without gaps and times that grow, and lead to the row's status.
    async fn check_events(&self) {
        let events = self.store.events_after(EventSeq::START, 100_000).await.unwrap();
        let seqs: Vec<i64> = events.iter().filter_map(|event| event.seq()).map(|seq| seq.0).collect();
        assert_eq!(seqs, (1..=events.len() as i64).collect::<Vec<_>>());
        assert!(events.windows(2).all(|pair| pair[0].at() < pair[1].at()));
        assert_eq!(self.fleet.state().last_published(), EventSeq(events.len() as i64));
        let mut last: BTreeMap<WorkspaceId, Status> = BTreeMap::new();
        for event in &events {
            let id = event.workspace_id().unwrap();
            let to = match event.event().unwrap() {
                Event::WorkspaceProvisioning(_) => Status::Provisioning,
                Event::WorkspaceProvisionFailed(_) => Status::Failed,
                Event::WorkspaceOnline(_) => Status::Online,
                Event::WorkspaceOffline(_) => Status::Offline,
                Event::WorkspaceDegraded(_) => Status::Degraded,
                Event::WorkspaceAwaitingAgent(_) => Status::AwaitingAgent,
                Event::WorkspacePaused(_) => Status::Paused,
                Event::WorkspaceHibernated(_) => Status::Hibernated,
                Event::WorkspaceRemoved(_) => Status::Removed,
                _ => continue,
            };
            let from = last.insert(id, to);
            assert_ne!(from, Some(Status::Removed), "removed is final");
            // Only a restart, a registration that changed something and a hibernation that was given up are
            // published without a change of status.
            let again = matches!(to, Status::Provisioning | Status::Online);
            assert!(again || from != Some(to), "{to} twice");
        }
        for id in &self.created {
            assert_eq!(last.get(id).copied(), self.row(*id).await.map(|row| row.status));
        }
    }
}
