//! A message that is sent twice is delivered once: its second answer is the first one's.
//!
//! The same message has the same sender, receiver and body, and a name that is meant to be unique: a `messageId` that is a
//! UUID, or the header `Idempotency-Key`. Other ids are constants in some clients.
//!
//! A server knows the messages under way and the latest answers by memory, which costs no statement. Synthetic
//! workspaces stop there: adapters give the same answer again, and the row of activity is stored once by its key. For
//! agents, who would do their work twice, one statement asks for earlier answers, and where other servers may be, another
//! one claims the message; both are short beside the call of an agent. A delivery that failed leaves no key.

use std::time::Duration;

use fleet::rules::DeliveryMode;
use http::StatusCode;
use sha2::{Digest as _, Sha256};
use store::{
    StoreError,
    activity::SAME_MESSAGE,
    message_keys::{Earlier, ReleaseMessage},
    workspaces::Hosting,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use types::WorkspaceId;
use uuid::Uuid;

use crate::{
    Messaging,
    caller::Caller,
    delivery::{Answer, Delivery, Reply, SendOptions},
    error::DeliveryError,
    limits::{DELIVERY_TIMEOUT, SAME_MESSAGE_PAUSES},
    poll,
    queue::queued_reply,
    recent::{Begun, Digest, Known},
    request::Request,
};

/// By what a message is recognized.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key(Digest);

impl Key {
    /// The key of a message with this body as it was sent, under the name that the sender gives it, if it gives one.
    /// None for messages without a unique name.
    pub(crate) fn of(
        target: WorkspaceId,
        caller: Caller,
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
        digest.update(name.len().to_be_bytes());
        digest.update(name);
        digest.update(sent);
        Some(Self(digest.finalize().into()))
    }

    fn text(&self) -> String {
        hex::encode(self.0)
    }
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
                Begun::Second(ended) => {
                    timeout_at(patience, ended).await.map_err(|_| DeliveryError::SameUnderWay)?;
                }
            }
        };
        let text = key.text();
        let is_worked_on = delivery.target.row.hosting != Hosting::Synthetic
            || delivery.target.row.delivery_mode == DeliveryMode::Poll;
        if is_worked_on && let Some(answer) = self.earlier(&text, &delivery, patience).await? {
            running.finish(answer.clone());
            return answer.into_result();
        }
        let result = self.send(Delivery { key: Some(text.clone()), ..delivery }, options).await;
        if is_worked_on && !self.fleet.store().is_single_process() {
            // After the row with the key.
            self.fleet.state().write_behind(ReleaseMessage(text)).await;
        }
        if let Some(answer) = Known::of(&result) {
            running.finish(answer);
        }
        result
    }

    /// The answer of an earlier delivery, here or by another server. If there is none, the message is this server's to
    /// deliver. Without the database it is, too: an answer is worth more than the certainty that it is the only one.
    async fn earlier(
        &self,
        key: &str,
        delivery: &Delivery,
        patience: Instant,
    ) -> Result<Option<Known>, DeliveryError> {
        let mut pauses = SAME_MESSAGE_PAUSES.into_iter();
        let mut pause = Duration::ZERO;
        loop {
            match self.claim_or_find(key, delivery).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "whether a message was delivered before is unknown: the database failed"
                    );
                    return Ok(None);
                }
            }
            pause = pauses.next().unwrap_or(pause);
            let next = Instant::now() + pause;
            if next >= patience {
                return Err(DeliveryError::SameUnderWay);
            }
            sleep_until(next).await;
        }
    }

    /// None while another server delivers the message; else the earlier answer, if there is one. The claim comes first: a
    /// server that lets go of it has stored its answer.
    async fn claim_or_find(
        &self,
        key: &str,
        delivery: &Delivery,
    ) -> Result<Option<Option<Known>>, StoreError> {
        let store = self.fleet.store();
        let is_ours =
            store.is_single_process() || store.claim_message(key, self.fleet.state().server()).await?;
        let earlier = store.earlier_message(key, store::now() - SAME_MESSAGE).await?;
        if is_ours && earlier.is_some() && !store.is_single_process() {
            self.fleet.state().write_behind(ReleaseMessage(key.to_owned())).await;
        }
        Ok(match earlier {
            Some(earlier) => Some(Some(self.answer(earlier, delivery).await?)),
            None => is_ours.then_some(None),
        })
    }

    async fn answer(&self, earlier: Earlier, delivery: &Delivery) -> Result<Known, StoreError> {
        Ok(match earlier {
            Earlier::Queued(id) => {
                let depth = self.fleet.store().queue_depth(delivery.target.row.id).await?;
                Known::Reply(queued_reply(id, depth))
            }
            Earlier::Delivered(Some(body)) => {
                Known::Reply(Reply { status: StatusCode::OK, body: body.into(), retry_after: None })
            }
            Earlier::Delivered(None) if delivery.target.row.delivery_mode == DeliveryMode::Poll => {
                Known::Reply(poll::reply(delivery.request.method()))
            }
            Earlier::Delivered(None) => Known::Incomplete,
        })
    }
}
