//! This server's claim on a message, as long as it delivers it.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use state::State;
use store::{
    StoreError,
    message_keys::{ClaimHolder, MessageClaim, ReleaseMessage},
};

/// A claim for a delivery. Dropped with the delivery, however that ends, it is released after the rows that were written
/// behind before: that with the key, if there is one. One that was not made is not released.
pub(crate) struct HeldClaim {
    state: State,
    claim: MessageClaim,
    made: Made,
    is_row_lost: AtomicBool,
}

/// Whether the claim is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    No,
    Yes,
    /// The database was asked and did not answer.
    Perhaps,
}

impl HeldClaim {
    /// A claim that is yet to be made, for a message with so many hops behind it.
    pub(crate) fn new(state: &State, key: String, hops: u32) -> Self {
        let claim = MessageClaim { key, owner: state.server(), at: store::now(), hops };
        Self { state: state.clone(), claim, made: Made::No, is_row_lost: AtomicBool::new(false) }
    }

    /// See [`store::Store::claim_message`].
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn make(
        &mut self,
        since: DateTime<Utc>,
        take_over: bool,
    ) -> Result<ClaimHolder, StoreError> {
        // A statement of a call that was given up may still be executed.
        self.made = Made::Perhaps;
        let holder = self.state.store().claim_message(&self.claim, since, take_over).await?;
        self.made = if holder == ClaimHolder::This { Made::Yes } else { Made::No };
        Ok(holder)
    }

    /// The row that has the key will not be stored: the outcome is not known to others, nor after a restart.
    pub(crate) fn row_is_lost(&self) {
        self.is_row_lost.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for HeldClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldClaim").field("claim", &self.claim).finish_non_exhaustive()
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        if self.made == Made::No {
            return;
        }
        let is_row_lost = *self.is_row_lost.get_mut();
        let release =
            ReleaseMessage { claim: self.claim.clone(), is_made: self.made == Made::Yes, is_row_lost };
        self.state.try_write_behind(release);
    }
}
