//! Answers that are streams (`text/event-stream`), as their sender sees them. `relay` passes them on.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::{mpsc, oneshot};

use crate::reply::{Known, RecordedStream};

/// Methods whose answer is a stream, of A2A 0.3 and 1.0: those that send a message …
const MESSAGES: [&str; 2] = ["message/stream", "SendStreamingMessage"];
/// … and those that ask for the events of a task again.
const RESUBSCRIPTIONS: [&str; 2] = ["tasks/resubscribe", "SubscribeToTask"];

const EVENT_STREAM: &str = "text/event-stream";

/// A stream from an agent to a sender.
#[derive(Debug)]
pub struct AgentStream {
    /// HTTP status.
    pub status: StatusCode,
    /// Content type, as the agent wrote it.
    pub content_type: HeaderValue,
    pub(crate) chunks: mpsc::Receiver<Bytes>,
    /// Ends without a value when the stream broke off.
    pub(crate) complete: oneshot::Receiver<()>,
    /// What is recorded of it, at its end; of a message that may be sent twice.
    pub(crate) recorded: Option<oneshot::Receiver<Known>>,
}

impl From<RecordedStream> for AgentStream {
    fn from(stream: RecordedStream) -> Self {
        let RecordedStream { status, content_type, text, is_whole } = stream;
        let (to_sender, chunks) = mpsc::channel(1);
        let (done, complete) = oneshot::channel();
        if !text.is_empty() {
            // There is room for one.
            let _ = to_sender.try_send(text);
        }
        if is_whole {
            let _ = done.send(());
        }
        Self { status, content_type, chunks, complete, recorded: None }
    }
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
            // The pieces end a moment before it is known how.
            None => (&mut self.complete).await.map(|()| None).map_err(|_| StreamBroken),
        }
    }
}

/// Whether messages of this method may be answered by a stream.
pub(crate) fn is_streaming(method: &str) -> bool {
    MESSAGES.contains(&method) || is_resubscription(method)
}

/// Whether messages of this method only ask for what is still to come.
pub(crate) fn is_resubscription(method: &str) -> bool {
    RESUBSCRIPTIONS.contains(&method)
}

/// Whether the agent's response is a stream that the sender asked for. Returns its content type.
pub(crate) fn content_type(method: &str, status: StatusCode, headers: &HeaderMap) -> Option<HeaderValue> {
    if !is_streaming(method) || !status.is_success() {
        return None;
    }
    let content_type = headers.get(header::CONTENT_TYPE)?;
    let essence = content_type.to_str().ok()?.split(';').next()?.trim();
    essence.eq_ignore_ascii_case(EVENT_STREAM).then(|| content_type.clone())
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
