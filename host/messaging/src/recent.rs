//! Memory of messages that may be sent twice: those under way, and the answers of those that were delivered lately.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::HeaderValue;
use store::activity::SAME_MESSAGE;
use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use crate::{delivery::Answer, error::DeliveryError, limits::REMEMBERED_BYTES, reply::Known};

/// Memory of an answer apart from its texts, about.
const OVERHEAD: usize = 256;

/// Digest of a message.
pub(crate) type Digest = [u8; 32];

#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Messages>);

#[derive(Debug, Default)]
struct Messages {
    by_key: HashMap<Digest, State>,
    /// Those that were delivered, oldest first, with the bytes that they take.
    delivered: VecDeque<(Digest, Instant, usize)>,
    bytes: usize,
}

#[derive(Debug)]
enum State {
    /// Under way, with so many hops behind it; others with the same key wait here.
    Running(u32, Option<Arc<Notify>>),
    /// Its answer is a stream that has not ended, with so many hops behind the message.
    Streaming(u32),
    Delivered(Known),
}

pub(crate) enum Begun {
    /// No other with this key is under way.
    First(Running),
    /// Another one is, until this ends.
    Second(OwnedNotified),
    /// Another one is, and is being answered by a stream.
    Streaming,
    /// Another one is, and this one comes from it: waiting for it would never end.
    Loop,
    /// It was delivered.
    Delivered(Known),
}

/// A message under way. When it is dropped without an answer, the next one with its key is the first.
pub(crate) struct Running {
    recent: Arc<Recent>,
    key: Digest,
}

impl Known {
    /// The answer of a delivery that did not end in the queue; none if the message was not delivered, and may be sent
    /// again, or if the answer is a stream.
    pub(crate) fn of(result: &Result<Answer, DeliveryError>) -> Option<Self> {
        match result {
            Ok(Answer::Whole(reply)) => Some(Self::Reply(reply.clone())),
            Ok(Answer::Stream(_)) => None,
            Err(DeliveryError::IncompleteResponse { delivered: true }) => Some(Self::Incomplete),
            Err(DeliveryError::TooLarge { delivered: true }) => Some(Self::TooLarge),
            Err(_) => None,
        }
    }

    pub(crate) fn into_result(self) -> Result<Answer, DeliveryError> {
        match self {
            Self::Reply(reply) => Ok(reply.into()),
            Self::Stream(stream) => Ok(Answer::Stream(stream.into())),
            other => Err(other.into_error(true)),
        }
    }

    /// The error of an answer that is not whole. `delivered`: its status was a good one.
    pub(crate) fn into_error(self, delivered: bool) -> DeliveryError {
        match self {
            Self::TooLarge => DeliveryError::TooLarge { delivered },
            _ => DeliveryError::IncompleteResponse { delivered },
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Reply(reply) => reply.body.len() + reply.retry_after.as_ref().map_or(0, HeaderValue::len),
            Self::Stream(stream) => stream.text.len() + stream.content_type.len(),
            Self::Incomplete | Self::TooLarge => 0,
        }
    }
}

impl Recent {
    pub(crate) fn begin(self: &Arc<Self>, key: Digest, hops: u32) -> Begun {
        let mut messages = self.lock();
        messages.forget_old();
        match messages.by_key.get_mut(&key) {
            None => {
                messages.by_key.insert(key, State::Running(hops, None));
                Begun::First(Running { recent: Arc::clone(self), key })
            }
            Some(State::Running(first, _) | State::Streaming(first)) if hops > *first => Begun::Loop,
            Some(State::Running(_, waiting)) => {
                Begun::Second(Arc::clone(waiting.get_or_insert_default()).notified_owned())
            }
            Some(State::Streaming(_)) => Begun::Streaming,
            Some(State::Delivered(answer)) => Begun::Delivered(answer.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Messages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Messages {
    fn forget_old(&mut self) {
        let age = SAME_MESSAGE.to_std().unwrap_or_default();
        while let Some((key, at, bytes)) = self.delivered.front()
            && (at.elapsed() >= age || self.bytes > REMEMBERED_BYTES)
        {
            self.by_key.remove(key);
            self.bytes -= bytes;
            self.delivered.pop_front();
        }
    }
}

impl Running {
    /// The answer is a stream: others need not wait for it.
    pub(crate) fn streams(&self) {
        let mut messages = self.recent.lock();
        let Some(state) = messages.by_key.get_mut(&self.key) else { return };
        if let State::Running(hops, waiting) = state {
            let waiting = waiting.take();
            *state = State::Streaming(*hops);
            if let Some(waiting) = waiting {
                waiting.notify_waiters();
            }
        }
    }

    /// The message was delivered. Its row may not be stored yet, so that even a large answer is remembered.
    pub(crate) fn finish(self, mut answer: Known) {
        // A body may be a part of a larger buffer.
        match &mut answer {
            Known::Reply(reply) => reply.body = Bytes::copy_from_slice(&reply.body),
            Known::Stream(stream) => stream.text = Bytes::copy_from_slice(&stream.text),
            Known::Incomplete | Known::TooLarge => {}
        }
        let bytes = answer.bytes() + OVERHEAD;
        let mut messages = self.recent.lock();
        messages.bytes += bytes;
        messages.delivered.push_back((self.key, Instant::now(), bytes));
        if let Some(State::Running(_, Some(waiting))) =
            messages.by_key.insert(self.key, State::Delivered(answer))
        {
            waiting.notify_waiters();
        }
        messages.forget_old();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut messages = self.recent.lock();
        match messages.by_key.get_mut(&self.key) {
            Some(State::Running(_, waiting)) => {
                if let Some(waiting) = waiting.take() {
                    waiting.notify_waiters();
                }
            }
            Some(State::Streaming(_)) => {}
            Some(State::Delivered(_)) | None => return,
        }
        messages.by_key.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tokio::time::advance;

    use super::*;
    use crate::reply::Reply;

    fn reply(size: usize) -> Known {
        Known::Reply(Reply { status: StatusCode::OK, body: vec![b'x'; size].into(), retry_after: None })
    }

    fn first(recent: &Arc<Recent>, key: Digest) -> Running {
        match recent.begin(key, 0) {
            Begun::First(running) => running,
            _ => panic!("not the first"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_message_waits_for_the_first_and_gets_its_answer_for_a_day() {
        let recent = Arc::<Recent>::default();
        let running = first(&recent, [1; 32]);
        assert!(matches!(recent.begin([1; 32], 1), Begun::Loop));
        let Begun::Second(waiting) = recent.begin([1; 32], 0) else { panic!("one is under way") };
        drop(running);
        waiting.await;
        let running = first(&recent, [1; 32]);
        let Begun::Second(waiting) = recent.begin([1; 32], 0) else { panic!("one is under way") };
        running.finish(reply(1));
        waiting.await;
        advance(SAME_MESSAGE.to_std().unwrap() - std::time::Duration::from_secs(1)).await;
        assert!(matches!(recent.begin([1; 32], 0), Begun::Delivered(answer) if answer == reply(1)));
        advance(std::time::Duration::from_secs(1)).await;
        drop(first(&recent, [1; 32]));
    }

    #[tokio::test]
    async fn remembered_answers_are_bounded_by_their_bytes() {
        let recent = Arc::<Recent>::default();
        for number in 0..250 {
            first(&recent, [number; 32]).finish(reply(256 * 1024));
        }
        assert!(recent.lock().bytes <= REMEMBERED_BYTES);
        assert!(recent.lock().by_key.len() < 130);
        assert!(matches!(recent.begin([249; 32], 0), Begun::Delivered(_)));
    }
}
