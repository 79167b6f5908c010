//! One message on its way to one agent, and how it can end: a reply, a failure, or a busy agent.

use std::{sync::Arc, time::Duration};

use catalog::CallSubject;
use fleet::{Workspace, rules::DeliveryMode};
use http::StatusCode;
use serde_json::Value;
use store::{activity::RECEIVED, message_keys::FirstAnswer, queue::NewQueued, workspaces::Hosting};
use tokio::time::Instant;
use wire_json::RawJson;

use crate::{
    activity::{Begun, ERROR, Entry, OK, PENDING},
    caller::Caller,
    error::DeliveryError,
    headers::MessageHeaders,
    held_claim::HeldClaim,
    reply::Reply,
    request::Request,
    stream::{self, AgentStream},
};

/// The answer to a message, whole or in pieces.
#[derive(Debug)]
pub enum Answer {
    /// A whole answer.
    Whole(Reply),
    /// A stream, which the agent may still be writing.
    Stream(AgentStream),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Whole(reply)
    }
}

/// One message on its way to one agent.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) target: Arc<Workspace>,
    pub(crate) caller: Caller,
    /// Its sender showed no credential, and is not the developer of the machine.
    pub(crate) anonymous: bool,
    pub(crate) request: Request,
    /// Id and time of its activity, where they are chosen before it ends.
    pub(crate) begun: Option<Begun>,
    pub(crate) origin: Origin,
    /// Digest by which the message is recognized when it is sent again.
    pub(crate) key: Option<String>,
    /// Says so to other servers until it is dropped.
    pub(crate) claim: Option<Arc<HeldClaim>>,
}

/// How a message is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct SendOptions {
    /// Until when its sender waits, if the sender says so.
    pub(crate) deadline: Option<Instant>,
    pub(crate) headers: MessageHeaders,
    /// Its sender takes an answer in pieces.
    pub(crate) streaming: bool,
}

/// Where a delivery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The sender waits for the answer.
    Sender,
    /// The queue, which tries again: a try that does not reach the agent is not recorded.
    Queue,
}

/// How a delivery ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) duration_ms: i64,
    /// The response with its status, good or bad; or why there is none.
    pub(crate) result: Result<(StatusCode, Option<RawJson>), String>,
    /// What is wrong with a response, or why there is none, where callers without a credential may not read it.
    pub(crate) detail: Option<String>,
    /// The answer that is given to the same message again, where the response alone does not say it.
    pub(crate) answer: Option<FirstAnswer>,
}

impl Outcome {
    /// A response came, good or bad.
    pub(crate) fn answered(elapsed: Duration, status: StatusCode, body: Option<RawJson>) -> Self {
        Self { duration_ms: milliseconds(elapsed), result: Ok((status, body)), detail: None, answer: None }
    }

    /// No response came.
    pub(crate) fn failed(elapsed: Duration, error: String) -> Self {
        Self { duration_ms: milliseconds(elapsed), result: Err(error), detail: None, answer: None }
    }

    pub(crate) fn with_detail(self, detail: Option<String>) -> Self {
        Self { detail, ..self }
    }

    pub(crate) fn with_answer(self, answer: Option<FirstAnswer>) -> Self {
        Self { answer, ..self }
    }
}

fn milliseconds(elapsed: Duration) -> i64 {
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self { status, body: body.to_string().into(), retry_after: None }
    }
}

impl Delivery {
    /// What a guest is called for that translates or answers it.
    pub(crate) fn subject(&self) -> CallSubject {
        match self.anonymous {
            true => CallSubject::Stranger,
            false => CallSubject::Workspace(self.target.row.id),
        }
    }

    /// Whether its agent would do its work twice for a message that is delivered twice.
    pub(crate) fn is_push(&self) -> bool {
        !self.is_poll() && self.target.row.hosting != Hosting::Synthetic
    }

    /// Whether its agent fetches it.
    pub(crate) fn is_poll(&self) -> bool {
        self.target.row.delivery_mode == DeliveryMode::Poll
    }

    /// Whether the answer may be a stream.
    pub(crate) fn may_stream(&self) -> bool {
        stream::is_streaming(self.request.method()) && self.is_push()
    }

    /// The activity that records that it has not ended.
    pub(crate) fn pending_entry(&self) -> Entry {
        let Self { target, caller, request, begun, .. } = self;
        let method = request.method().to_owned();
        Entry {
            workspace_id: target.row.id,
            activity_type: RECEIVED.to_owned(),
            source_id: caller.workspace(),
            target_id: Some(target.row.id),
            summary: Some(format!("{method} → {}", target.row.name)),
            method: Some(method),
            request_body: Some(request.body.clone()),
            response_body: None,
            tool_trace: None,
            duration_ms: None,
            status: PENDING.to_owned(),
            error_detail: None,
            begun: *begun,
            key: None,
            answer: None,
        }
    }

    /// The activity that records this outcome.
    pub(crate) fn into_entry(self, outcome: Outcome) -> Entry {
        let entry = self.pending_entry();
        let duration_ms = Some(outcome.duration_ms);
        match outcome.result {
            Ok((status, body)) => Entry {
                tool_trace: body.as_ref().and_then(tool_trace),
                response_body: body,
                duration_ms,
                status: if is_success(status) { OK } else { ERROR }.to_owned(),
                error_detail: outcome.detail,
                // One that was not delivered may be sent again.
                answer: outcome.answer.filter(|_| self.key.is_some() && is_success(status)),
                key: self.key.filter(|_| is_success(status)),
                ..entry
            },
            Err(error) => Entry {
                summary: Some(format!("A2A request to {} failed: {error}", self.target.row.name)),
                duration_ms,
                status: ERROR.to_owned(),
                error_detail: outcome.detail.or(Some(error)),
                ..entry
            },
        }
    }
}

/// Why a message was not sent, while its runtime's adapter is compiled.
pub(crate) const NOT_READY: &str = "its runtime's adapter was not ready in time";

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Undelivered {
    Failed(DeliveryError),
    /// No response came in time, in most cases from an agent that took the message; it may be queued.
    Busy(Box<BusyDelivery>),
}

impl Undelivered {
    /// The agent was not sent the message, and could not be for this reason.
    pub(crate) fn unsent(delivery: Delivery, waited: Duration, why: &str, headers: &MessageHeaders) -> Self {
        let outcome = Outcome::failed(waited, why.to_owned());
        Self::Busy(Box::new(BusyDelivery { reached: false, ..BusyDelivery::new(delivery, outcome, headers) }))
    }
}

impl From<DeliveryError> for Undelivered {
    fn from(error: DeliveryError) -> Self {
        Self::Failed(error)
    }
}

/// A message that got no response, and the activity that records so. The two are stored together.
#[derive(Debug)]
pub(crate) struct BusyDelivery {
    pub(crate) message: NewQueued,
    pub(crate) entry: Entry,
    /// The message was sent to the agent.
    pub(crate) reached: bool,
    /// Its sender showed no credential.
    pub(crate) anonymous: bool,
}

impl BusyDelivery {
    /// The agent was sent the message.
    pub(crate) fn new(delivery: Delivery, outcome: Outcome, headers: &MessageHeaders) -> Self {
        let (message, anonymous) = (new_queued(&delivery, headers), delivery.anonymous);
        Self { message, entry: delivery.into_entry(outcome), reached: true, anonymous }
    }
}

fn new_queued(delivery: &Delivery, headers: &MessageHeaders) -> NewQueued {
    let body = &delivery.request.body;
    let number = body.at(&["params", "expires_in_seconds"]).and_then(|number| number.get().parse().ok());
    let seconds = number.filter(|seconds| *seconds > 0).and_then(chrono::Duration::try_seconds);
    NewQueued {
        workspace_id: delivery.target.row.id,
        caller_id: delivery.caller.workspace(),
        body: body.to_string(),
        method: delivery.request.method().to_owned(),
        key: delivery.key.clone(),
        expires_at: seconds.map(store::time_ahead),
        hops: headers.hops(),
        headers: headers.to_stored(),
    }
}

/// A redirect is none: the agent did not take the message.
pub(crate) fn is_success(status: StatusCode) -> bool {
    status.is_success()
}

/// Tools that an agent says it used.
fn tool_trace(response: &RawJson) -> Option<RawJson> {
    let trace = response.at(&["result", "metadata", "tool_trace"]).map(RawJson::from);
    trace.filter(|trace| !trace.is_null())
}
