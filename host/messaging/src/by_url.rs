//! Agents that are called: where, what their answers mean, and what is done when none comes.

use std::error::Error as _;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use store::{queue::NewQueued, workspaces::Status};
use tokio::time::Instant;

use crate::{
    agent::{Answer, Cut, NoAnswer},
    caller::Caller,
    deliver::{Ending, Messaging, Reply, Turn},
    error::DeliveryError,
    limits::TURN,
};

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// The message won't be delivered.
    Refused(DeliveryError),
    /// The agent seems to be busy; the message may wait.
    Busy(Box<NewQueued>),
}

impl From<DeliveryError> for Undelivered {
    fn from(error: DeliveryError) -> Self {
        Self::Refused(error)
    }
}

impl Messaging {
    pub(crate) async fn call_agent(
        &self,
        turn: Turn,
        deadline: Option<Instant>,
    ) -> Result<Reply, Undelivered> {
        let row = &turn.target.row;
        // One that people let stand still gets no work, even if its agent runs on somewhere.
        let still = matches!(row.status, Status::Paused | Status::Hibernating | Status::Hibernated);
        let Some(url) = row.url.as_deref().filter(|url| !url.is_empty() && !still) else {
            return Err(DeliveryError::NoUrl { status: row.status }.into());
        };
        let limit = match turn.caller {
            Caller::Person => None,
            Caller::Workspace(_) => Some(Instant::now() + TURN),
        };
        let asked = Instant::now();
        let message = Bytes::from(turn.request.body.to_string());
        match self.agents.call(url, message, deadline.or(limit)).await {
            Ok(answer) => Ok(self.answered(turn, answer).await?),
            Err(NoAnswer::Url(error)) => {
                tracing::warn!(workspace = %row.id, %error, "an agent's URL may not be called");
                Err(DeliveryError::NotRoutable.into())
            }
            Err(error) => {
                let began = matches!(error, NoAnswer::Unanswered(_)).then(|| Box::new(turn.to_wait()));
                let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
                tracing::info!(workspace = %row.id, error = format!("{error}{cause}"), "no answer from an agent");
                let ending = Ending { duration_ms: millis(asked), result: Err(error.to_string()) };
                self.end(turn, ending).await;
                Err(began.map_or(DeliveryError::Unreachable.into(), Undelivered::Busy))
            }
        }
    }

    async fn answered(&self, turn: Turn, answer: Answer) -> Result<Reply, DeliveryError> {
        let Answer { status, took, body } = answer;
        let duration_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let body = match body {
            Ok(body) => body,
            Err(cut) => {
                let delivered = status.as_u16() < 400;
                let result = if delivered { Ok((status, None)) } else { Err(cut.to_string()) };
                self.end(turn, Ending { duration_ms, result }).await;
                return Err(match cut {
                    Cut::Broken => DeliveryError::BrokenOff { delivered },
                    Cut::TooLarge => DeliveryError::TooLarge,
                });
            }
        };
        let said = value(&body);
        let refusal = (status.as_u16() >= 300).then(|| refusal(status, &said));
        self.end(turn, Ending { duration_ms, result: Ok((status, Some(said))) }).await;
        match refusal {
            Some(text) => Err(DeliveryError::Refused { status, text }),
            None => Ok(Reply { status, body }),
        }
    }
}

fn millis(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// What isn't JSON is kept as text.
fn value(body: &Bytes) -> Value {
    let text = || Value::String(String::from_utf8_lossy(body).into_owned());
    serde_json::from_slice(body).unwrap_or_else(|_| text())
}

/// What an agent says is wrong, else what its status means.
fn refusal(status: StatusCode, said: &Value) -> String {
    let error = said.get("error");
    let words = error.and_then(|error| error.as_str().or_else(|| error.get("message")?.as_str()));
    words.or(status.canonical_reason()).unwrap_or("the agent refused").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_by_table() {
        for (body, text) in [
            (json!({ "error": "no" }), "no"),
            (json!({ "error": { "code": 1, "message": "not now" } }), "not now"),
            (json!({ "error": { "code": 1 } }), "Bad Gateway"),
            (json!("<html>"), "Bad Gateway"),
        ] {
            assert_eq!(refusal(StatusCode::BAD_GATEWAY, &body), text);
        }
        let unknown = StatusCode::from_u16(599).unwrap();
        assert_eq!(refusal(unknown, &json!({})), "the agent refused");
    }
}
