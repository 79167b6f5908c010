//! The audit log of guests: one line and one count for each change by an operator, a file or the
//! breaker.

use std::time::Duration;

use events::{GuestChange, GuestEvent, Listener};
use tokio::time::timeout;

/// How often progress is reported where nothing changes.
pub(crate) const TICK: Duration = Duration::from_secs(30);

/// Logs changes until the feed ends.
pub(crate) async fn follow(mut changes: Listener<GuestEvent>, progress: impl Fn()) {
    metrics::describe_counter!("isomer_guest_changes_total", "Changes of guests, by kind.");
    loop {
        progress();
        match timeout(TICK, changes.next()).await {
            Err(_) => {}
            Ok(Some(Ok(event))) => log(&event),
            Ok(Some(Err(lost))) => {
                tracing::warn!(lost, "changes of guests came faster than they could be logged");
            }
            Ok(None) => return,
        }
    }
}

fn log(event: &GuestEvent) {
    let change = event.change.as_str();
    metrics::counter!("isomer_guest_changes_total", "guest" => event.guest.clone(), "change" => change)
        .increment(1);
    let release = event.release.as_deref().and_then(|digest| digest.get(..12));
    let (guest, by, reason) = (&event.guest, event.by.as_deref(), event.reason.as_deref());
    match event.change {
        GuestChange::Rejected | GuestChange::Tripped => {
            tracing::warn!(guest, change, release, by, reason, "guest changed");
        }
        _ => tracing::info!(guest, change, release, by, reason, "guest changed"),
    }
}
