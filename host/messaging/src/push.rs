//! Delivery by URL: the message is translated for the runtime, the agent is called, and its response is
//! read.

use std::{error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use net::{AgentRequest, AgentResponse, BodyError, CallError, CallLimits, Expired};
use store::workspaces::Status;
use tokio::time::Instant;
use types::clip;
use wire_json::{RawJson, raw};

use crate::{
    Messaging,
    activity::Begun,
    caller::Caller,
    delivery::{Answer, BusyDelivery, Delivery, NOT_READY, Outcome, SendOptions, Undelivered, is_success},
    error::DeliveryError,
    first_answer,
    headers::MessageHeaders,
    in_flight::Full,
    limits::{ACTIVITY_TEXT_BYTES, DELIVERY_TIMEOUT, LONG_DELIVERY},
    reply::{Known, Reply},
    stream,
};

/// Why a message was not sent, while its agent is called as often as it may be.
const BUSY: &str = "as many messages are on their way to the agent as may be at once";

/// Why a message was not sent, where no secure connection could be opened.
const INSECURE: &str = "no secure connection to it could be opened";

impl Messaging {
    pub(crate) async fn push(
        &self,
        mut delivery: Delivery,
        options: SendOptions,
    ) -> Result<Answer, Undelivered> {
        let row = &delivery.target.row;
        if row.status == Status::Hibernated {
            return Err(self.wake(&delivery).await.into());
        }
        // A workspace that was paused gets no work, even if its agent runs on somewhere.
        let dormant = matches!(row.status, Status::Paused | Status::Hibernating);
        let Some(url) = row.url.as_deref().filter(|url| !url.is_empty() && !dormant) else {
            return Err(DeliveryError::NoUrl { status: row.status }.into());
        };
        let asked = Instant::now();
        let body = match self.in_time(options.deadline, self.translate(&delivery)).await {
            Some(Ok(body)) => body,
            None => return Err(Undelivered::unsent(delivery, asked.elapsed(), NOT_READY, &options.headers)),
            Some(Err(reason)) => {
                let outcome = Outcome::failed(Duration::ZERO, reason.clone());
                self.record_outcome(delivery, outcome).await;
                return Err(DeliveryError::NotTranslatable(reason).into());
            }
        };
        delivery.begun = Some(Begun::now());
        let limits = match self.limits(&delivery, &options) {
            Ok(limits) => limits,
            Err(Full::Server) => return Err(DeliveryError::TooManyCalls.into()),
            Err(Full::Workspace) => {
                return Err(Undelivered::unsent(delivery, asked.elapsed(), BUSY, &options.headers));
            }
        };
        let message = AgentRequest { body, headers: options.headers.next() };
        let sent = Instant::now();
        let response = tokio::select! {
            response = self.agents.post(url, &message, limits) => response,
            () = self.stopping.cut() => Err(CallError::NoResponse("the server stops".into())),
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                return Err(self.not_answered(delivery, sent.elapsed(), error, &options.headers).await);
            }
        };
        self.fleet.record_reached(delivery.target.row.id);
        let content_type =
            stream::content_type(delivery.request.method(), response.status, &response.headers);
        match content_type.filter(|_| options.streaming) {
            Some(content_type) => Ok(Answer::Stream(self.pass_on(delivery, response, content_type))),
            None => Ok(self.read_response(delivery, response).await?.into()),
        }
    }

    /// How long the delivery may take, if there may be one more. Users wait as long as they like.
    fn limits(&self, delivery: &Delivery, options: &SendOptions) -> Result<CallLimits, Full> {
        let limit = match delivery.caller {
            Caller::User => None,
            Caller::Workspace(_) => Some(Instant::now() + DELIVERY_TIMEOUT),
        };
        let clock = self.in_flight.start(delivery, &self.fleet, self.limits)?;
        Ok(CallLimits { deadline: options.deadline.or(limit), idle: Some(Arc::new(clock)) })
    }

    /// Records a message that got no response, unless it is to be queued.
    async fn not_answered(
        &self,
        delivery: Delivery,
        elapsed: Duration,
        error: CallError,
        headers: &MessageHeaders,
    ) -> Undelivered {
        let workspace = delivery.target.row.id;
        let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
        tracing::info!(%workspace, error = format!("{error}{cause}"), "no response from an agent");
        let hint = error.hint();
        // Which bound was exceeded is for users too; causes from the operating system are for the log.
        let expired = error.source().and_then(|cause| cause.downcast_ref::<Expired>());
        let text = expired.map_or_else(|| error.to_string(), |expired| format!("{error}: {expired}"));
        // Details of TLS name hosts, and summaries are shown without a credential too.
        let outcome = match &error {
            CallError::Tls { .. } => {
                Outcome::failed(elapsed, INSECURE.to_owned()).with_detail(Some(text.clone()))
            }
            _ => Outcome::failed(elapsed, text.clone()),
        };
        match error {
            // The agent was not even looked for: clients know this as a mistake in the workspace.
            CallError::Url(problem) => {
                self.fleet.record_unreached(workspace, &problem.to_string(), hint);
                // What took long has a row already.
                if elapsed >= LONG_DELIVERY {
                    self.record_unreached(delivery, outcome).await;
                }
                DeliveryError::NotRoutable(problem).into()
            }
            CallError::Tls { detail, hint } => {
                self.fleet.record_unreached(workspace, &text, Some(hint));
                self.record_unreached(delivery, outcome).await;
                DeliveryError::Insecure { detail, hint }.into()
            }
            CallError::Unreachable(_) => {
                self.fleet.record_unreached(workspace, &text, hint);
                self.record_unreached(delivery, outcome).await;
                DeliveryError::Unreachable.into()
            }
            CallError::NoResponse(_) => {
                self.fleet.record_reached(workspace);
                Undelivered::Busy(Box::new(BusyDelivery::new(delivery, outcome, headers)))
            }
            CallError::InvalidResponse(_) | CallError::NoFinalResponse => {
                self.fleet.record_reached(workspace);
                self.record_outcome(delivery, outcome).await;
                DeliveryError::InvalidResponse { detail: text }.into()
            }
        }
    }

    /// Wakes the hibernated target of a message. Returns the answer to the sender.
    async fn wake(&self, delivery: &Delivery) -> DeliveryError {
        let row = &delivery.target.row;
        match self.fleet.wake(row.id).await {
            Ok(true) => DeliveryError::Waking,
            Ok(false) => DeliveryError::NoUrl { status: row.status },
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(workspace = %row.id, error, "a hibernated workspace can't be woken");
                DeliveryError::NoUrl { status: row.status }
            }
        }
    }

    /// The body as the runtime wants it, or why its adapter refuses it. While the adapter is missing, traps
    /// or times out, the body is sent as it is: a plain message is better than none.
    async fn translate(&self, delivery: &Delivery) -> Result<Bytes, String> {
        let adapter = self.catalog.adapter(&delivery.target.row.runtime, Some(delivery.subject())).await;
        let body = adapter.to_agent(&delivery.request.body).await.map_err(|problem| problem.message)?;
        Ok(Bytes::copy_from_slice(body.text().as_bytes()))
    }

    async fn read_response(
        &self,
        delivery: Delivery,
        response: AgentResponse,
    ) -> Result<Reply, DeliveryError> {
        let AgentResponse { status, headers, elapsed, body } = response;
        if !(200..=599).contains(&status.as_u16()) {
            let detail = format!("it answered with status {}, which HTTP doesn't have", status.as_u16());
            self.record_outcome(delivery, Outcome::failed(elapsed, detail.clone())).await;
            return Err(DeliveryError::InvalidResponse { detail });
        }
        let body = tokio::select! {
            body = body.collect() => body,
            () = self.stopping.cut() => Err(BodyError::Incomplete),
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                let delivered = is_success(status);
                let known = match error {
                    BodyError::Incomplete | BodyError::Expired(_) => Known::Incomplete,
                    BodyError::TooLarge => Known::TooLarge,
                };
                let outcome = if delivered {
                    let answer = first_answer::stored(status, &known, None);
                    Outcome::answered(elapsed, status, None).with_answer(answer)
                } else {
                    Outcome::failed(elapsed, error.to_string())
                };
                self.record_outcome(delivery, outcome).await;
                return Err(known.into_error(delivered));
            }
        };
        let value = json_or_text(&body);
        let retry_after = headers.get(header::RETRY_AFTER).cloned();
        let refusal = (status.as_u16() >= 300).then(|| refusal_text(status, &value));
        let detail = status.is_redirection().then(|| redirect_text(&headers));
        let reply = Reply { status, body, retry_after };
        // What has no key is not compared with what is stored of it.
        let answer = match &delivery.key {
            Some(_) => first_answer::stored(status, &Known::Reply(reply.clone()), Some(&value)),
            None => None,
        };
        let outcome = Outcome::answered(elapsed, status, Some(value));
        self.record_outcome(delivery, outcome.with_detail(detail.clone()).with_answer(answer)).await;
        match refusal {
            Some(text) => {
                Err(DeliveryError::Refused { status, text, detail, retry_after: reply.retry_after })
            }
            None => Ok(reply),
        }
    }
}

/// A response as it is stored: text that is no JSON, or is nested too deeply, as a string.
fn json_or_text(body: &Bytes) -> RawJson {
    RawJson::read(body).unwrap_or_else(|_| RawJson::render(&String::from_utf8_lossy(body)))
}

/// The agent's own words, else what the status means.
fn refusal_text(status: StatusCode, body: &RawJson) -> String {
    let words = [["error"].as_slice(), &["error", "message"]];
    let words = words.into_iter().find_map(|path| raw::string(body.at(path)?));
    let words = words.unwrap_or_else(|| status.canonical_reason().unwrap_or("the agent refused").to_owned());
    clip(words, ACTIVITY_TEXT_BYTES)
}

/// Which URL to register in place of one that redirects. Redirects are not followed, because the address
/// behind was not checked.
fn redirect_text(headers: &HeaderMap) -> String {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    match location.map(|url| clip(url.to_owned(), ACTIVITY_TEXT_BYTES)) {
        Some(url) => format!("the agent's URL redirects, and redirects are not followed: register {url:?}"),
        None => "the agent's URL redirects without saying where to: register the URL that answers".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_worded_by_the_agent_or_by_its_status() {
        for (body, text) in [
            (json!({ "error": "no" }), "no"),
            (json!({ "error": { "code": 1, "message": "not now" } }), "not now"),
            (json!({ "error": { "code": 1 } }), "Bad Gateway"),
            (json!("<html>"), "Bad Gateway"),
        ] {
            assert_eq!(refusal_text(StatusCode::BAD_GATEWAY, &RawJson::from(&body)), text);
        }
        let unknown = StatusCode::from_u16(599).unwrap();
        assert_eq!(refusal_text(unknown, &RawJson::from(&json!({}))), "the agent refused");
    }
}
