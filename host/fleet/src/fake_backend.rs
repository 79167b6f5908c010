//! A backend whose containers are in memory and whose every answer is scripted. It panics where a
//! workspace has two live containers, and records what was done.
//!
//! Like a real engine it survives the death of the server that uses it: tests drop the server and go on
//! with the same backend.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use provision::{
    Backend, BackendError, ContainerSpec, ExecOutput, Mount, Observation, OwnedContainer, WorkspaceIo,
    container_name,
};
use tokio::sync::Notify;
use types::WorkspaceId;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Succeeds,
    Refuses,
    /// Nothing happened.
    Unreachable,
    /// It was done, but the answer got lost.
    AnswerLost,
    /// No answer ever comes, and nothing happened.
    Hangs,
    /// It was done, and the server that asked for it died before the answer came.
    ServerDies,
}

/// Something that a backend was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Ensure(WorkspaceId, i32),
    Stop(WorkspaceId),
    Remove(WorkspaceId),
}

/// The engine, and the script. Clones share both.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeBackend {
    engine: Arc<Mutex<Engine>>,
    /// A call hangs, or the server that made it is to die.
    pub(crate) stuck: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Engine {
    /// Attempts of live containers by workspace. More than one at any moment is a panic.
    live: HashMap<WorkspaceId, Vec<i32>>,
    /// The last container of each workspace, as it was to be run.
    specs: HashMap<WorkspaceId, ContainerSpec>,
    /// What was copied into each workspace, by path. Outlives containers.
    volumes: HashMap<WorkspaceId, BTreeMap<String, Vec<u8>>>,
    /// What was done, in order.
    done: Vec<Call>,
    /// What becomes of the next calls; afterwards they succeed.
    scripts: VecDeque<Script>,
    unobservable: bool,
}

impl FakeBackend {
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap()
    }

    /// Says what becomes of the next calls.
    pub(crate) fn script(&self, scripts: impl IntoIterator<Item = Script>) {
        self.engine().scripts.extend(scripts);
    }

    /// From now on every call succeeds.
    pub(crate) fn succeed(&self) {
        let mut engine = self.engine();
        engine.scripts.clear();
        engine.unobservable = false;
    }

    /// Says whether observations are unknown from now on.
    pub(crate) fn set_unobservable(&self, unobservable: bool) {
        self.engine().unobservable = unobservable;
    }

    /// A container ends without being asked to.
    pub(crate) fn kill(&self, workspace: WorkspaceId) {
        self.engine().live.remove(&workspace);
    }

    /// The attempts that run, by workspace.
    pub(crate) fn running(&self) -> BTreeMap<WorkspaceId, i32> {
        self.engine().live.iter().filter_map(|(id, attempts)| Some((*id, *attempts.first()?))).collect()
    }

    /// What was done so far.
    pub(crate) fn done(&self) -> Vec<Call> {
        self.engine().done.clone()
    }

    /// The last container of a workspace, as it was to be run.
    pub(crate) fn spec(&self, workspace: WorkspaceId) -> Option<ContainerSpec> {
        self.engine().specs.get(&workspace).cloned()
    }

    /// Whether any stored data of the workspace still exists.
    pub(crate) fn has_volumes(&self, workspace: WorkspaceId) -> bool {
        self.engine().volumes.contains_key(&workspace)
    }

    async fn execute(&self, execute: impl FnOnce(&mut Engine)) -> Result<(), BackendError> {
        let script = self.engine().scripts.pop_front().unwrap_or(Script::Succeeds);
        let unreachable = || Err(BackendError::Unreachable { reason: "no answer".to_owned() });
        match script {
            Script::Succeeds => execute(&mut self.engine()),
            Script::Refuses => return Err(BackendError::Refused { reason: "no".to_owned() }),
            Script::Unreachable => return unreachable(),
            Script::AnswerLost => {
                execute(&mut self.engine());
                return unreachable();
            }
            Script::Hangs => {
                self.stuck.notify_one();
                return pending().await;
            }
            Script::ServerDies => {
                execute(&mut self.engine());
                self.stuck.notify_one();
                return pending().await;
            }
        }
        Ok(())
    }

    /// The files of a workspace whose container runs.
    fn with_files<T>(
        &self,
        workspace: WorkspaceId,
        read: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> Option<T>,
    ) -> Result<T, BackendError> {
        let mut engine = self.engine();
        if !engine.live.contains_key(&workspace) {
            return Err(BackendError::NotFound);
        }
        read(engine.volumes.entry(workspace).or_default()).ok_or(BackendError::NotFound)
    }
}

impl Engine {
    fn ensure(&mut self, spec: &ContainerSpec) {
        let (workspace, attempt) = (spec.workspace, spec.attempt);
        self.done.push(Call::Ensure(workspace, attempt));
        let live = self.live.entry(workspace).or_default();
        // A real backend replaces what has the same name. The reconciler must not rely on it.
        if live.as_slice() != [attempt] {
            live.push(attempt);
        }
        assert!(live.len() == 1, "two live containers of {workspace}: {live:?} {:?}", self.done);
        assert_eq!(spec.name, container_name(workspace));
        let files = self.volumes.entry(workspace).or_default();
        if spec.mounts.iter().any(|mount| matches!(mount, Mount::Volume { reset: true, .. })) {
            files.clear();
        }
        self.specs.insert(workspace, spec.clone());
    }

    fn stop(&mut self, workspace: WorkspaceId) {
        self.done.push(Call::Stop(workspace));
        self.live.remove(&workspace);
    }

    fn remove(&mut self, workspace: WorkspaceId, volumes: bool) {
        self.done.push(Call::Remove(workspace));
        self.live.remove(&workspace);
        if volumes {
            self.volumes.remove(&workspace);
        }
    }
}

#[async_trait]
impl Backend for FakeBackend {
    async fn ensure(&self, spec: &ContainerSpec) -> Result<Option<String>, BackendError> {
        self.execute(|engine| engine.ensure(spec)).await?;
        Ok(Some(url(spec.attempt)))
    }

    async fn observe(&self, workspace: WorkspaceId) -> Observation {
        let engine = self.engine();
        if engine.unobservable {
            return Observation::Unknown("no answer".to_owned());
        }
        match engine.live.get(&workspace).and_then(|attempts| attempts.first()) {
            Some(attempt) => Observation::Running { attempt: *attempt, url: Some(url(*attempt)) },
            None => Observation::Absent,
        }
    }

    async fn stop(&self, workspace: WorkspaceId) -> Result<(), BackendError> {
        self.execute(|engine| engine.stop(workspace)).await
    }

    async fn remove(&self, workspace: WorkspaceId, volumes: bool) -> Result<(), BackendError> {
        self.execute(|engine| engine.remove(workspace, volumes)).await
    }

    async fn list(&self) -> Result<Vec<OwnedContainer>, BackendError> {
        let running = self.running().into_iter();
        Ok(running
            .map(|(workspace, attempt)| OwnedContainer {
                name: container_name(workspace),
                workspace,
                attempt,
            })
            .collect())
    }
}

/// A path holds the archive that was copied to it; nothing is unpacked.
#[async_trait]
impl WorkspaceIo for FakeBackend {
    async fn exec(&self, workspace: WorkspaceId, command: &[String]) -> Result<ExecOutput, BackendError> {
        let output = command.join(" ").into_bytes();
        self.with_files(workspace, |_| Some(ExecOutput { status: 0, output }))
    }

    async fn logs(&self, workspace: WorkspaceId, lines: usize) -> Result<Vec<u8>, BackendError> {
        let attempt = self.running().get(&workspace).copied().ok_or(BackendError::NotFound)?;
        let written = [format!("attempt {attempt}\n"), "listening\n".to_owned()];
        Ok(written[written.len().saturating_sub(lines)..].concat().into_bytes())
    }

    async fn copy_in(&self, workspace: WorkspaceId, path: &str, tar: Vec<u8>) -> Result<(), BackendError> {
        self.with_files(workspace, |files| {
            files.insert(path.to_owned(), tar);
            Some(())
        })
    }

    async fn copy_out(&self, workspace: WorkspaceId, path: &str) -> Result<Vec<u8>, BackendError> {
        self.with_files(workspace, |files| files.get(path).cloned())
    }
}

fn url(attempt: i32) -> String {
    format!("http://127.0.0.1:{}", 30_000 + attempt)
}
