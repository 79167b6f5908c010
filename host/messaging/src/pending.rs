//! Index of the workspaces that have queued messages, and when each is looked at next.
//!
//! Heartbeats are too frequent for a statement each, so this index says for which of them the queue is
//! looked at. A workspace gets into it when this server enqueues a message, and by the sweep, which finds
//! what other servers enqueued and what a crash left.
//!
//! It also keeps the back-off of agents that are not reached: one try tells about all messages of a workspace. A
//! cache: after a restart the times stored with the rows apply.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fleet::PresenceObserver;
use store::queue::WaitingWorkspace;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use types::WorkspaceId;

#[derive(Debug, Default)]
pub(crate) struct PendingIndex {
    sets: Mutex<Sets>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Sets {
    /// Workspaces that may have queued messages.
    pending: HashMap<WorkspaceId, Waiting>,
    /// Pending workspaces whose agents sent a heartbeat since the last look. Before the first sweep, any.
    reported: HashSet<WorkspaceId>,
    is_swept: bool,
    /// Workspaces for which messages are being claimed; whether to begin again afterwards.
    claiming: HashMap<WorkspaceId, Option<Trigger>>,
    /// Grows with each workspace that is added.
    added: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Number of the last message that was added here.
    added: u64,
    /// Tries in a row that did not reach the agent, and until when none is made.
    unreached: u32,
    blocked_until: Option<Instant>,
    /// When the agent reported last.
    reported_at: Option<Instant>,
    /// When to look again, if there is a time.
    wake_at: Option<Instant>,
}

impl Waiting {
    fn is_blocked(&self) -> bool {
        self.blocked_until.is_some_and(|until| until > Instant::now())
    }
}

/// Why the queue of a workspace is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trigger {
    /// Messages are due, or there is capacity again.
    Due,
    /// The agent reported: it is there again, whatever happened before.
    Heartbeat,
}

/// The right to claim messages for a workspace. Given back on drop.
#[derive(Debug)]
pub(crate) struct ClaimGuard {
    index: Arc<PendingIndex>,
    id: WorkspaceId,
    added: u64,
}

impl PendingIndex {
    /// A message was enqueued.
    pub(crate) fn add(&self, id: WorkspaceId) {
        let mut sets = self.lock();
        sets.added += 1;
        let added = sets.added;
        sets.pending.entry(id).or_default().added = added;
    }

    /// Takes over what a sweep found. Returns the workspaces to look at now.
    pub(crate) fn swept(&self, found: &[WaitingWorkspace]) -> Vec<WorkspaceId> {
        let mut sets = self.lock();
        for workspace in found {
            sets.pending.entry(workspace.id).or_default();
        }
        if !sets.is_swept {
            sets.is_swept = true;
            let Sets { reported, pending, .. } = &mut *sets;
            reported.retain(|id| pending.contains_key(id));
        }
        found.iter().filter(|workspace| workspace.due).map(|workspace| workspace.id).collect()
    }

    /// The agent was not reached: no message is tried before this time, unless the agent reports.
    pub(crate) fn back_off(&self, id: WorkspaceId, unreached: u32, until: Instant) {
        let mut sets = self.lock();
        let waiting = sets.pending.entry(id).or_default();
        waiting.unreached = waiting.unreached.max(unreached);
        waiting.blocked_until = Some(until);
        waiting.wake_at = Some(until);
        drop(sets);
        self.changed.notify_one();
    }

    /// A message of this workspace is tried again at this time.
    pub(crate) fn wake_at(&self, id: WorkspaceId, at: Instant) {
        let mut sets = self.lock();
        let waiting = sets.pending.entry(id).or_default();
        waiting.wake_at = Some(waiting.wake_at.map_or(at, |earlier| earlier.min(at)));
        drop(sets);
        self.changed.notify_one();
    }

    /// The agent was reached.
    pub(crate) fn reached(&self, id: WorkspaceId) {
        if let Some(waiting) = self.lock().pending.get_mut(&id) {
            (waiting.unreached, waiting.blocked_until) = (0, None);
        }
    }

    /// Whether no message is tried now, because the agent was not reached.
    pub(crate) fn is_blocked(&self, id: WorkspaceId) -> bool {
        self.lock().pending.get(&id).is_some_and(Waiting::is_blocked)
    }

    /// Whether the agent reported after this time, perhaps from another address.
    pub(crate) fn has_reported_since(&self, id: WorkspaceId, time: Instant) -> bool {
        self.lock().pending.get(&id).and_then(|waiting| waiting.reported_at).is_some_and(|at| at > time)
    }

    /// Tries in a row that did not reach the agent.
    pub(crate) fn unreached(&self, id: WorkspaceId) -> u32 {
        self.lock().pending.get(&id).map_or(0, |waiting| waiting.unreached)
    }

    /// Waits, until `deadline` at most, for workspaces to look at, and takes them. Empty at the deadline.
    pub(crate) async fn next(&self, deadline: Instant) -> Vec<(WorkspaceId, Trigger)> {
        loop {
            let now = Instant::now();
            let mut until = deadline;
            let mut found = Vec::new();
            {
                let mut sets = self.lock();
                let reported = std::mem::take(&mut sets.reported);
                found.extend(reported.into_iter().map(|id| (id, Trigger::Heartbeat)));
                for (id, waiting) in &mut sets.pending {
                    match waiting.wake_at {
                        Some(at) if at <= now => {
                            waiting.wake_at = None;
                            found.push((*id, Trigger::Due));
                        }
                        Some(at) => until = until.min(at),
                        None => {}
                    }
                }
            }
            if !found.is_empty() || now >= deadline {
                return found;
            }
            let _ = timeout_at(until, self.changed.notified()).await;
        }
    }

    /// `None` while other messages of this workspace are being claimed, or while its agent is not to be tried.
    pub(crate) fn start_claiming(self: &Arc<Self>, id: WorkspaceId, trigger: Trigger) -> Option<ClaimGuard> {
        let mut sets = self.lock();
        let waiting = sets.pending.entry(id).or_default();
        match trigger {
            Trigger::Heartbeat => (waiting.unreached, waiting.blocked_until) = (0, None),
            Trigger::Due if waiting.is_blocked() => return None,
            Trigger::Due => {}
        }
        if let Some(again) = sets.claiming.get_mut(&id) {
            *again = (*again).max(Some(trigger));
            return None;
        }
        sets.claiming.insert(id, None);
        Some(ClaimGuard { index: Arc::clone(self), id, added: sets.added })
    }

    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClaimGuard {
    /// Whether there was a reason to look again since the guard was given, or since the last call.
    pub(crate) fn again(&mut self) -> Option<Trigger> {
        let mut sets = self.index.lock();
        self.added = sets.added;
        sets.claiming.get_mut(&self.id)?.take()
    }

    /// No message waits, unless one was enqueued since the guard was given.
    pub(crate) fn is_empty(&self) {
        let mut sets = self.index.lock();
        // What is to be tried again is under way at this moment.
        let is_idle = |waiting: &Waiting| waiting.wake_at.is_none() && !waiting.is_blocked();
        if sets.pending.get(&self.id).is_some_and(|it| it.added <= self.added && is_idle(it)) {
            sets.pending.remove(&self.id);
        }
    }
}

/// Bounded by the pending workspaces: heartbeats of one that was not looked at yet are one.
impl PresenceObserver for PendingIndex {
    fn on_heartbeat(&self, workspace: WorkspaceId) {
        let mut sets = self.lock();
        let waiting = sets.pending.get_mut(&workspace);
        let is_pending = waiting.map(|waiting| waiting.reported_at = Some(Instant::now())).is_some();
        let concerned = !sets.is_swept || is_pending;
        if concerned && sets.reported.insert(workspace) {
            drop(sets);
            self.changed.notify_one();
        }
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        let mut sets = self.index.lock();
        // A reason that came too late for the owner of the guard is for the next look.
        if let Some(Some(_)) = sets.claiming.remove(&self.id) {
            let waiting = sets.pending.entry(self.id).or_default();
            waiting.wake_at = Some(Instant::now());
            drop(sets);
            self.index.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn next(index: &PendingIndex) -> Vec<(WorkspaceId, Trigger)> {
        index.next(Instant::now()).await
    }

    #[tokio::test]
    async fn heartbeats_are_reported_for_pending_workspaces_only_and_once() {
        let index = PendingIndex::default();
        let [pending, other] = [WorkspaceId::random(), WorkspaceId::random()];
        // What waits is not known before the first sweep.
        index.on_heartbeat(pending);
        index.on_heartbeat(other);
        index.swept(&[WaitingWorkspace { id: pending, due: false }]);
        assert_eq!(next(&index).await, [(pending, Trigger::Heartbeat)]);
        index.on_heartbeat(other);
        assert_eq!(next(&index).await, []);
        index.on_heartbeat(pending);
        index.on_heartbeat(pending);
        assert_eq!(next(&index).await, [(pending, Trigger::Heartbeat)]);
        assert_eq!(next(&index).await, []);
    }

    #[tokio::test]
    async fn a_heartbeat_wakes_the_waiting_task() {
        let index = Arc::new(PendingIndex::default());
        let id = WorkspaceId::random();
        index.add(id);
        let waiting = tokio::spawn({
            let index = Arc::clone(&index);
            async move { index.next(Instant::now() + Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        index.on_heartbeat(id);
        assert_eq!(waiting.await.unwrap(), [(id, Trigger::Heartbeat)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_not_reached_is_left_alone_until_its_time_or_a_heartbeat() {
        let index = Arc::new(PendingIndex::default());
        let id = WorkspaceId::random();
        index.add(id);
        let until = Instant::now() + Duration::from_secs(8);
        index.back_off(id, 3, until);
        assert!(index.start_claiming(id, Trigger::Due).is_none());
        assert_eq!(index.unreached(id), 3);
        assert!(index.start_claiming(id, Trigger::Heartbeat).is_some());
        assert_eq!(index.unreached(id), 0);
        index.back_off(id, 1, until);
        assert_eq!(index.next(until + Duration::from_secs(60)).await, [(id, Trigger::Due)]);
        assert_eq!(Instant::now(), until);
        assert!(index.start_claiming(id, Trigger::Due).is_some());
    }

    #[tokio::test]
    async fn one_claims_for_a_workspace_at_a_time_and_no_reason_is_lost() {
        let index = Arc::new(PendingIndex::default());
        let id = WorkspaceId::random();
        index.add(id);
        let mut guard = index.start_claiming(id, Trigger::Due).expect("the first");
        assert!(index.start_claiming(id, Trigger::Heartbeat).is_none());
        assert!(index.start_claiming(id, Trigger::Due).is_none());
        assert_eq!((guard.again(), guard.again()), (Some(Trigger::Heartbeat), None));
        assert!(index.start_claiming(id, Trigger::Due).is_none());
        drop(guard);
        assert_eq!(next(&index).await, [(id, Trigger::Due)]);
    }

    #[tokio::test]
    async fn a_message_enqueued_during_a_look_keeps_its_workspace_pending() {
        let index = Arc::new(PendingIndex::default());
        let id = WorkspaceId::random();
        index.add(id);
        let guard = index.start_claiming(id, Trigger::Due).expect("the first");
        index.add(id);
        guard.is_empty();
        drop(guard);
        index.swept(&[]);
        index.on_heartbeat(id);
        assert_eq!(next(&index).await.len(), 1);
        let guard = index.start_claiming(id, Trigger::Due).expect("free");
        guard.is_empty();
        drop(guard);
        index.on_heartbeat(id);
        assert_eq!(next(&index).await, []);
    }
}
