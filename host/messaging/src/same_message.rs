//! A message that is sent twice is delivered once: its second answer is the first one's.
//!
//! The same message has the same sender (by caller and credential), receiver and body, and a name that is meant to be
//! unique: a `messageId` that is a UUID, or the header `Idempotency-Key`. Other ids are constants in some clients.
//!
//! A server knows the messages under way and the latest answers by memory, which costs no statement. Synthetic
//! workspaces stop there: adapters give the same answer again, and the row of activity is stored once by its key. For
//! agents, who would do their work twice, one statement claims the message in the database before it is sent, and another
//! one asks for earlier answers; both are short beside the call of an agent. A delivery that failed leaves no key. One whose
//! server was killed leaves its claim, and the answer to a repeated message says that the outcome is unknown.
//!
//! A stream is one answer: while it goes on, the message is under way; then it is replayed as it was recorded.

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use store::{
    StoreError,
    activity::SAME_MESSAGE,
    message_keys::{ClaimHolder, Earlier},
};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use types::WorkspaceId;
use uuid::Uuid;

use crate::{
    Messaging,
    caller::{Caller, Credential},
    delivery::{Answer, Delivery, SendOptions, Undelivered},
    error::DeliveryError,
    first_answer,
    held_claim::HeldClaim,
    limits::{DELIVERY_TIMEOUT, SAME_MESSAGE_LOOKUP, SAME_MESSAGE_PAUSES, SAME_STREAM_PATIENCE},
    poll,
    queue::queued_reply,
    recent::{Begun, Digest, Running},
    reply::{Known, Reply},
    request::Request,
    stream::AgentStream,
};

/// By what a message is recognized.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key(Digest);

impl Key {
    /// The key of a message with this body as it was sent, under the name that the sender gives it, if it gives one.
    /// None for messages without a unique name.
    pub(crate) fn of(
        target: WorkspaceId,
        (caller, credential): (Caller, Credential),
        sent: &[u8],
        name: Option<&str>,
        request: &Request,
    ) -> Option<Self> {
        let is_unique = request.message_id().is_some_and(|id| Uuid::try_parse(id).is_ok());
        let name = match name {
            // It is a part of the body.
            _ if is_unique => "",
            Some(name) => name,
            None => return None,
        };
        let mut digest = Sha256::new();
        digest.update(target.0.as_bytes());
        match caller {
            Caller::User => digest.update([0]),
            Caller::Workspace(id) => {
                digest.update([1]);
                digest.update(id.0.as_bytes());
            }
        }
        credential.add_to(&mut digest);
        digest.update(name.len().to_be_bytes());
        digest.update(name);
        digest.update(sent);
        Some(Self(digest.finalize().into()))
    }

    fn text(&self) -> String {
        hex::encode(self.0)
    }
}

/// Where the first message with a key is.
enum First {
    /// It is this one.
    Ours,
    /// Another server delivers it.
    OfAnother,
    /// Another server delivers it, and this one comes from there.
    Loop,
    /// Its server ended while it delivered it, or lost its row.
    Lost,
    Found(Found),
}

/// The answer of an earlier message.
enum Found {
    Queued(Reply),
    Delivered(Known),
}

impl Messaging {
    /// Delivers a message, unless it was delivered or queued before: then its answer is the first one's.
    pub(crate) async fn send_once(
        &self,
        key: Key,
        delivery: Delivery,
        options: SendOptions,
    ) -> Result<Answer, DeliveryError> {
        let patience = options.deadline.unwrap_or_else(|| Instant::now() + DELIVERY_TIMEOUT);
        let running = loop {
            match self.recent.begin(key.0, options.headers.hops()) {
                Begun::First(running) => break running,
                // It ends by its hops.
                Begun::Loop => return self.send(delivery, options).await,
                Begun::Delivered(answer) => return answer.into_result(),
                Begun::Streaming => return Err(DeliveryError::SameUnderWay),
                Begun::Second(ended) => {
                    timeout_at(patience, ended).await.map_err(|_| DeliveryError::SameUnderWay)?;
                }
            }
        };
        let text = key.text();
        let is_worked_on = delivery.is_push() || delivery.is_poll();
        let mut claim = self
            .is_claimed(&delivery)
            .then(|| HeldClaim::new(self.fleet.state(), text.clone(), options.headers.hops()));
        if is_worked_on && let Some(answer) = self.earlier(&text, claim.as_mut(), &delivery, patience).await?
        {
            let known = match answer {
                // It may be given up: the queue knows.
                Found::Queued(reply) => return Ok(reply.into()),
                Found::Delivered(known) => known,
            };
            running.finish(known.clone());
            return known.into_result();
        }
        // It is released when the message is delivered or queued, and at the end of a stream.
        let claim = claim.map(Arc::new);
        let delivery = Delivery { key: Some(text), claim: claim.clone(), ..delivery };
        let result = match self.dispatch(delivery, options).await {
            // A queued message may be given up: the queue knows.
            Err(Undelivered::Busy(busy)) => return Ok(self.enqueue(*busy).await?.into()),
            Err(Undelivered::Failed(error)) => Err(error),
            Ok(Answer::Stream(stream)) => return Ok(Answer::Stream(self.stream_once(stream, running))),
            Ok(answer) => Ok(answer),
        };
        if let Some(answer) = Known::of(&result) {
            running.finish(answer);
        }
        result
    }

    /// The message is under way until the end of the stream.
    fn stream_once(&self, mut stream: AgentStream, running: Running) -> AgentStream {
        running.streams();
        if let Some(recorded) = stream.recorded.take() {
            let counted = self.stopping.begin();
            tokio::spawn(async move {
                if let Ok(known) = recorded.await {
                    running.finish(known);
                }
                drop(counted);
            });
        }
        stream
    }

    /// Whether a claim says that the message is being delivered. A synthetic workspace gives the same answer again, and
    /// of polling agents' rows the second with a key is not stored; with other servers, it shall not be published either.
    fn is_claimed(&self, delivery: &Delivery) -> bool {
        delivery.is_push() || delivery.is_poll() && !self.fleet.store().is_single_process()
    }

    /// The answer of an earlier delivery, here or by another server. If there is none, the message is this server's to
    /// deliver. Without the database it is, too: an answer is worth more than the certainty that it is the only one.
    async fn earlier(
        &self,
        key: &str,
        mut claim: Option<&mut HeldClaim>,
        delivery: &Delivery,
        patience: Instant,
    ) -> Result<Option<Found>, DeliveryError> {
        let patience = match delivery.may_stream() {
            true => patience.min(Instant::now() + SAME_STREAM_PATIENCE),
            false => patience,
        };
        let mut pauses = SAME_MESSAGE_PAUSES.into_iter();
        let mut pause = Duration::ZERO;
        loop {
            let found = self.claim_or_find(key, claim.as_deref_mut(), delivery);
            let unknown = match timeout(SAME_MESSAGE_LOOKUP, found).await {
                // A loop ends by its hops.
                Ok(Ok(First::Ours | First::Loop)) => return Ok(None),
                Ok(Ok(First::Found(answer))) => return Ok(Some(answer)),
                Ok(Ok(First::Lost)) => return Err(DeliveryError::OutcomeUnknown),
                Ok(Ok(First::OfAnother)) => None,
                Ok(Err(error)) => Some(Box::<dyn std::error::Error + Send + Sync>::from(error)),
                Err(late) => Some(late.into()),
            };
            if let Some(error) = unknown {
                let error = &*error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "whether a message was delivered before is unknown: the database failed"
                );
                return Ok(None);
            }
            pause = pauses.next().unwrap_or(pause);
            let next = Instant::now() + pause;
            if next >= patience {
                return Err(DeliveryError::SameUnderWay);
            }
            sleep_until(next).await;
        }
    }

    /// The claim comes first: a server that lets go of it has stored its answer.
    async fn claim_or_find(
        &self,
        key: &str,
        claim: Option<&mut HeldClaim>,
        delivery: &Delivery,
    ) -> Result<First, StoreError> {
        let store = self.fleet.store();
        let since = store::now() - SAME_MESSAGE;
        let holder = match claim {
            // A row for a polling agent is stored whole or not at all.
            Some(claim) => claim.make(since, !delivery.is_push()).await?,
            None => ClaimHolder::This,
        };
        Ok(match (store.earlier_message(key, since).await?, holder) {
            (Some(Earlier::Queued(queued)), _) => First::Found(Found::Queued(queued_reply(queued))),
            (Some(Earlier::Polled), _) => {
                First::Found(Found::Delivered(Known::Reply(poll::reply(delivery.request.method()))))
            }
            (Some(Earlier::Answered { answer, response }), _) => {
                First::Found(Found::Delivered(first_answer::restored(answer, response)))
            }
            (None, ClaimHolder::This) => First::Ours,
            (None, ClaimHolder::Loop) => First::Loop,
            (None, ClaimHolder::Ended) if self.knows_ended_servers() => First::Lost,
            (None, ClaimHolder::Another | ClaimHolder::Ended) => First::OfAnother,
        })
    }
}
