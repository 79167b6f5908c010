//! Restart, pause, resume, hibernate, wake: requests that change the desired state of live workspaces.

use store::{
    Change,
    workspaces::{DesiredState, Hosting, NoOtherChildren, Status},
};
use types::WorkspaceId;

use crate::{
    Workspace,
    error::WorkspaceError,
    fleet::{Fleet, Planned, transitions},
    limits::ANSWER_TIMEOUT,
    machine::Input,
};

/// Outcome of a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restarted {
    /// A new attempt began.
    Begun,
    /// The workspace has no container, so nothing was done.
    NothingToDo {
        /// As the workspace's row has it.
        runtime: String,
        /// As the workspace's row has it.
        hosting: Hosting,
    },
}

/// Why a workspace was not restarted, paused, resumed or woken.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// The workspace is paused already.
    #[error("workspace not found or already paused")]
    AlreadyPaused,
    /// The workspace isn't paused.
    #[error("workspace not found or not paused")]
    NotPaused,
    /// An ancestor is paused.
    #[error("parent workspace \"{name}\" is paused — resume it first")]
    ParentPaused {
        /// Name of the ancestor.
        name: String,
    },
    /// There is no backend.
    #[error("provisioner not available")]
    NoBackend,
    /// The workspace could not be read or changed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

/// Why a workspace was not hibernated.
#[derive(Debug, thiserror::Error)]
pub enum HibernateError {
    /// The workspace is neither online nor degraded.
    #[error("workspace not found or not in a hibernatable state (must be online or degraded)")]
    NotHibernatable,
    /// The workspace has no container that could be stopped.
    #[error("{runtime} workspaces have no container to hibernate")]
    NoContainer {
        /// Runtime of the workspace.
        runtime: String,
    },
    /// The agent has active tasks.
    #[error("workspace has active tasks; use ?force=true to terminate them")]
    Busy {
        /// How many.
        active_tasks: i32,
    },
    /// The container was not stopped in time. It keeps running, or is stopped later.
    #[error("the container was not stopped in time; see GET /workspaces/:id/explain")]
    NotYet,
    /// The workspace could not be read or changed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

impl Fleet {
    /// Begins a new attempt, whatever runs. Many restarts at once are one: each raises the attempt, and the
    /// reconciler starts the last.
    ///
    /// # Errors
    /// If there is no such workspace, an ancestor is paused, or there is no backend.
    pub async fn restart(&self, id: WorkspaceId) -> Result<Restarted, LifecycleError> {
        self.change(|fleet: &Self| {
            let workspace = fleet.live(id)?;
            fleet.require_no_paused_ancestor(id)?;
            let row = &workspace.row;
            if row.hosting != Hosting::Container {
                let (runtime, hosting) = (row.runtime.clone(), row.hosting);
                let done = Restarted::NothingToDo { runtime, hosting };
                return Ok(Planned { change: Change::default(), done });
            }
            fleet.require_backend()?;
            let change = transitions([(row.as_ref(), Input::Restart)], store::now());
            Ok(Planned { change, done: Restarted::Begun })
        })
        .await
    }

    /// Pauses a workspace and its descendants. Returns how many were paused.
    ///
    /// # Errors
    /// If there is no such workspace, or it is paused already.
    pub async fn pause(&self, id: WorkspaceId) -> Result<usize, LifecycleError> {
        self.change(|fleet: &Self| {
            let root = fleet.workspaces().get(id).filter(|root| root.row.status != Status::Paused);
            let root = root.ok_or(LifecycleError::AlreadyPaused)?;
            let mut all = fleet.workspaces().descendants(id);
            all.insert(0, root);
            let ids = all.iter().map(|it| it.row.id).collect();
            let running = all.into_iter().filter(|it| it.row.status != Status::Paused);
            let mut planned = fleet.apply_to_all(running, &Input::Pause);
            // What comes below it meanwhile is paused too.
            planned.change.push_precondition(NoOtherChildren(ids));
            Ok(planned)
        })
        .await
    }

    /// Resumes a workspace and its paused descendants. Returns how many were resumed.
    ///
    /// # Errors
    /// If there is no such workspace, it isn't paused, an ancestor is paused, or there is no backend.
    pub async fn resume(&self, id: WorkspaceId) -> Result<usize, LifecycleError> {
        self.change(|fleet: &Self| {
            let root = fleet.workspaces().get(id).filter(|root| root.row.status == Status::Paused);
            let root = root.ok_or(LifecycleError::NotPaused)?;
            fleet.require_no_paused_ancestor(id)?;
            let below = fleet.workspaces().descendants(id);
            let all: Vec<_> =
                std::iter::once(root).chain(below).filter(|it| it.row.status == Status::Paused).collect();
            if all.iter().any(|it| it.row.hosting == Hosting::Container) {
                fleet.require_backend()?;
            }
            Ok(fleet.apply_to_all(all, &Input::Resume))
        })
        .await
    }

    /// Hibernates a workspace, and waits until its container is stopped.
    ///
    /// # Errors
    /// If there is no such workspace, it isn't online, has no container, has active tasks (unless `force`),
    /// or wasn't stopped in time.
    pub async fn hibernate(&self, id: WorkspaceId, force: bool) -> Result<(), HibernateError> {
        self.change(|fleet: &Self| {
            let workspace = fleet.workspaces().get(id).ok_or(HibernateError::NotHibernatable)?;
            let row = &workspace.row;
            if row.hosting != Hosting::Container {
                return Err(HibernateError::NoContainer { runtime: row.runtime.clone() });
            }
            if !matches!(row.status, Status::Online | Status::Degraded) {
                return Err(HibernateError::NotHibernatable);
            }
            let active_tasks = workspace.presence.as_ref().map_or(0, |presence| presence.active_tasks);
            if active_tasks > 0 && !force {
                return Err(HibernateError::Busy { active_tasks });
            }
            let change = transitions([(row.as_ref(), Input::Hibernate)], store::now());
            Ok(Planned { change, done: () })
        })
        .await?;
        let stopped = |row: &store::workspaces::WorkspaceRow| row.status != Status::Hibernating;
        let rows = self.wait_for(&[id], ANSWER_TIMEOUT, stopped).await.map_err(WorkspaceError::Store)?;
        match rows.first() {
            Some(row) if row.desired == DesiredState::Hibernated && stopped(row) => Ok(()),
            _ => Err(HibernateError::NotYet),
        }
    }

    /// Wakes a hibernated workspace, because there is work for its agent: its desired state becomes
    /// running and the reconciler begins a new attempt. Returns at once, without waiting for the start.
    ///
    /// `true`: the workspace is waking, by this call or by an earlier one whose attempt still runs, and a
    /// message for it is worth sending again in a while (a2a.md §6: 503 with `waking`). `false`: the
    /// workspace has another status, and nothing was changed. Callers ask when a message finds a workspace
    /// that is hibernated; of many calls at once, one begins the attempt and all answer `true`.
    ///
    /// # Errors
    /// If there is no such workspace, an ancestor is paused, or there is no backend; then a hibernated
    /// workspace stays so, and the caller must not say that it wakes.
    pub async fn wake(&self, id: WorkspaceId) -> Result<bool, LifecycleError> {
        self.change(|fleet: &Self| {
            let workspace = fleet.live(id)?;
            let row = &workspace.row;
            if row.status != Status::Hibernated {
                let waking = row.hosting == Hosting::Container && row.status == Status::Provisioning;
                return Ok(Planned { change: Change::default(), done: waking });
            }
            fleet.require_no_paused_ancestor(id)?;
            fleet.require_backend()?;
            let change = transitions([(row.as_ref(), Input::Wake)], store::now());
            Ok(Planned { change, done: true })
        })
        .await
    }

    fn apply_to_all(
        &self,
        all: impl IntoIterator<Item = std::sync::Arc<Workspace>>,
        input: &Input,
    ) -> Planned<usize> {
        let all: Vec<_> = all.into_iter().collect();
        let rows = all.iter().map(|workspace| (workspace.row.as_ref(), input.clone()));
        Planned { change: transitions(rows, store::now()), done: all.len() }
    }

    pub(crate) fn require_no_paused_ancestor(&self, id: WorkspaceId) -> Result<(), LifecycleError> {
        match self.workspaces().paused_above(id) {
            Some(above) => Err(LifecycleError::ParentPaused { name: above.row.name.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) fn require_backend(&self) -> Result<(), LifecycleError> {
        if self.inner.backend.is_some() { Ok(()) } else { Err(LifecycleError::NoBackend) }
    }
}
