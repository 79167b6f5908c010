//! Answers that are streams (`text/event-stream`): passed on piece by piece, and recorded at their end.
//!
//! A sender that leaves ends nothing: the agent's stream is read to its end, within the limits of the call,
//! and recorded. A sender that reads slowly slows the agent down, because few pieces wait for it. What is
//! recorded is the text of the stream, up to a cap.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use net::{AgentBody, AgentResponse};
use tokio::sync::mpsc;
use wire_json::RawJson;

use crate::{
    Messaging,
    delivery::{Delivery, Outcome},
    limits::{RECORDED_STREAM_BYTES, STREAM_CHUNKS},
    stopping::Stopping,
};

/// Methods whose answer is a stream, of A2A 0.3 and 1.0.
const METHODS: [&str; 4] = ["message/stream", "tasks/resubscribe", "SendStreamingMessage", "SubscribeToTask"];

const EVENT_STREAM: &str = "text/event-stream";

/// A stream from an agent to a sender.
#[derive(Debug)]
pub struct AgentStream {
    /// HTTP status.
    pub status: StatusCode,
    /// Content type, as the agent wrote it.
    pub content_type: HeaderValue,
    chunks: mpsc::Receiver<Bytes>,
    /// Ends without a value when the stream broke off.
    complete: tokio::sync::oneshot::Receiver<()>,
}

/// A stream broke off at the agent's end, or took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent's stream broke off")]
pub struct StreamBroken;

impl AgentStream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// If the stream broke off before its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StreamBroken> {
        match self.chunks.recv().await {
            Some(chunk) => Ok(Some(chunk)),
            None if self.complete.try_recv().is_ok() => Ok(None),
            None => Err(StreamBroken),
        }
    }
}

/// Whether the agent's response is a stream that the sender asked for. Returns its content type.
pub(crate) fn content_type(method: &str, status: StatusCode, headers: &HeaderMap) -> Option<HeaderValue> {
    if !METHODS.contains(&method) || !status.is_success() {
        return None;
    }
    let content_type = headers.get(header::CONTENT_TYPE)?;
    let essence = content_type.to_str().ok()?.split(';').next()?.trim();
    essence.eq_ignore_ascii_case(EVENT_STREAM).then(|| content_type.clone())
}

impl Messaging {
    /// Passes a stream on. It is read by a task of its own, which also records it.
    pub(crate) fn pass_on(
        &self,
        delivery: Delivery,
        response: AgentResponse,
        content_type: HeaderValue,
    ) -> AgentStream {
        let AgentResponse { status, elapsed, body, .. } = response;
        let (to_sender, chunks) = mpsc::channel(STREAM_CHUNKS);
        let (done, complete) = tokio::sync::oneshot::channel();
        let (messaging, counted) = (self.clone(), self.stopping.begin());
        tokio::spawn(async move {
            let (recorded, problem) = relay(body, to_sender, &messaging.stopping).await;
            if problem.is_none() {
                let _ = done.send(());
            } else {
                drop(done);
            }
            let text = RawJson::render(&wire_json::without_nul(&String::from_utf8_lossy(&recorded)));
            let outcome = Outcome::answered(elapsed, status, Some(text)).with_detail(problem);
            messaging.record_outcome(delivery, outcome).await;
            drop(counted);
        });
        AgentStream { status, content_type, chunks, complete }
    }
}

/// Reads a stream to its end. Returns the beginning of its text, and why it is not whole.
async fn relay(
    mut body: AgentBody,
    to_sender: mpsc::Sender<Bytes>,
    stopping: &Stopping,
) -> (BytesMut, Option<String>) {
    let mut recorded = BytesMut::new();
    let mut to_sender = Some(to_sender);
    loop {
        let chunk = tokio::select! {
            chunk = body.chunk() => chunk,
            () = stopping.cut() => return (recorded, Some("the server stopped first".to_owned())),
        };
        let chunk = match chunk {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return (recorded, None),
            Err(error) => return (recorded, Some(error.to_string())),
        };
        let room = RECORDED_STREAM_BYTES - recorded.len();
        recorded.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if let Some(sender) = &to_sender {
            let left = tokio::select! {
                sent = sender.send(chunk) => sent.is_err(),
                () = stopping.cut() => return (recorded, Some("the server stopped first".to_owned())),
                error = body.expired() => return (recorded, Some(error.to_string())),
            };
            if left {
                to_sender = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_streams_that_were_asked_for_are_passed_on() {
        for (method, status, content_type_of_agent, streams) in [
            ("message/stream", 200, Some("text/event-stream"), true),
            ("message/stream", 200, Some("Text/Event-Stream; charset=utf-8"), true),
            ("tasks/resubscribe", 200, Some("text/event-stream"), true),
            ("SendStreamingMessage", 200, Some("text/event-stream"), true),
            ("SubscribeToTask", 201, Some("text/event-stream"), true),
            ("message/send", 200, Some("text/event-stream"), false),
            ("message/stream", 200, Some("application/json"), false),
            ("message/stream", 200, Some("text/event-streams"), false),
            ("message/stream", 200, None, false),
            ("message/stream", 500, Some("text/event-stream"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(text) = content_type_of_agent {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            }
            let found = content_type(method, StatusCode::from_u16(status).unwrap(), &headers);
            assert_eq!(found.is_some(), streams, "{method} {status} {content_type_of_agent:?}");
        }
    }
}
