//! The lease that says that this server lives, and what it knows by that of others.

use std::sync::{Mutex, PoisonError};

use tasks::Progress;
use tokio::time::{Instant, sleep};

use crate::{Messaging, limits::RENEWALS};

/// Since when this server renews its lease without a gap.
#[derive(Debug, Default)]
pub(crate) struct OwnLease(Mutex<Option<Instant>>);

impl OwnLease {
    fn held_since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, held_since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held_since;
    }
}

impl Messaging {
    /// Whether a server without a lease has ended. After an outage of the database none could renew its lease, so only
    /// a server knows that renewed its own for a whole lease. A database of one process has no other servers, only
    /// earlier ones.
    pub(crate) fn knows_ended_servers(&self) -> bool {
        self.fleet.store().is_single_process()
            || self.lease.held_since().is_some_and(|since| since.elapsed() >= self.limits.server_lease)
    }

    /// Renews the lease that says that this server lives.
    pub(crate) async fn renew_lease(self, progress: Progress) {
        let length = self.limits.server_lease;
        let mut until = Instant::now();
        loop {
            let asked = Instant::now();
            match self.fleet.store().renew_server(self.fleet.state().server(), length).await {
                Ok(()) => {
                    if self.lease.held_since().is_none() || until < asked {
                        self.lease.set(Some(asked));
                    }
                    until = asked + length;
                }
                Err(error) => {
                    self.lease.set(None);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "this server's lease could not be renewed");
                }
            }
            progress.report();
            sleep(length / RENEWALS).await;
        }
    }
}
