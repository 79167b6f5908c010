//! The way of every message: authorize, normalize, dispatch by delivery mode and hosting, record.

use std::{future::pending, sync::Arc};

use bytes::Bytes;
use events::{Event, definitions::A2aResponse};
use fleet::Workspace;
use store::workspaces::Hosting;
use tokio::time::{Instant, sleep_until};
use types::WorkspaceId;

use crate::{
    Messaging,
    caller::{Caller, Credential},
    delivery::{Answer, Delivery, Origin, Outcome, SendOptions, Undelivered, is_success},
    error::DeliveryError,
    headers::MessageHeaders,
    request::Request,
    same_message::Key,
    stream,
};

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// Workspace whose agent gets the message.
    pub target: WorkspaceId,
    /// The message as it was sent, in any of the accepted forms.
    pub body: Bytes,
    /// The sender.
    pub caller: Caller,
    /// What the sender showed.
    pub credential: Credential,
    /// Until when the sender waits, if the sender says so.
    pub deadline: Option<Instant>,
    /// The sender's name for this message, if it gives one: the same message under the same name is delivered once.
    pub idempotency_key: Option<String>,
    /// Headers that the message came with.
    pub headers: MessageHeaders,
}

impl Messaging {
    /// Delivers a message and waits for the answer. The future must be run to completion even if the client
    /// disconnects: an agent works on the message.
    ///
    /// # Errors
    /// If the message was not delivered, or no answer came.
    pub async fn deliver(&self, message: SendRequest) -> Result<Answer, DeliveryError> {
        let _counted = self.stopping.begin();
        let SendRequest { target, body, caller, credential, deadline, headers, idempotency_key } = message;
        let anonymous = credential.is_none() && !self.limits.is_development;
        let delivery = Delivery { anonymous, ..self.prepare(target, &body, caller).await? };
        if let Some(hops) = headers.excess_hops() {
            return Err(DeliveryError::Loop { hops });
        }
        let key = Key::of(target, (caller, credential), &body, idempotency_key.as_deref(), &delivery.request)
            // Who asks for the events of a task again wants those that are still to come.
            .filter(|_| !stream::is_resubscription(delivery.request.method()));
        let options = SendOptions { deadline, headers, streaming: true };
        match key {
            Some(key) => self.send_once(key, delivery, options).await,
            None => self.send(delivery, options).await,
        }
    }

    /// Delivers a message, or queues it where its agent is busy.
    pub(crate) async fn send(
        &self,
        delivery: Delivery,
        options: SendOptions,
    ) -> Result<Answer, DeliveryError> {
        match self.dispatch(delivery, options).await {
            Ok(answer) => Ok(answer),
            Err(Undelivered::Failed(error)) => Err(error),
            Err(Undelivered::Busy(busy)) => Ok(self.enqueue(*busy).await?.into()),
        }
    }

    /// Looks up the target, authorizes the caller, and normalizes the message.
    pub(crate) async fn prepare(
        &self,
        target: WorkspaceId,
        body: &[u8],
        caller: Caller,
    ) -> Result<Delivery, DeliveryError> {
        let target = self.target(target).await?;
        self.authorize(&target, caller)?;
        let origin = Origin::Sender;
        Ok(Delivery {
            request: Request::read(body)?,
            target,
            caller,
            anonymous: false,
            origin,
            begun: None,
            key: None,
            claim: None,
        })
    }

    /// Takes the message the way that its workspace is delivered to.
    pub(crate) async fn dispatch(
        &self,
        delivery: Delivery,
        options: SendOptions,
    ) -> Result<Answer, Undelivered> {
        if delivery.is_poll() {
            return Ok(self.deliver_poll(delivery).await?.into());
        }
        match delivery.target.row.hosting {
            Hosting::Synthetic => Ok(self.answer_synthetic(delivery, &options).await?.into()),
            Hosting::Operator | Hosting::Container => self.push(delivery, options).await,
        }
    }

    /// What this future brings, unless the sender's deadline or the end of this server comes first.
    pub(crate) async fn in_time<T>(
        &self,
        deadline: Option<Instant>,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let passed = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // What is too late is not begun.
            biased;
            () = passed => None,
            output = future => Some(output),
            () = self.stopping.cut() => None,
        }
    }

    /// The database is asked too: a workspace that another server created a moment ago may not be in the
    /// index yet.
    async fn target(&self, id: WorkspaceId) -> Result<Arc<Workspace>, DeliveryError> {
        if let Some(live) = self.fleet.workspaces().get(id) {
            return Ok(live);
        }
        let found = self.fleet.find(id).await.map_err(DeliveryError::Lookup)?;
        found.filter(|workspace| !workspace.row.is_removed()).ok_or(DeliveryError::NotFound)
    }

    /// Checks the hierarchy rules and the target's budget.
    fn authorize(&self, target: &Workspace, caller: Caller) -> Result<(), DeliveryError> {
        let id = target.row.id;
        if let Caller::Workspace(caller) = caller
            && caller != id
            && !self.fleet.workspaces().can_communicate(caller, id)
        {
            return Err(DeliveryError::AccessDenied);
        }
        let spent = target.presence.as_ref().map_or(0, |presence| presence.monthly_spend);
        match target.row.budget_limit {
            Some(limit) if spent >= limit => Err(DeliveryError::OverBudget),
            _ => Ok(()),
        }
    }

    /// Records how a delivery ended: activity, and for users the answer as an event.
    pub(crate) async fn record_outcome(&self, delivery: Delivery, outcome: Outcome) {
        let (id, caller, duration_ms) = (delivery.target.row.id, delivery.caller, outcome.duration_ms);
        let delivered = matches!(&outcome.result, Ok((status, _)) if is_success(*status));
        // Users see the answers to their own messages; those between agents are seen as activity.
        let response = match &outcome.result {
            Ok((_, Some(body)))
                if delivered && caller == Caller::User && self.fleet.state().has_subscribers() =>
            {
                let method = delivery.request.method().to_owned();
                Some(A2aResponse { duration_ms, method, response_body: body.clone() })
            }
            _ => None,
        };
        // Before the activity of the same message, which is published when its row is readable.
        if let Some(response) = response {
            self.fleet.state().publish_ephemeral(id, &Event::A2aResponse(response));
        }
        let claim = delivery.claim.clone();
        let is_stored = self.log_behind(delivery.into_entry(outcome)).await;
        if delivered {
            if !is_stored && let Some(claim) = claim {
                claim.row_is_lost();
            }
            self.record_outbound(caller);
        }
    }

    /// Records that the agent was not reached. An unreachable agent is tried many times for each message of the queue,
    /// which would bury its other activity.
    pub(crate) async fn record_unreached(&self, delivery: Delivery, outcome: Outcome) {
        if delivery.origin == Origin::Sender {
            self.record_outcome(delivery, outcome).await;
        }
    }

    /// Notes the time of a workspace's last outgoing message.
    pub(crate) fn record_outbound(&self, caller: Caller) {
        if let Caller::Workspace(id) = caller {
            self.fleet.record_outbound(id);
        }
    }
}
