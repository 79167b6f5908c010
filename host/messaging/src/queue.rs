//! The queue of messages to busy agents: durable, and sent again one at a time when the agent has capacity.

use http::StatusCode;
use serde_json::json;
use store::{
    StoreError,
    queue::{self, QueuedRow},
    workspaces::Status,
};
use tokio::time::Instant;
use types::WorkspaceId;

use crate::{
    Messaging,
    caller::Caller,
    deliver::SendOptions,
    delivery::{BusyDelivery, Reply, Undelivered},
    error::DeliveryError,
    limits::{DELIVERY_TIMEOUT, MAX_ATTEMPTS, STALE_AFTER},
};

/// Capability of agents that keep a queue of their own.
const NATIVE_QUEUE: &str = "session";

impl Messaging {
    /// Queues a message until its agent has capacity. The message and its activity are durable before the
    /// sender is answered.
    pub(crate) async fn enqueue(&self, busy: BusyDelivery) -> Result<Reply, DeliveryError> {
        let BusyDelivery { message, entry } = busy;
        let id = message.workspace_id;
        if self.fleet.has_capability(id, NATIVE_QUEUE) {
            self.log_behind(entry).await;
            return Err(DeliveryError::BusyNativeQueue);
        }
        let (row, event) = entry.into_row_and_event();
        let (queue_id, depth) = match self.fleet.store().enqueue(message, Some(&row)).await {
            Ok(queued) => queued,
            Err(error) => {
                self.write_behind(row).await;
                self.fleet.state().publish_ephemeral(id, &event);
                return Err(DeliveryError::BusyAndNotQueued(error));
            }
        };
        self.fleet.state().publish_ephemeral(id, &event);
        self.pending.add([id]);
        let text = "workspace agent busy — request queued, will dispatch when capacity available";
        let body = json!({ "message": text, "queue_depth": depth, "queue_id": queue_id, "queued": true });
        Ok(Reply::json(StatusCode::ACCEPTED, &body))
    }

    /// Requeues and expires messages, then sends one to each agent that has capacity. At the start of a
    /// server that has its database for itself (`starting`), no message is under way.
    pub(crate) async fn sweep_queue(&self, starting: bool) -> Result<(), StoreError> {
        let store = self.fleet.store();
        if starting && store.is_single_process() {
            self.end_abandoned().await?;
        }
        let stale =
            if starting && store.is_single_process() { store::now() } else { store::now() - STALE_AFTER };
        let pending = store.requeue_expired(stale, MAX_ATTEMPTS).await?;
        // Added only: a message may have been enqueued since the query.
        self.pending.add(pending.iter().copied());
        pending.into_iter().for_each(|id| self.drain(id));
        Ok(())
    }

    /// Sends the next queued message to an agent if it has capacity. Returns at once.
    pub(crate) fn drain(&self, id: WorkspaceId) {
        if !self.has_capacity(id) {
            return;
        }
        let Some(guard) = self.pending.start_drain(id) else { return };
        let messaging = self.clone();
        tokio::spawn(async move {
            if let Err(error) = messaging.send_next(id).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(workspace = %id, error, "a queued message can't be sent: the database failed");
            }
            drop(guard);
        });
    }

    fn has_capacity(&self, id: WorkspaceId) -> bool {
        self.fleet.workspaces().get(id).is_some_and(|workspace| {
            let tasks = workspace.presence.as_ref().map_or(0, |presence| presence.active_tasks);
            matches!(workspace.row.status, Status::Online | Status::Degraded)
                && tasks < workspace.row.max_concurrent_tasks
        })
    }

    async fn send_next(&self, id: WorkspaceId) -> Result<(), StoreError> {
        let Some(row) = self.fleet.store().dequeue(id).await? else {
            self.pending.remove(id);
            return Ok(());
        };
        let failure = self.send_queued(&row).await;
        let outcome = match &failure {
            None => queue::Outcome::Completed,
            Some(error) => queue::Outcome::Undelivered { error, max_attempts: MAX_ATTEMPTS },
        };
        self.fleet.store().complete(&row, outcome).await
    }

    /// Delivers a message from the queue. Returns why it was not delivered.
    async fn send_queued(&self, row: &QueuedRow) -> Option<String> {
        let caller = row.caller_id.map_or(Caller::User, Caller::Workspace);
        let deadline = Some(Instant::now() + DELIVERY_TIMEOUT);
        let sent = match self.prepare(row.workspace_id, row.body.as_bytes(), caller).await {
            Ok(delivery) => self.dispatch(delivery, SendOptions { deadline, ..SendOptions::default() }).await,
            Err(error) => Err(error.into()),
        };
        match sent {
            Ok(_) => None,
            Err(Undelivered::Busy(busy)) => {
                self.log_behind(busy.entry).await;
                Some("workspace agent busy".to_owned())
            }
            Err(Undelivered::Failed(error)) => Some(error.to_string()),
        }
    }
}
