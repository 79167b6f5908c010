//! Streams from agents, passed on piece by piece, and recorded at their end.
//!
//! A sender that leaves ends nothing: the agent's stream is read to its end, within the limits of the call and
//! for [`DELIVERY_TIMEOUT`] at most, and recorded. A sender that reads slowly slows the agent down, because few pieces wait for it. What is
//! recorded is the text of the stream, up to a cap.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use net::{AgentBody, AgentResponse};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use wire_json::RawJson;

use crate::{
    Messaging,
    delivery::{Delivery, Outcome},
    limits::{DELIVERY_TIMEOUT, RECORDED_STREAM_BYTES, STREAM_CHUNKS},
    stopping::Stopping,
    stream::AgentStream,
};

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
        let (done, complete) = oneshot::channel();
        let (messaging, counted) = (self.clone(), self.stopping.begin());
        tokio::spawn(async move {
            let (recorded, problem) = relay(body, to_sender, &messaging.stopping).await;
            if problem.is_none() {
                let _ = done.send(());
            } else {
                drop(done);
            }
            let text = RawJson::render(&String::from_utf8_lossy(&recorded));
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
    let mut until = None;
    loop {
        let chunk = tokio::select! {
            chunk = body.chunk() => chunk,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                return (recorded, Some("its sender left, and it did not end in time".to_owned()));
            }
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
                until = Some(Instant::now() + DELIVERY_TIMEOUT);
            }
        }
    }
}
