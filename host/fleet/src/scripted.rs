//! A backend whose world of containers is in memory and whose every answer is scripted. It panics where
//! a workspace has two live containers, and remembers what was done.
//!
//! Like a real engine it survives the death of the server that uses it: tests drop the server and go on
//! with the same world.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::backend::{Backend, BackendError, ContainerSpec, ExecOutput, Owned, Seen};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Works,
    /// It says no.
    Refuses,
    /// It can't be asked; nothing happened.
    Unreachable,
    /// It was done, but the answer got lost.
    DoneUnheard,
    /// It never answers, and nothing happened.
    Hangs,
    /// It was done, and the server that asked for it died before it heard so.
    DoneThenDies,
}

/// Something that a backend was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Ensure(Uuid, i32),
    Stop(Uuid),
    Remove(Uuid),
}

/// The world, and the script. Cheap to clone: all clones are of the same world.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scripted {
    world: Arc<Mutex<World>>,
    /// A call hangs, or a server is to die.
    pub(crate) stuck: Arc<Notify>,
}

#[derive(Debug, Default)]
struct World {
    /// Attempts of live containers by workspace. More than one at any moment is a panic.
    live: HashMap<Uuid, Vec<i32>>,
    /// What was done, in order.
    done: Vec<Action>,
    /// What becomes of the next actions; afterwards they work.
    actions: VecDeque<Script>,
    /// Can it be seen what runs?
    blind: bool,
}

impl Scripted {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Says what becomes of the next actions.
    pub(crate) fn script(&self, actions: impl IntoIterator<Item = Script>) {
        self.world().actions.extend(actions);
    }

    /// From now on everything works.
    pub(crate) fn works(&self) {
        let mut world = self.world();
        world.actions.clear();
        world.blind = false;
    }

    /// From now on it can't be seen what runs, or can again.
    pub(crate) fn blind(&self, blind: bool) {
        self.world().blind = blind;
    }

    /// A container ends by itself.
    pub(crate) fn dies(&self, workspace: Uuid) {
        self.world().live.remove(&workspace);
    }

    /// The attempts that run, by workspace.
    pub(crate) fn runs(&self) -> BTreeMap<Uuid, i32> {
        self.world().live.iter().filter_map(|(id, attempts)| Some((*id, *attempts.first()?))).collect()
    }

    /// What was done so far.
    pub(crate) fn done(&self) -> Vec<Action> {
        self.world().done.clone()
    }

    async fn perform(&self, action: Action) -> Result<(), BackendError> {
        let script = self.world().actions.pop_front().unwrap_or(Script::Works);
        let unreachable = || Err(BackendError::Unreachable { reason: "no answer".to_owned() });
        match script {
            Script::Works => self.world().perform(action),
            Script::Refuses => return Err(BackendError::Refused { reason: "no".to_owned() }),
            Script::Unreachable => return unreachable(),
            Script::DoneUnheard => {
                self.world().perform(action);
                return unreachable();
            }
            Script::Hangs => {
                self.stuck.notify_one();
                return pending().await;
            }
            Script::DoneThenDies => {
                self.world().perform(action);
                self.stuck.notify_one();
                return pending().await;
            }
        }
        Ok(())
    }
}

impl World {
    fn perform(&mut self, action: Action) {
        self.done.push(action);
        match action {
            Action::Ensure(workspace, attempt) => {
                let live = self.live.entry(workspace).or_default();
                // A real backend replaces what has the same name. The reconciler must not rely on it.
                if live.as_slice() != [attempt] {
                    live.push(attempt);
                }
                assert!(live.len() == 1, "two live containers of {workspace}: {live:?} {:?}", self.done);
            }
            Action::Stop(workspace) | Action::Remove(workspace) => {
                self.live.remove(&workspace);
            }
        }
    }
}

#[async_trait]
impl Backend for Scripted {
    async fn ensure(&self, spec: &ContainerSpec) -> Result<Option<String>, BackendError> {
        self.perform(Action::Ensure(spec.workspace, spec.attempt)).await?;
        Ok(Some(url(spec.attempt)))
    }

    async fn observe(&self, workspace: Uuid) -> Seen {
        let world = self.world();
        if world.blind {
            return Seen::Unknown("no answer".to_owned());
        }
        match world.live.get(&workspace).and_then(|attempts| attempts.first()) {
            Some(attempt) => Seen::Running { attempt: *attempt, url: Some(url(*attempt)) },
            None => Seen::Gone,
        }
    }

    async fn stop(&self, workspace: Uuid) -> Result<(), BackendError> {
        self.perform(Action::Stop(workspace)).await
    }

    async fn remove(&self, workspace: Uuid, _volumes: bool) -> Result<(), BackendError> {
        self.perform(Action::Remove(workspace)).await
    }

    async fn logs(&self, _: Uuid, _: usize) -> Result<Vec<u8>, BackendError> {
        Err(BackendError::NotFound)
    }

    async fn exec(&self, _: Uuid, _: &[String]) -> Result<ExecOutput, BackendError> {
        Err(BackendError::NotFound)
    }

    async fn copy_in(&self, _: Uuid, _: &str, _: Vec<u8>) -> Result<(), BackendError> {
        Err(BackendError::NotFound)
    }

    async fn copy_out(&self, _: Uuid, _: &str) -> Result<Vec<u8>, BackendError> {
        Err(BackendError::NotFound)
    }

    async fn list_owned(&self) -> Result<Vec<Owned>, BackendError> {
        let name = crate::backend::container_name;
        let owned = |(workspace, attempt)| Owned { name: name(workspace), workspace, attempt };
        Ok(self.runs().into_iter().map(owned).collect())
    }
}

fn url(attempt: i32) -> String {
    format!("http://127.0.0.1:{}", 30_000 + attempt)
}
