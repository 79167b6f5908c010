//! This server's claim on a message, as long as it delivers it.

use std::ops::Deref;

use state::State;
use store::message_keys::{MessageClaim, ReleaseMessage};

/// A claim that is made for a delivery. Dropped with the delivery, however that ends, it is deleted after the rows that
/// were written behind before: that with the key, if there is one. To drop a claim that was not made deletes nothing.
pub(crate) struct HeldClaim {
    state: State,
    claim: MessageClaim,
}

impl HeldClaim {
    pub(crate) fn new(state: &State, key: String) -> Self {
        let claim = MessageClaim { key, owner: state.server(), at: store::now() };
        Self { state: state.clone(), claim }
    }
}

impl Deref for HeldClaim {
    type Target = MessageClaim;

    fn deref(&self) -> &MessageClaim {
        &self.claim
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        self.state.try_write_behind(ReleaseMessage(self.claim.clone()));
    }
}
