//! The writer: the one task of a server that makes [`Change`]s.
//!
//! Changes that arrive while it works are made together, in one transaction (group commit); if one
//! of them can't be made, the transaction is undone and each is made by itself, so nobody pays for
//! somebody else's conflict. What isn't worth a transaction of its own ([`Append`]) is written behind:
//! a moment later it is stored with others, and of those that replace each other only the newest.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use events::Envelope;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use crate::{Change, CommitError, Store, activity::ActivityRow, apply, workspaces::PresenceRow};

/// Changes in one transaction at most.
const GROUP: usize = 128;

/// Changes that wait for their turn before whoever brings another one has to wait too.
const QUEUE: usize = 1_024;

/// Rows written behind: stored when there are this many …
const BEHIND_ROWS: usize = 128;

/// … or when the first has waited this long. After a failure, the time until the next try.
const BEHIND_DELAY: Duration = Duration::from_millis(5);
const BEHIND_RETRY: Duration = Duration::from_secs(1);

/// How long the database may take for one transaction.
const DEADLINE: Duration = Duration::from_secs(10);

/// Hears of changes, in the order in which they were made, before anybody else.
pub trait Observer: Send + Sync + 'static {
    /// A change was made. `events` are its own, stamped.
    fn committed(&self, change: &Change, events: &[Arc<Envelope>]);

    /// A change may have been made or not. Whoever keeps an image should look.
    fn uncertain(&self);
}

/// Something that may be lost with the process, but not later.
#[derive(Debug, Clone)]
pub enum Append {
    /// A token was presented.
    TokenUsed {
        /// Its id.
        id: Uuid,
        /// When.
        at: DateTime<Utc>,
    },
    /// An agent said how it is.
    Presence(PresenceRow),
    /// An agent did something, or something was said to it. None replaces another.
    Activity(Box<ActivityRow>),
}

/// Where changes are brought. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    changes: mpsc::Sender<Ordered>,
    appends: mpsc::Sender<Append>,
}

type Done = oneshot::Sender<Result<Vec<Arc<Envelope>>, CommitError>>;

#[derive(Debug)]
struct Ordered {
    change: Change,
    done: Done,
}

impl Writer {
    /// Starts the task. It ends, with everything stored, when the last `Writer` is dropped.
    pub fn start(store: Store, observer: Arc<dyn Observer>) -> (Self, JoinHandle<()>) {
        let (changes, ordered) = mpsc::channel(QUEUE);
        let (appends, appended) = mpsc::channel(QUEUE);
        let task = Task { store, observer, ordered, appended, behind: Behind::default() };
        (Self { changes, appends }, tokio::spawn(task.run()))
    }

    /// Makes a change. When this returns, it survives the end of the process, and the observer knows
    /// of it. Returns its events.
    ///
    /// # Errors
    /// If the change wasn't made. See [`CommitError`].
    pub async fn commit(&self, change: Change) -> Result<Vec<Arc<Envelope>>, CommitError> {
        let (done, answer) = oneshot::channel();
        self.changes.send(Ordered { change, done }).await.map_err(|_| CommitError::Stopping)?;
        answer.await.map_err(|_| CommitError::Stopping)?
    }

    /// Writes behind; waits while too much is waiting already.
    pub async fn append(&self, append: Append) {
        // A writer that is gone takes nothing any more, and such rows may be lost.
        let _ = self.appends.send(append).await;
    }

    /// Writes behind, or not at all when too much is waiting already.
    pub fn try_append(&self, append: Append) {
        let _ = self.appends.try_send(append);
    }
}

struct Task {
    store: Store,
    observer: Arc<dyn Observer>,
    ordered: mpsc::Receiver<Ordered>,
    appended: mpsc::Receiver<Append>,
    behind: Behind,
}

impl Task {
    async fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        let mut appends = Vec::with_capacity(BEHIND_ROWS);
        loop {
            // Chosen by chance where several are ready: neither changes nor rows that can wait are kept
            // from their turn by many of the others.
            let room = BEHIND_ROWS.saturating_sub(self.behind.len());
            tokio::select! {
                count = self.ordered.recv_many(&mut group, GROUP) => {
                    if count == 0 {
                        break;
                    }
                    metrics::histogram!("isomer_commit_group_changes").record(count as f64);
                    self.make(&mut group).await;
                }
                () = sleep_until(self.behind.due), if !self.behind.is_empty() => self.flush().await,
                count = self.appended.recv_many(&mut appends, room), if room > 0 && !self.appended.is_closed() => {
                    appends.drain(..).take(count).for_each(|append| self.behind.take(append));
                }
            }
        }
        while let Some(append) = self.appended.recv().await {
            self.behind.take(append);
        }
        self.flush().await;
        let left = self.behind.len();
        if left > 0 {
            tracing::warn!(rows = left, "rows could not be stored before the end");
        }
    }

    /// Makes all of a group or, if that can't be, each that can be made.
    async fn make(&self, group: &mut Vec<Ordered>) {
        let together: Vec<&Change> = group.iter().map(|ordered| &ordered.change).collect();
        match self.transaction(&together).await {
            Ok(events) => {
                for (ordered, events) in group.drain(..).zip(events) {
                    self.made(ordered, events);
                }
            }
            // Nothing that another order could mend: the database itself failed, for everybody.
            Err(CommitError::Store(error)) if error.is_outage() => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    changes = group.len(),
                    "changes could not be made"
                );
                for ordered in group.drain(..) {
                    let _ = ordered.done.send(Err(error.clone().into()));
                }
                self.observer.uncertain();
            }
            Err(CommitError::Unknown) => {
                tracing::error!(changes = group.len(), "the database didn't answer in time");
                for ordered in group.drain(..) {
                    let _ = ordered.done.send(Err(CommitError::Unknown));
                }
                self.observer.uncertain();
            }
            Err(error) if group.len() == 1 => {
                tracing::debug!(%error, "a change was not made");
                if let Some(ordered) = group.pop() {
                    let _ = ordered.done.send(Err(error));
                }
            }
            Err(_) => {
                for ordered in group.drain(..) {
                    Box::pin(self.make(&mut vec![ordered])).await;
                }
            }
        }
    }

    fn made(&self, ordered: Ordered, events: Vec<Arc<Envelope>>) {
        self.observer.committed(&ordered.change, &events);
        let _ = ordered.done.send(Ok(events));
    }

    async fn transaction(&self, changes: &[&Change]) -> Result<Vec<Vec<Arc<Envelope>>>, CommitError> {
        timeout(DEADLINE, apply::together(&self.store, changes)).await.unwrap_or(Err(CommitError::Unknown))
    }

    async fn flush(&mut self) {
        metrics::histogram!("isomer_behind_group_rows").record(self.behind.len() as f64);
        let stored = timeout(DEADLINE, apply::behind(&self.store, &self.behind)).await;
        match stored {
            Ok(Ok(())) => self.behind.clear(),
            Ok(Err(error)) if !error.is_outage() && self.behind.len() > 1 => self.flush_each().await,
            Ok(Err(error)) if !error.is_outage() => self.behind.lose(&error),
            Ok(Err(error)) => self.behind.failed(&error),
            Err(late) => self.behind.failed(&late),
        }
    }
}

impl Task {
    /// Stores each row by itself: one that can't be stored must not hold up the others, and is lost.
    async fn flush_each(&mut self) {
        for mut one in self.behind.each() {
            match timeout(DEADLINE, apply::behind(&self.store, &one)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if !error.is_outage() => one.lose(&error),
                Ok(Err(error)) => {
                    self.behind.put_back(one);
                    self.behind.failed(&error);
                }
                Err(late) => {
                    self.behind.put_back(one);
                    self.behind.failed(&late);
                }
            }
        }
    }
}

/// Rows to be written behind: the newest of those that replace each other, and all of the others.
#[derive(Debug)]
pub(crate) struct Behind {
    /// When tokens were presented, by id.
    pub(crate) tokens_used: HashMap<Uuid, DateTime<Utc>>,
    /// What agents said of themselves, by workspace.
    pub(crate) presences: HashMap<Uuid, PresenceRow>,
    /// What they did, in the order in which it was told.
    pub(crate) activity: Vec<ActivityRow>,
    due: Instant,
}

impl Default for Behind {
    fn default() -> Self {
        let (tokens_used, presences, activity) = Default::default();
        Self { tokens_used, presences, activity, due: Instant::now() }
    }
}

impl Behind {
    fn len(&self) -> usize {
        self.tokens_used.len() + self.presences.len() + self.activity.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn clear(&mut self) {
        self.tokens_used.clear();
        self.presences.clear();
        self.activity.clear();
    }

    /// Takes all rows out, each by itself.
    fn each(&mut self) -> Vec<Self> {
        let all = std::mem::take(self);
        let tokens = all.tokens_used.into_iter().map(|(id, at)| Append::TokenUsed { id, at });
        let presences = all.presences.into_values().map(Append::Presence);
        let activity = all.activity.into_iter().map(|row| Append::Activity(Box::new(row)));
        let one = |append| {
            let mut one = Self::default();
            one.take(append);
            one
        };
        tokens.chain(presences).chain(activity).map(one).collect()
    }

    /// Rows that could not be stored, unless newer ones are there.
    fn put_back(&mut self, other: Self) {
        for (id, at) in other.tokens_used {
            self.tokens_used.entry(id).or_insert(at);
        }
        for (id, row) in other.presences {
            self.presences.entry(id).or_insert(row);
        }
        self.activity.extend(other.activity);
    }

    /// Gives up rows that the database will never take.
    fn lose(&mut self, error: &dyn std::error::Error) {
        tracing::error!(%error, rows = self.len(), "rows written behind can't be stored; they are lost");
        metrics::counter!("isomer_behind_rows_lost_total").increment(self.len() as u64);
        self.clear();
    }

    fn take(&mut self, append: Append) {
        if self.is_empty() {
            self.due = Instant::now() + BEHIND_DELAY;
        }
        match append {
            Append::TokenUsed { id, at } => {
                self.tokens_used.insert(id, at);
            }
            Append::Presence(row) => {
                let newest = self.presences.entry(row.workspace_id).or_default();
                *newest = std::mem::take(newest).after(row);
            }
            Append::Activity(row) => self.activity.push(*row),
        }
        if self.len() >= BEHIND_ROWS && self.due < Instant::now() + BEHIND_DELAY {
            self.due = Instant::now();
        }
    }

    fn failed(&mut self, error: &dyn std::error::Error) {
        tracing::warn!(%error, rows = self.len(), "rows written behind could not be stored; they are kept for the next try");
        self.due = Instant::now() + BEHIND_RETRY;
    }
}
