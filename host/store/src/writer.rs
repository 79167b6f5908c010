//! The writer: the one task of a server that commits [`Change`]s.
//!
//! Changes that arrive while it works are committed together, in one transaction (group commit). If one
//! of them can't be committed, the transaction is rolled back and each is committed by itself, so that a
//! conflict fails its own change only. What isn't worth a transaction of its own ([`WriteBehind`]) is
//! stored with others a moment later, and of rows that replace each other only the newest.

use std::{sync::Arc, time::Duration};

use events::Envelope;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use crate::{
    Change, CommitError, Store, commit,
    write_behind::{FLUSHED_ROWS, PENDING_ROWS, Pending, WriteBehind},
};

/// Changes in one transaction at most.
const GROUP: usize = 128;

/// Changes, and rows written behind, that wait for the writer; senders of more wait.
const QUEUE: usize = 1_024;

/// How long the database may take for one transaction.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Is called with each commit, in order, before its caller has the answer.
pub trait Observer: Send + Sync + 'static {
    /// A change was committed, with these events.
    fn committed(&self, change: &Change, events: &[Arc<Envelope>]);

    /// A change may have been committed or not: an index should catch up with the database.
    fn outcome_unknown(&self);
}

/// The handle of the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    commits: mpsc::Sender<PendingCommit>,
    behind: mpsc::Sender<Box<dyn WriteBehind>>,
    /// Notified when enough rows wait to be stored at once.
    full: Arc<Notify>,
}

#[derive(Debug)]
struct PendingCommit {
    change: Change,
    done: oneshot::Sender<Result<Vec<Arc<Envelope>>, CommitError>>,
}

impl Writer {
    /// Starts the task. It ends, with everything stored, when the last `Writer` is dropped.
    pub fn start(store: Store, observer: Arc<dyn Observer>) -> (Self, JoinHandle<()>) {
        let (commits, pending_commits) = mpsc::channel(QUEUE);
        let (behind, entries) = mpsc::channel(QUEUE);
        let full = Arc::<Notify>::default();
        let (pending, is_full) = (Pending::default(), Arc::clone(&full));
        let task = Task { store, observer, pending_commits, entries, full: is_full, pending };
        (Self { commits, behind, full }, tokio::spawn(task.run()))
    }

    /// Commits a change. When this returns, the change survives the end of the process, and the observer
    /// was called. Returns the events.
    ///
    /// # Errors
    /// If the change wasn't committed. See [`CommitError`].
    pub async fn commit(&self, change: Change) -> Result<Vec<Arc<Envelope>>, CommitError> {
        let (done, answer) = oneshot::channel();
        self.commits.send(PendingCommit { change, done }).await.map_err(|_| CommitError::Stopping)?;
        answer.await.map_err(|_| CommitError::Stopping)?
    }

    /// Writes behind; waits while too many rows wait.
    pub async fn write_behind(&self, entry: impl WriteBehind) {
        // A writer that stopped takes nothing any more, and such rows may be lost.
        let _ = self.behind.send(Box::new(entry)).await;
        self.notify_if_full();
    }

    /// Writes behind, or not at all when too many rows wait.
    pub fn try_write_behind(&self, entry: impl WriteBehind) {
        let _ = self.behind.try_send(Box::new(entry));
        self.notify_if_full();
    }

    fn notify_if_full(&self) {
        if self.behind.max_capacity() - self.behind.capacity() >= PENDING_ROWS {
            self.full.notify_one();
        }
    }
}

struct Task {
    store: Store,
    observer: Arc<dyn Observer>,
    pending_commits: mpsc::Receiver<PendingCommit>,
    entries: mpsc::Receiver<Box<dyn WriteBehind>>,
    full: Arc<Notify>,
    pending: Pending,
}

impl Task {
    async fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            // A random ready branch: a flood of changes must not starve rows written behind, nor the
            // reverse.
            //
            // Only the first row wakes this task. Those that follow stay in their queue until they are
            // stored, because a wake-up costs more than a row.
            let waits = !self.pending.is_empty();
            tokio::select! {
                count = self.pending_commits.recv_many(&mut group, GROUP) => {
                    if count == 0 {
                        break;
                    }
                    metrics::histogram!("isomer_commit_group_changes").record(count as f64);
                    self.commit(&mut group).await;
                }
                () = sleep_until(self.pending.due), if waits => {
                    self.flush().await;
                }
                () = self.full.notified(), if waits && !self.pending.retries => {
                    self.flush().await;
                }
                Some(entry) = self.entries.recv(), if !waits => self.pending.push(entry),
            }
        }
        // Every sender is gone with the last handle.
        while self.flush().await && !self.entries.is_empty() {}
        let left = self.pending.len() + self.entries.len();
        if left > 0 {
            tracing::warn!(rows = left, "rows could not be stored before the end");
        }
    }

    /// Commits all of a group together or, if that fails, each change that can be committed.
    async fn commit(&self, group: &mut Vec<PendingCommit>) {
        let changes: Vec<&Change> = group.iter().map(|pending| &pending.change).collect();
        match self.transaction(&changes).await {
            Ok(events) => {
                for (pending, events) in group.drain(..).zip(events) {
                    self.observer.committed(&pending.change, &events);
                    let _ = pending.done.send(Ok(events));
                }
            }
            // Single commits would fail as well: the database itself failed.
            Err(CommitError::Store(error)) if error.is_outage() => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    changes = group.len(),
                    "changes could not be committed"
                );
                for pending in group.drain(..) {
                    let _ = pending.done.send(Err(error.clone().into()));
                }
                self.observer.outcome_unknown();
            }
            Err(CommitError::OutcomeUnknown) => {
                tracing::error!(changes = group.len(), "the database didn't answer in time");
                for pending in group.drain(..) {
                    let _ = pending.done.send(Err(CommitError::OutcomeUnknown));
                }
                self.observer.outcome_unknown();
            }
            Err(error) if group.len() == 1 => {
                tracing::debug!(%error, "a change was not committed");
                if let Some(pending) = group.pop() {
                    let _ = pending.done.send(Err(error));
                }
            }
            Err(_) => {
                for pending in group.drain(..) {
                    Box::pin(self.commit(&mut vec![pending])).await;
                }
            }
        }
    }

    async fn transaction(&self, changes: &[&Change]) -> Result<Vec<Vec<Arc<Envelope>>>, CommitError> {
        let committed = timeout(TRANSACTION_TIMEOUT, commit::commit_group(&self.store, changes)).await;
        committed.unwrap_or(Err(CommitError::OutcomeUnknown))
    }

    /// Stores rows that wait. Returns whether none is left but those that arrived meanwhile.
    async fn flush(&mut self) -> bool {
        metrics::histogram!("isomer_behind_queue_rows")
            .record((self.pending.len() + self.entries.len()) as f64);
        while self.pending.len() < FLUSHED_ROWS
            && let Ok(entry) = self.entries.try_recv()
        {
            self.pending.push(entry);
        }
        metrics::histogram!("isomer_behind_group_rows").record(self.pending.len() as f64);
        let stored = timeout(TRANSACTION_TIMEOUT, commit::flush(&self.store, &self.pending)).await;
        match stored {
            Ok(Ok(())) => self.pending.clear(),
            Ok(Err(error)) if !error.is_outage() && self.pending.len() > 1 => self.flush_each().await,
            Ok(Err(error)) if !error.is_outage() => self.pending.discard(&error),
            Ok(Err(error)) => self.pending.retry_later(&error),
            Err(late) => self.pending.retry_later(&late),
        }
        self.pending.is_empty()
    }

    /// Stores each row by itself: one that can't be stored must not hold up the others, and is lost.
    async fn flush_each(&mut self) {
        for mut one in self.pending.split() {
            match timeout(TRANSACTION_TIMEOUT, commit::flush(&self.store, &one)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if !error.is_outage() => one.discard(&error),
                Ok(Err(error)) => {
                    self.pending.requeue(one);
                    self.pending.retry_later(&error);
                }
                Err(late) => {
                    self.pending.requeue(one);
                    self.pending.retry_later(&late);
                }
            }
        }
    }
}
