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
    first_answer,
    limits::{DELIVERY_TIMEOUT, RECORDED_STREAM_BYTES, STREAM_CHUNKS},
    reply::{Known, RecordedStream},
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
        let (to_recorded, recorded) = match delivery.key {
            Some(_) => Some(oneshot::channel()).unzip(),
            None => (None, None),
        };
        let recorded_type = content_type.clone();
        let (messaging, counted) = (self.clone(), self.stopping.begin());
        tokio::spawn(async move {
            let Relayed { text, is_cut, problem } = relay(body, to_sender, &messaging.stopping).await;
            if problem.is_none() {
                let _ = done.send(());
            } else {
                drop(done);
            }
            let response = RawJson::render(&String::from_utf8_lossy(&text));
            let known = to_recorded.map(|to_recorded| {
                let is_whole = problem.is_none();
                let stream =
                    RecordedStream { status, content_type: recorded_type, text: text.freeze(), is_whole };
                (to_recorded, if is_cut { Known::TooLarge } else { Known::Stream(stream) })
            });
            let answer =
                known.as_ref().and_then(|(_, known)| first_answer::stored(status, known, Some(&response)));
            let outcome = Outcome::answered(elapsed, status, Some(response));
            messaging.record_outcome(delivery, outcome.with_detail(problem).with_answer(answer)).await;
            if let Some((to_recorded, known)) = known {
                let _ = to_recorded.send(known);
            }
            drop(counted);
        });
        AgentStream { status, content_type, chunks, complete, recorded }
    }
}

/// A stream that was passed on.
struct Relayed {
    /// The beginning of its text.
    text: BytesMut,
    /// There was more text.
    is_cut: bool,
    /// Why it is not whole.
    problem: Option<String>,
}

/// Reads a stream to its end.
async fn relay(mut body: AgentBody, to_sender: mpsc::Sender<Bytes>, stopping: &Stopping) -> Relayed {
    let mut relayed = Relayed { text: BytesMut::new(), is_cut: false, problem: None };
    relayed.problem = relay_into(&mut body, to_sender, stopping, &mut relayed).await;
    relayed
}

/// Returns why the stream is not whole.
async fn relay_into(
    body: &mut AgentBody,
    to_sender: mpsc::Sender<Bytes>,
    stopping: &Stopping,
    relayed: &mut Relayed,
) -> Option<String> {
    let mut to_sender = Some(to_sender);
    let mut until = None;
    loop {
        let chunk = tokio::select! {
            chunk = body.chunk() => chunk,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                return Some("its sender left, and it did not end in time".to_owned());
            }
            () = stopping.cut() => return Some("the server stopped first".to_owned()),
        };
        let chunk = match chunk {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return None,
            Err(error) => return Some(error.to_string()),
        };
        let room = RECORDED_STREAM_BYTES - relayed.text.len();
        relayed.is_cut |= chunk.len() > room;
        relayed.text.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if let Some(sender) = &to_sender {
            let left = tokio::select! {
                sent = sender.send(chunk) => sent.is_err(),
                () = stopping.cut() => return Some("the server stopped first".to_owned()),
                error = body.expired() => return Some(error.to_string()),
            };
            if left {
                to_sender = None;
                until = Some(Instant::now() + DELIVERY_TIMEOUT);
            }
        }
    }
}
