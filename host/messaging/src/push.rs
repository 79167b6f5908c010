//! Delivery by URL: the message is translated for the runtime, the agent is called, and its response is
//! read.

use std::error::Error as _;

use bytes::Bytes;
use http::StatusCode;
use net::{AgentResponse, BodyError, CallError};
use store::workspaces::Status;
use tokio::time::Instant;
use types::clip;
use wire_json::{RawJson, raw};

use crate::{
    Messaging,
    caller::Caller,
    delivery::{BusyDelivery, Delivery, Outcome, Reply, Undelivered},
    error::DeliveryError,
    limits::{ACTIVITY_TEXT_BYTES, DELIVERY_TIMEOUT},
};

impl Messaging {
    pub(crate) async fn push(
        &self,
        delivery: Delivery,
        deadline: Option<Instant>,
    ) -> Result<Reply, Undelivered> {
        let row = &delivery.target.row;
        if row.status == Status::Hibernated {
            return Err(self.wake(&delivery).await.into());
        }
        // A workspace that was paused gets no work, even if its agent runs on somewhere.
        let dormant = matches!(row.status, Status::Paused | Status::Hibernating);
        let Some(url) = row.url.as_deref().filter(|url| !url.is_empty() && !dormant) else {
            return Err(DeliveryError::NoUrl { status: row.status }.into());
        };
        let limit = match delivery.caller {
            Caller::User => None,
            Caller::Workspace(_) => Some(Instant::now() + DELIVERY_TIMEOUT),
        };
        let message = match self.translate(&delivery).await {
            Ok(message) => message,
            Err(reason) => {
                let outcome = Outcome { duration_ms: 0, result: Err(reason.clone()) };
                self.record_outcome(delivery, outcome).await;
                return Err(DeliveryError::NotTranslatable(reason).into());
            }
        };
        let sent = Instant::now();
        let response = tokio::select! {
            response = self.agents.post(url, message, deadline.or(limit)) => response,
            () = self.stopping.cut() => Err(CallError::NoResponse("the server stops".into())),
        };
        match response {
            Ok(response) => Ok(self.read_response(delivery, response).await?),
            Err(CallError::Url(error)) => {
                tracing::warn!(workspace = %row.id, %error, "an agent's URL may not be called");
                Err(DeliveryError::NotRoutable.into())
            }
            Err(error) => {
                let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
                tracing::info!(workspace = %row.id, error = format!("{error}{cause}"), "no response from an agent");
                let outcome = Outcome { duration_ms: elapsed_ms(sent), result: Err(error.to_string()) };
                if matches!(error, CallError::NoResponse(_)) {
                    return Err(Undelivered::Busy(Box::new(BusyDelivery::new(delivery, outcome))));
                }
                if matches!(error, CallError::InvalidResponse(_)) {
                    self.record_outcome(delivery, outcome).await;
                    return Err(DeliveryError::InvalidResponse.into());
                }
                self.record_unreached(delivery, outcome).await;
                Err(DeliveryError::Unreachable.into())
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
        let adapter = self.catalog.adapter(&delivery.target.row.runtime).await;
        let body = adapter.to_agent(&delivery.request.body).await.map_err(|problem| problem.message)?;
        Ok(Bytes::copy_from_slice(body.text().as_bytes()))
    }

    async fn read_response(
        &self,
        delivery: Delivery,
        response: AgentResponse,
    ) -> Result<Reply, DeliveryError> {
        let AgentResponse { status, elapsed, body } = response;
        let duration_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                let delivered = status.as_u16() < 400;
                let result = if delivered { Ok((status, None)) } else { Err(error.to_string()) };
                self.record_outcome(delivery, Outcome { duration_ms, result }).await;
                return Err(match error {
                    BodyError::Incomplete => DeliveryError::IncompleteResponse { delivered },
                    BodyError::TooLarge => DeliveryError::TooLarge { delivered },
                });
            }
        };
        let value = json_or_text(&body);
        let refusal = (status.as_u16() >= 300).then(|| refusal_text(status, &value));
        self.record_outcome(delivery, Outcome { duration_ms, result: Ok((status, Some(value))) }).await;
        match refusal {
            Some(text) => Err(DeliveryError::Refused { status, text }),
            None => Ok(Reply { status, body }),
        }
    }
}

fn elapsed_ms(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// A response as it is stored: text that is no JSON, or is nested too deeply, as a string.
fn json_or_text(body: &Bytes) -> RawJson {
    let text = || wire_json::without_nul(&String::from_utf8_lossy(body)).into_owned();
    RawJson::read(body).unwrap_or_else(|_| RawJson::render(&text()))
}

/// The agent's own words, else what the status means.
fn refusal_text(status: StatusCode, body: &RawJson) -> String {
    let words = [["error"].as_slice(), &["error", "message"]];
    let words = words.into_iter().find_map(|path| raw::string(body.at(path)?));
    let words = words.unwrap_or_else(|| status.canonical_reason().unwrap_or("the agent refused").to_owned());
    clip(words, ACTIVITY_TEXT_BYTES)
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
