//! The queue of messages to busy agents: durable, and sent again when the agent has capacity.

use http::StatusCode;
use serde_json::json;
use store::{
    StoreError,
    activity::{LoggedActivity, SAME_MESSAGE},
    queue::{Capacity, Claim, Enqueued, QueuedBefore, QueuedRow, Swept},
    workspaces::Status,
};
use types::WorkspaceId;

use crate::{
    Messaging,
    delivery::BusyDelivery,
    error::DeliveryError,
    limits::{ANONYMOUS_PARTS, LONGEST_BACK_OFF, MAX_ATTEMPTS},
    pending::{ClaimGuard, Trigger},
    reply::Reply,
};

/// Capability of agents that keep a queue of their own.
const NATIVE_QUEUE: &str = "session";

/// The answer to a message that waits.
pub(crate) fn queued_reply(QueuedBefore { id: queue_id, depth }: QueuedBefore) -> Reply {
    let text = "workspace agent busy — request queued, will dispatch when capacity available";
    let body = json!({ "message": text, "queue_depth": depth, "queue_id": queue_id, "queued": true });
    Reply::json(StatusCode::ACCEPTED, &body)
}

impl Messaging {
    /// Queues a message until its agent has capacity. The message and its activity are durable before the
    /// sender is answered.
    pub(crate) async fn enqueue(&self, busy: BusyDelivery) -> Result<Reply, DeliveryError> {
        let BusyDelivery { message, entry, reached, anonymous } = busy;
        let id = message.workspace_id;
        if self.fleet.has_capability(id, NATIVE_QUEUE) {
            self.log_behind(entry).await;
            return Err(DeliveryError::BusyNativeQueue);
        }
        let (row, event) = entry.into_row_and_event();
        let room = if anonymous { self.limits.queue.part(ANONYMOUS_PARTS) } else { self.limits.queue };
        let since = store::now() - SAME_MESSAGE;
        let queued = match self.fleet.store().enqueue(message, Some(&row), since, &room).await {
            Ok(Enqueued::Waits(queued)) => queued,
            Ok(Enqueued::Full(full)) => {
                // A row for each message that reached no agent would fill the disk as the queue would.
                if reached {
                    self.fleet.state().write_behind(LoggedActivity { row, event: Some(event) }).await;
                }
                return Err(DeliveryError::QueueFull(full));
            }
            Err(error) => {
                self.fleet.state().write_behind(LoggedActivity { row, event: Some(event) }).await;
                return Err(DeliveryError::BusyAndNotQueued(error));
            }
        };
        self.fleet.state().publish_ephemeral(id, &event);
        self.pending.add(id);
        Ok(queued_reply(queued))
    }

    /// Requeues and drops what has to be, then sends messages to agents that have capacity. `requeue_others`: a server
    /// without a lease is gone.
    pub(crate) async fn sweep_queue(&self, requeue_others: bool) -> Result<(), StoreError> {
        let ended = if requeue_others { self.end_abandoned().await } else { Ok(()) };
        let running = self.running.ids();
        let server = self.fleet.state().server();
        let sweep = Swept {
            server,
            running: &running,
            requeue_others,
            max_attempts: MAX_ATTEMPTS,
            longest_wait: LONGEST_BACK_OFF,
        };
        let waiting = self.fleet.store().sweep_queue(&sweep).await?;
        self.pending.swept(&waiting).into_iter().for_each(|id| self.drain(id, Trigger::Due));
        ended
    }

    /// Sends queued messages to an agent, as many as it has capacity for. Returns at once.
    pub(crate) fn drain(&self, id: WorkspaceId, trigger: Trigger) {
        if self.stopping.is_draining() || self.capacity(id).is_none() {
            return;
        }
        let Some(guard) = self.pending.start_claiming(id, trigger) else { return };
        let (messaging, running) = (self.clone(), self.stopping.begin());
        tokio::spawn(async move {
            if let Err(error) = messaging.claim_all(id, trigger, guard).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(workspace = %id, error, "queued messages can't be sent: the database failed");
            }
            drop(running);
        });
    }

    /// What the agent of a workspace can take. None where it can't take a message now.
    fn capacity(&self, id: WorkspaceId) -> Option<Capacity> {
        let workspace = self.fleet.workspaces().get(id)?;
        let presence = workspace.presence.as_ref();
        let capacity = Capacity {
            max: workspace.row.max_concurrent_tasks,
            active: presence.map_or(0, |presence| presence.active_tasks),
            reported_at: presence.and_then(|presence| presence.last_seen_at),
        };
        let takes_work = matches!(workspace.row.status, Status::Online | Status::Degraded);
        (takes_work && capacity.active < capacity.max).then_some(capacity)
    }

    /// Claims messages and begins to deliver them, until the agent has no capacity left or nothing is due.
    async fn claim_all(
        &self,
        id: WorkspaceId,
        mut trigger: Trigger,
        mut guard: ClaimGuard,
    ) -> Result<(), StoreError> {
        loop {
            if trigger == Trigger::Heartbeat {
                self.fleet.store().end_back_off(id).await?;
            }
            // Before the claim: what is claimed is delivered.
            let permit = self.running.permit();
            let claim = match (permit, self.capacity(id)) {
                (Some(permit), Some(capacity)) if self.may_claim(id) => {
                    let server = self.fleet.state().server();
                    match self.fleet.store().claim_queued(id, server, capacity, LONGEST_BACK_OFF).await? {
                        Claim::Taken(row) => {
                            self.begin_delivery(*row, permit);
                            trigger = Trigger::Due;
                            continue;
                        }
                        other => other,
                    }
                }
                _ => Claim::Later,
            };
            if claim == Claim::Empty {
                guard.is_empty();
            }
            match guard.again() {
                Some(next) => trigger = next,
                None => return Ok(()),
            }
        }
    }

    /// Not while this server stops, or while the agent is known to be away.
    fn may_claim(&self, id: WorkspaceId) -> bool {
        !self.stopping.is_draining() && !self.pending.is_blocked(id)
    }

    fn begin_delivery(&self, row: QueuedRow, permit: crate::claimed::Permit) {
        let running = self.running.begin(row.id, permit);
        let (messaging, counted) = (self.clone(), self.stopping.begin());
        tokio::spawn(async move {
            messaging.deliver_claimed(row).await;
            drop((running, counted));
        });
    }
}
