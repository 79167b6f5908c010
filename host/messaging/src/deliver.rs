//! The way of a message, whoever sends it: may it be sent, what does it say, how does it get there.

use std::sync::Arc;

use bytes::Bytes;
use catalog::Catalog;
use events::{Event, catalogue::A2aResponse};
use fleet::{Fleet, Workspace, rules::DeliveryMode};
use http::StatusCode;
use serde_json::Value;
use store::workspaces::Hosting;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    activity::{ERROR, Entry, OK, RECEIVED},
    agent::Agents,
    by_url::Undelivered,
    caller::Caller,
    error::DeliveryError,
    limits::Limits,
    queue::Waiting,
    request::Request,
};

/// A message to be delivered.
#[derive(Debug, Clone)]
pub struct Call {
    /// To which workspace.
    pub target: Uuid,
    /// What was sent.
    pub body: Bytes,
    /// By whom.
    pub caller: Caller,
    /// Until when whoever sent it waits, where that is known.
    pub deadline: Option<Instant>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Of HTTP.
    pub status: StatusCode,
    /// JSON, as far as the agent keeps to the protocol.
    pub body: Bytes,
}

/// Delivers messages. Cheap to clone.
#[derive(Clone)]
pub struct Messaging {
    pub(crate) fleet: Fleet,
    pub(crate) catalog: Catalog,
    pub(crate) agents: Agents,
    pub(crate) waiting: Arc<Waiting>,
}

/// A message that may be delivered, with whom it is for and from.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) target: Arc<Workspace>,
    pub(crate) caller: Caller,
    pub(crate) request: Request,
}

/// How a turn ended, as it is written down.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) duration_ms: i64,
    /// What came back with a good status, or with a bad one; or why nothing came back.
    pub(crate) result: Result<(StatusCode, Option<Value>), String>,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self { status, body: body.to_string().into() }
    }
}

impl Messaging {
    /// Messages go to the workspaces of this fleet; adapters of this catalog answer for those that
    /// nobody runs.
    #[must_use]
    pub fn new(fleet: Fleet, catalog: Catalog, limits: Limits) -> Self {
        Self { fleet, catalog, agents: Agents::new(limits), waiting: Arc::default() }
    }

    /// Delivers a message and waits for what comes back. The caller must see it through even if whoever
    /// asked for it is gone: an agent works on it.
    ///
    /// # Errors
    /// If it was not delivered, or nothing came back.
    pub async fn deliver(&self, call: Call) -> Result<Reply, DeliveryError> {
        let turn = self.turn(call.target, &call.body, call.caller).await?;
        match self.pass_on(turn, call.deadline).await {
            Ok(reply) => Ok(reply),
            Err(Undelivered::Refused(error)) => Err(error),
            Err(Undelivered::Busy(message)) => self.wait_in_line(*message).await,
        }
    }

    /// A message that may be sent.
    pub(crate) async fn turn(
        &self,
        target: Uuid,
        body: &[u8],
        caller: Caller,
    ) -> Result<Turn, DeliveryError> {
        let target = self.target(target).await?;
        self.admit(&target, caller)?;
        Ok(Turn { request: Request::read(body)?, target, caller })
    }

    /// Brings a message to its agent, the way that agent has.
    pub(crate) async fn pass_on(&self, turn: Turn, deadline: Option<Instant>) -> Result<Reply, Undelivered> {
        if turn.target.row.delivery_mode == DeliveryMode::Poll {
            return Ok(self.keep_for_poll(turn).await?);
        }
        match turn.target.row.hosting {
            Hosting::Synthetic => Ok(self.answer_synthetic(turn).await?),
            Hosting::Operator | Hosting::Container => self.call_agent(turn, deadline).await,
        }
    }

    /// Whom it is for. One that another server made a moment ago may not be in memory yet.
    async fn target(&self, id: Uuid) -> Result<Arc<Workspace>, DeliveryError> {
        if let Some(live) = self.fleet.directory().get(id) {
            return Ok(live);
        }
        let found = self.fleet.find(id).await.map_err(DeliveryError::Lookup)?;
        found.filter(|workspace| !workspace.row.is_removed()).ok_or(DeliveryError::NotFound)
    }

    /// May this caller send this workspace something, and may that go on working?
    fn admit(&self, target: &Workspace, caller: Caller) -> Result<(), DeliveryError> {
        let id = target.row.id;
        if let Caller::Workspace(caller) = caller
            && caller != id
            && !self.fleet.directory().may_talk(caller, id)
        {
            return Err(DeliveryError::AccessDenied);
        }
        let spent = target.presence.as_ref().map_or(0, |presence| presence.monthly_spend);
        match target.row.budget_limit {
            Some(limit) if spent >= limit => Err(DeliveryError::OverBudget),
            _ => Ok(()),
        }
    }

    /// Writes down how a turn ended, and tells everybody whom it concerns.
    pub(crate) async fn end(&self, turn: Turn, ending: Ending) {
        let Turn { target, caller, request } = turn;
        let (id, duration_ms) = (target.row.id, ending.duration_ms);
        let method = request.method().to_owned();
        let name = &target.row.name;
        let (status, response_body, summary, error_detail) = match ending.result {
            Ok((status, body)) => (Some(status), body, format!("{method} → {name}"), None),
            Err(error) => (None, None, format!("A2A request to {name} failed: {error}"), Some(error)),
        };
        let well = status.is_some_and(|status| status.as_u16() < 400);
        let answer = (well && caller == Caller::Person).then(|| response_body.clone()).flatten();
        self.log_behind(Entry {
            workspace_id: id,
            activity_type: RECEIVED.to_owned(),
            source_id: caller.workspace(),
            target_id: Some(id),
            method: Some(method.clone()),
            summary: Some(summary),
            request_body: Some(request.body),
            tool_trace: response_body.as_ref().and_then(tool_trace),
            response_body,
            duration_ms: Some(duration_ms),
            status: if well { OK } else { ERROR }.to_owned(),
            error_detail,
        })
        .await;
        if let Some(response_body) = answer {
            let response = A2aResponse { duration_ms, method, response_body };
            self.fleet.tell_live(id, &Event::A2aResponse(response));
        }
        if well {
            self.spoke(caller).await;
        }
    }

    /// Notes that somebody sent a message.
    pub(crate) async fn spoke(&self, caller: Caller) {
        if let Caller::Workspace(id) = caller {
            self.fleet.spoke(id).await;
        }
    }
}

/// Tools that an agent says it used.
fn tool_trace(response: &Value) -> Option<Value> {
    response.pointer("/result/metadata/tool_trace").filter(|trace| !trace.is_null()).cloned()
}
