//! Messages for agents that were busy: they wait in the database, and are sent again when their agent has
//! room, one at a time.
//!
//! Heartbeats come all the time and mustn't cost a statement, so it is kept in memory for whom something
//! waits: that is told by those who queue it here, and by a sweep now and then for what other servers
//! queued and what a crash left.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::StatusCode;
use serde_json::{Value, json};
use store::{
    StoreError,
    queue::{NewQueued, QueuedRow, Outcome},
    workspaces::Status,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    by_url::Undelivered,
    caller::Caller,
    deliver::{Messaging, Reply, Turn},
    error::DeliveryError,
    limits::{LOST, TRIES, TURN},
};

/// What runtimes say that keep their own queue.
const OWN_QUEUE: &str = "session";

/// For whom something waits, and whose turn it is right now.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Sets>);

#[derive(Debug, Default)]
struct Sets {
    waiting: HashSet<Uuid>,
    served: HashSet<Uuid>,
}

/// That it is the turn of a workspace; ends with the value, however that comes.
struct Served {
    messaging: Messaging,
    id: Uuid,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.messaging.waiting.lock().served.remove(&self.id);
    }
}

impl Turn {
    /// The message as it waits.
    pub(crate) fn to_wait(&self) -> NewQueued {
        let number = self.request.body.pointer("/params/expires_in_seconds").and_then(Value::as_i64);
        let seconds = number.filter(|seconds| *seconds > 0).and_then(chrono::Duration::try_seconds);
        let key = self.request.body.pointer("/params/message/messageId").and_then(Value::as_str);
        NewQueued {
            workspace_id: self.target.row.id,
            caller_id: self.caller.workspace(),
            body: self.request.body.to_string(),
            method: self.request.method().to_owned(),
            idempotency_key: key.map(str::to_owned),
            expires_at: seconds.and_then(|seconds| store::now().checked_add_signed(seconds)),
        }
    }
}

impl Messaging {
    /// Lets a message wait until its agent has room.
    pub(crate) async fn wait_in_line(&self, new: NewQueued) -> Result<Reply, DeliveryError> {
        let id = new.workspace_id;
        if self.fleet.does_itself(id, OWN_QUEUE) {
            return Err(DeliveryError::BusyByItself);
        }
        let queued = self.fleet.store().enqueue(new).await;
        let (queue_id, depth) = queued.map_err(DeliveryError::BusyAndNotQueued)?;
        self.waiting.lock().waiting.insert(id);
        let text = "workspace agent busy — request queued, will dispatch when capacity available";
        let body = json!({ "message": text, "queue_depth": depth, "queue_id": queue_id, "queued": true });
        Ok(Reply::json(StatusCode::ACCEPTED, &body))
    }

    /// An agent said how it is: if it has room, and something waits for it, that is sent. Returns at once.
    pub fn heard_from(&self, id: Uuid) {
        if !self.waiting.lock().waiting.contains(&id) || !self.has_room(id) {
            return;
        }
        let Some(served) = self.serve(id) else { return };
        let messaging = self.clone();
        tokio::spawn(async move {
            if let Err(error) = messaging.send_next(id).await {
                tracing::warn!(workspace = %id, error = &error as &dyn std::error::Error, "the queue can't be used");
            }
            drop(served);
        });
    }

    /// Tidies the queue and sends what can be sent. At the start of a server that has its database for
    /// itself (`starting`), nothing is on its way.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn sweep_queue(&self, starting: bool) -> Result<(), StoreError> {
        let lost =
            if starting && self.fleet.store().is_single_process() { store::now() } else { store::now() - LOST };
        let waiting = self.fleet.store().requeue_expired(lost, TRIES).await?;
        // Added only: something may have been queued while we read.
        self.waiting.lock().waiting.extend(waiting.iter().copied());
        waiting.into_iter().for_each(|id| self.heard_from(id));
        Ok(())
    }

    fn has_room(&self, id: Uuid) -> bool {
        self.fleet.directory().get(id).is_some_and(|workspace| {
            let tasks = workspace.presence.as_ref().map_or(0, |presence| presence.active_tasks);
            matches!(workspace.row.status, Status::Online | Status::Degraded)
                && tasks < workspace.row.max_concurrent_tasks
        })
    }

    /// Notes that it is this workspace's turn, unless it is already.
    fn serve(&self, id: Uuid) -> Option<Served> {
        let new = self.waiting.lock().served.insert(id);
        new.then(|| Served { messaging: self.clone(), id })
    }

    async fn send_next(&self, id: Uuid) -> Result<(), StoreError> {
        let Some(row) = self.fleet.store().dequeue(id).await? else {
            self.waiting.lock().waiting.remove(&id);
            return Ok(());
        };
        let failure = self.send_queued(&row).await;
        let settled = match &failure {
            None => Outcome::Completed,
            Some(error) => Outcome::Undelivered { error, max_attempts: TRIES },
        };
        self.fleet.store().complete(&row, settled).await
    }

    /// Sends a message that waited. Returns why it was not delivered.
    async fn send_queued(&self, row: &QueuedRow) -> Option<String> {
        let caller = row.caller_id.map_or(Caller::Person, Caller::Workspace);
        let deadline = Some(Instant::now() + TURN);
        let sent = match self.turn(row.workspace_id, row.body.as_bytes(), caller).await {
            Ok(turn) => self.pass_on(turn, deadline).await,
            Err(error) => Err(error.into()),
        };
        match sent {
            Ok(_) => None,
            Err(Undelivered::Busy(_)) => Some("workspace agent busy".to_owned()),
            Err(Undelivered::Refused(error)) => Some(error.to_string()),
        }
    }
}
