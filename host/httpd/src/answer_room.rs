//! What large answers of this process may take in memory until they are sent: a client that does not read must not keep
//! what others need.
//!
//! An answer keeps its [`Room`] until hyper has written the last byte. Parts and shares are those of a [`Budget`]: 72
//! MiB for large answers to admitted callers, of which one credential has a quarter and the operator's a quarter that
//! no other takes, 24 MiB for their small ones, and as much for each of those to others.

use std::sync::LazyLock;

use bytes::Bytes;
use http::StatusCode;

use crate::body_budget::{Admitted, Budget, NoMemory, Reserved, WAIT};

pub use crate::body_budget::{SMALL, hold};
use crate::error::ApiError;

/// Bytes of the budget.
const BYTES: usize = 144 << 20;

static PROCESS: LazyLock<Budget> = LazyLock::new(|| Budget::new(BYTES));

/// Memory that is reserved for one answer.
#[derive(Debug)]
pub struct Room(Reserved<'static>);

impl Room {
    /// Waits for room for an answer of about this size.
    ///
    /// # Errors
    /// 503 where others take it for too long.
    pub async fn reserve(bytes: usize, admitted: Option<Admitted>) -> Result<Self, ApiError> {
        Self::within(&PROCESS, bytes, admitted).await
    }

    async fn within(
        budget: &'static Budget,
        bytes: usize,
        admitted: Option<Admitted>,
    ) -> Result<Self, ApiError> {
        let mut reserved = budget.reserve(bytes, true, admitted).await.map_err(refusal)?;
        reserved.extend(bytes).await.map_err(refusal)?;
        Ok(Self(reserved))
    }

    /// Gives back what the answer does not take, or waits for more.
    ///
    /// # Errors
    /// 503 where others take it for too long.
    pub async fn resize(mut self, bytes: usize) -> Result<Self, ApiError> {
        self.0.shrink(bytes);
        self.0.extend(bytes).await.map_err(refusal)?;
        Ok(self)
    }

    /// Ties the room to the answer that is in it.
    ///
    /// # Errors
    /// Those of [`resize`](Self::resize).
    pub async fn hold(self, answer: Bytes) -> Result<Bytes, ApiError> {
        let Self(reserved) = self.resize(answer.len()).await?;
        Ok(reserved.hold(answer))
    }
}

fn refusal(_: NoMemory) -> ApiError {
    full()
}

/// 503: the room is taken by answers that are not sent yet.
#[must_use]
pub fn full() -> ApiError {
    let text = "too many large answers wait to be sent: try again later";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text).with_retry_after(WAIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const ADMIN: Option<Admitted> = Some(Admitted { credential: None });

    #[tokio::test(start_paused = true)]
    async fn an_answer_keeps_its_room_until_it_is_dropped_and_more_than_there_is_is_503() {
        let budget: &'static Budget = Box::leak(Box::new(Budget::new(12 * MIB)));
        let page = async |bytes: usize| {
            let room = Room::within(budget, MIB, ADMIN).await?;
            room.hold(vec![b'x'; bytes].into()).await
        };
        let mut held = Vec::new();
        for _ in 0..11 {
            held.push(page(MIB / 2).await.expect("the rest was given back"));
        }
        assert!(page(MIB / 2).await.is_err(), "not enough to make it");
        held.truncate(4);
        held.push(page(4 * MIB).await.expect("more was to be had"));
        assert!(page(1).await.is_err());
        let part = held.pop().expect("one").slice(..1);
        assert!(page(1).await.is_err(), "a part keeps all of it");
        drop(part);
        assert!(page(1).await.is_ok());
        drop(held);
        assert!(budget.is_unused());
    }
}
