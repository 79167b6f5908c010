//! The writer: the one task of a server that commits [`Change`]s.
//!
//! Changes that arrive while it works are committed together, in one transaction (group commit). If one
//! of them can't be committed, the transaction is rolled back and each is committed by itself, so that a
//! conflict fails its own change only. What isn't worth a transaction of its own ([`WriteBehind`]) is
//! stored with others a moment later, and of rows that replace each other only the newest.

use std::{error::Error, sync::Arc, time::Duration};

use events::{Envelope, Event};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use types::WorkspaceId;

use crate::{
    BEHIND_BYTES, Change, CommitError, Store,
    behind::BehindQueue,
    commit,
    write_behind::{Pending, WriteBehind},
};

/// Changes in one transaction at most.
const GROUP: usize = 128;

/// Changes that wait for the writer; senders of more wait. Each belongs to a request, whose number and size
/// the server limits.
const QUEUE: usize = 1_024;

/// How long the database may take for one transaction.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a change may take from its sender to its commit: one transaction before it, and its own where
/// that does not take all of its time. One that was not begun by then is not committed.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);

/// Time between two tries while the database can't be written.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Is called with each commit, in order, before its caller has the answer.
pub trait Observer: Send + Sync + 'static {
    /// A change was committed, with these events.
    fn committed(&self, change: &Change, events: &[Arc<Envelope>]);

    /// Rows that were written behind are stored: these events publish them.
    fn stored(&self, _events: Vec<(WorkspaceId, Event)>) {}

    /// A change may have been committed or not: an index should catch up with the database.
    fn outcome_unknown(&self);
}

/// The handle of the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    commits: mpsc::Sender<PendingCommit>,
    behind: Arc<BehindQueue>,
}

#[derive(Debug)]
struct PendingCommit {
    change: Change,
    done: oneshot::Sender<Result<Vec<Arc<Envelope>>, CommitError>>,
}

impl Writer {
    /// Starts the task. It ends, with everything stored, when the last `Writer` is dropped.
    pub fn start(store: Store, observer: Arc<dyn Observer>) -> (Self, JoinHandle<()>) {
        Self::start_with(store, observer, BEHIND_BYTES)
    }

    /// The same. Rows that are written behind take `behind_bytes` at most while they wait.
    pub fn start_with(
        store: Store,
        observer: Arc<dyn Observer>,
        behind_bytes: usize,
    ) -> (Self, JoinHandle<()>) {
        let (commits, pending_commits) = mpsc::channel(QUEUE);
        let behind = Arc::new(BehindQueue::new(behind_bytes));
        let (waiting, batch) = (Arc::clone(&behind), Pending::default());
        let task = Task { store, observer, pending_commits, behind: waiting, batch, due: None };
        (Self { commits, behind }, tokio::spawn(task.run()))
    }

    /// Commits a change. When this returns, the change survives the end of the process, and the observer
    /// was called. Returns the events.
    ///
    /// # Errors
    /// If the change wasn't committed, or not in time. See [`CommitError`].
    pub async fn commit(&self, change: Change) -> Result<Vec<Arc<Envelope>>, CommitError> {
        let (done, answer) = oneshot::channel();
        let committed = async {
            let sent = self.commits.send(PendingCommit { change, done }).await;
            sent.map_err(|_| CommitError::Stopping)?;
            answer.await.map_err(|_| CommitError::Stopping)?
        };
        timeout(COMMIT_TIMEOUT, committed).await.unwrap_or(Err(CommitError::OutcomeUnknown))
    }

    /// Writes behind. Returns at once for rows that replace each other. Others wait for a moment where many
    /// wait, and are lost where those that wait take all the memory that they may. Returns whether the row is not
    /// lost.
    pub async fn write_behind(&self, entry: impl WriteBehind) -> bool {
        self.behind.push(Box::new(entry)).await
    }

    /// Writes behind, without waiting. Returns whether the row is not lost.
    pub fn try_write_behind(&self, entry: impl WriteBehind) -> bool {
        self.behind.try_push(Box::new(entry))
    }

    /// Whether the database could not be written when that was last tried. While it can't, it is tried
    /// every second.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.behind.is_failing()
    }

    /// Whether rows written behind are being lost, because too many wait.
    #[must_use]
    pub fn is_losing_rows(&self) -> bool {
        self.behind.is_losing()
    }
}

struct Task {
    store: Store,
    observer: Arc<dyn Observer>,
    pending_commits: mpsc::Receiver<PendingCommit>,
    behind: Arc<BehindQueue>,
    /// Rows of the next transaction: those of the last one, if it failed.
    batch: Pending,
    /// When rows are stored, or the database is tried again.
    due: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            // A random ready branch: a flood of changes must not starve rows written behind, nor the
            // reverse.
            //
            // Only the first row, and enough of them, wake this task, because a wake-up costs more than a
            // row. While the database can't be written, only the time for the next try does.
            let due = self.due.unwrap_or_else(Instant::now);
            tokio::select! {
                count = self.pending_commits.recv_many(&mut group, GROUP) => {
                    if count == 0 {
                        break;
                    }
                    // Their callers gave up.
                    group.retain(|pending| !pending.done.is_closed());
                    metrics::histogram!("isomer_commit_group_changes").record(group.len() as f64);
                    self.commit(&mut group).await;
                }
                () = sleep_until(due), if self.due.is_some() => self.flush().await,
                due = self.behind.due(self.due), if !self.behind.is_failing() => self.due = Some(due),
            }
        }
        // Every sender is gone with the last handle.
        loop {
            self.flush().await;
            if self.behind.is_failing() || self.rows() == 0 {
                break;
            }
        }
        if self.rows() > 0 {
            tracing::warn!(rows = self.rows(), "rows could not be stored before the end");
        }
    }

    fn rows(&self) -> usize {
        self.batch.len() + self.behind.len()
    }

    /// Commits all of a group together or, if that fails, each change that can be committed.
    async fn commit(&mut self, group: &mut Vec<PendingCommit>) {
        if group.is_empty() {
            return;
        }
        let changes: Vec<&Change> = group.iter().map(|pending| &pending.change).collect();
        match self.transaction(&changes).await {
            Ok(events) => {
                for (pending, events) in group.drain(..).zip(events) {
                    self.observer.committed(&pending.change, &events);
                    let _ = pending.done.send(Ok(events));
                }
                self.set_writable();
            }
            // Single commits would fail as well: the database itself failed.
            Err(CommitError::Store(error)) if error.is_outage() => {
                for pending in group.drain(..) {
                    let _ = pending.done.send(Err(error.clone().into()));
                }
                self.observer.outcome_unknown();
                self.set_failing(&error);
            }
            Err(CommitError::OutcomeUnknown) => {
                for pending in group.drain(..) {
                    let _ = pending.done.send(Err(CommitError::OutcomeUnknown));
                }
                self.observer.outcome_unknown();
                self.set_failing(&CommitError::OutcomeUnknown);
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

    /// Stores the rows that wait, as many as fit into a transaction. While the database can't be written,
    /// also tries whether it can where none waits.
    async fn flush(&mut self) {
        metrics::histogram!("isomer_behind_queue_rows").record(self.rows() as f64);
        if self.batch.is_empty() {
            self.batch = self.behind.take();
        }
        if self.batch.is_empty() && !self.behind.is_failing() {
            self.due = None;
            return;
        }
        metrics::histogram!("isomer_behind_group_rows").record(self.batch.len() as f64);
        let stored = timeout(TRANSACTION_TIMEOUT, commit::flush(&self.store, &self.batch)).await;
        match stored {
            Ok(Ok(())) => {
                let stored = std::mem::take(&mut self.batch);
                self.settle(stored);
                self.set_writable();
            }
            Ok(Err(error)) if error.is_outage() => self.set_failing(&error),
            Err(late) => self.set_failing(&late),
            Ok(Err(_)) => self.flush_each().await,
        }
        if !self.behind.is_failing() {
            self.due = self.behind.next_due();
        }
    }

    fn settle(&self, mut stored: Pending) {
        self.behind.settled(&stored);
        let events = stored.take_events();
        if !events.is_empty() {
            self.observer.stored(events);
        }
    }

    /// Stores each row by itself: one that can't be stored must not hold up the others, and is lost.
    async fn flush_each(&mut self) {
        for one in self.batch.split() {
            if self.behind.is_failing() {
                self.batch.requeue(one);
                continue;
            }
            match timeout(TRANSACTION_TIMEOUT, commit::flush(&self.store, &one)).await {
                Ok(Ok(())) => self.settle(one),
                Ok(Err(error)) if !error.is_outage() => {
                    self.behind.settled(&one);
                    tracing::error!(%error, "a row written behind can't be stored; it is lost");
                    metrics::counter!("isomer_behind_rows_lost_total").increment(1);
                }
                Ok(Err(error)) => {
                    self.batch.requeue(one);
                    self.set_failing(&error);
                }
                Err(late) => {
                    self.batch.requeue(one);
                    self.set_failing(&late);
                }
            }
        }
    }

    /// Notes that the database can't be written. It is tried again after a while.
    fn set_failing(&mut self, error: &(dyn Error + 'static)) {
        self.due = Some(Instant::now() + RETRY_AFTER);
        if self.behind.set_failing(true) {
            let rows = self.rows();
            tracing::error!(
                error,
                rows,
                "the database can't be written; rows written behind are kept, and changes are refused"
            );
        }
    }

    fn set_writable(&mut self) {
        if self.behind.set_failing(false) {
            self.due = Some(Instant::now());
            tracing::info!(rows = self.rows(), "the database can be written again");
        }
        if let Some(lost) = self.behind.end_losses() {
            tracing::error!(rows = lost, "activity was lost because too much of it waited for the database");
        }
    }
}
