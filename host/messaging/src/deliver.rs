//! The way of every message: authorize, normalize, dispatch by delivery mode and hosting, record.

use std::sync::Arc;

use bytes::Bytes;
use catalog::Catalog;
use events::{Event, definitions::A2aResponse};
use fleet::{Fleet, Workspace, rules::DeliveryMode};
use http::StatusCode;
use net::AgentClient;
use serde_json::Value;
use store::{activity::RECEIVED, workspaces::Hosting};
use tokio::time::Instant;
use types::WorkspaceId;

use crate::{
    activity::{ERROR, Entry, OK},
    caller::Caller,
    error::DeliveryError,
    limits::Limits,
    pending::PendingIndex,
    push::Undelivered,
    request::Request,
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
    /// Until when the sender waits, if the sender says so.
    pub deadline: Option<Instant>,
}

/// The answer to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON, as far as the agent keeps to the protocol.
    pub body: Bytes,
}

/// Delivers messages. Cheap to clone.
#[derive(Clone)]
pub struct Messaging {
    pub(crate) fleet: Fleet,
    pub(crate) catalog: Catalog,
    pub(crate) agents: AgentClient,
    pub(crate) pending: Arc<PendingIndex>,
}

/// One message on its way to one agent.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) target: Arc<Workspace>,
    pub(crate) caller: Caller,
    pub(crate) request: Request,
}

/// How a delivery ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) duration_ms: i64,
    /// The response with its status, good or bad; or why there is none.
    pub(crate) result: Result<(StatusCode, Option<Value>), String>,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self { status, body: body.to_string().into() }
    }
}

impl Delivery {
    /// The activity that records this outcome.
    pub(crate) fn into_entry(self, outcome: Outcome) -> Entry {
        let Self { target, caller, request } = self;
        let (method, name) = (request.method().to_owned(), &target.row.name);
        let (status, response_body, summary, error_detail) = match outcome.result {
            Ok((status, body)) => (Some(status), body, format!("{method} → {name}"), None),
            Err(error) => (None, None, format!("A2A request to {name} failed: {error}"), Some(error)),
        };
        Entry {
            workspace_id: target.row.id,
            activity_type: RECEIVED.to_owned(),
            source_id: caller.workspace(),
            target_id: Some(target.row.id),
            method: Some(method),
            summary: Some(summary),
            request_body: Some(request.body),
            tool_trace: response_body.as_ref().and_then(tool_trace),
            response_body,
            duration_ms: Some(outcome.duration_ms),
            status: if status.is_some_and(is_success) { OK } else { ERROR }.to_owned(),
            error_detail,
        }
    }
}

impl Messaging {
    /// Messages go to the workspaces of this fleet; adapters of this catalog translate messages, and answer
    /// for synthetic workspaces.
    #[must_use]
    pub fn new(fleet: Fleet, catalog: Catalog, limits: Limits) -> Self {
        let pending = Arc::<PendingIndex>::default();
        fleet.observe_presence(Arc::clone(&pending) as _);
        let agents = AgentClient::new(limits.addresses, limits.header_timeout);
        Self { fleet, catalog, agents, pending }
    }

    /// Delivers a message and waits for the answer. The future must be run to completion even if the client
    /// disconnects: an agent works on the message.
    ///
    /// # Errors
    /// If the message was not delivered, or no answer came.
    pub async fn deliver(&self, message: SendRequest) -> Result<Reply, DeliveryError> {
        let delivery = self.prepare(message.target, &message.body, message.caller).await?;
        match self.dispatch(delivery, message.deadline).await {
            Ok(reply) => Ok(reply),
            Err(Undelivered::Failed(error)) => Err(error),
            Err(Undelivered::Busy(busy)) => self.enqueue(*busy).await,
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
        Ok(Delivery { request: Request::read(body)?, target, caller })
    }

    /// Takes the message the way that its workspace is delivered to.
    pub(crate) async fn dispatch(
        &self,
        delivery: Delivery,
        deadline: Option<Instant>,
    ) -> Result<Reply, Undelivered> {
        if delivery.target.row.delivery_mode == DeliveryMode::Poll {
            return Ok(self.deliver_poll(delivery).await?);
        }
        match delivery.target.row.hosting {
            Hosting::Synthetic => Ok(self.answer_synthetic(delivery).await?),
            Hosting::Operator | Hosting::Container => self.push(delivery, deadline).await,
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
        self.log_behind(delivery.into_entry(outcome)).await;
        if let Some(response) = response {
            self.fleet.state().publish_ephemeral(id, &Event::A2aResponse(response));
        }
        if delivered {
            self.record_outbound(caller).await;
        }
    }

    /// Notes the time of a workspace's last outgoing message.
    pub(crate) async fn record_outbound(&self, caller: Caller) {
        if let Caller::Workspace(id) = caller {
            self.fleet.record_outbound(id).await;
        }
    }
}

fn is_success(status: StatusCode) -> bool {
    status.as_u16() < 400
}

/// Tools that an agent says it used.
fn tool_trace(response: &Value) -> Option<Value> {
    response.pointer("/result/metadata/tool_trace").filter(|trace| !trace.is_null()).cloned()
}
