//! Shutdown in two steps: the server drains, then it ends.
//!
//! All parts of the server share one [`Shutdown`]. Draining means: take nothing new,
//! finish what is open. Ending means: drop what is left.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two steps of the shutdown; any part of the server may cause them and wait for them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    ended: CancellationToken,
    /// A second signal came.
    forced: CancellationToken,
}

impl Shutdown {
    /// A handle for one of many watchers (a connection, say). Watchers of the same handle share a
    /// lock; watchers of different ones don't.
    #[must_use]
    pub fn for_one(&self) -> Self {
        let (draining, ended) = (self.draining.child_token(), self.ended.child_token());
        Self { draining, ended, forced: self.forced.clone() }
    }

    /// Begins draining.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends the server.
    pub fn end(&self) {
        self.draining.cancel();
        self.ended.cancel();
    }

    /// Waits until draining has begun.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Waits until the server has to end.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Waits for a second signal: what is still to be done is left undone. The connection loop ends without
    /// one too ([`Shutdown::ended`]); the last writes come after it.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Drains at the first SIGINT or SIGTERM and ends at the second.
    ///
    /// # Errors
    /// When the operating system refuses signal handlers.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            tracing::info!("stopping; a second signal stops at once");
            shutdown.drain();
            next().await;
            tracing::warn!("stopping at once");
            shutdown.forced.cancel();
            shutdown.end();
        });
        Ok(())
    }
}
