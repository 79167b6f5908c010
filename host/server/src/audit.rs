//! Writes down what operators, files and breakers did to guests: a line in the log and a counter,
//! in one place.

use events::{GuestChange, GuestEvent, Listener};

/// Follows events until there are no more.
pub async fn follow(mut changes: Listener<GuestEvent>) {
    metrics::describe_counter!("isomer_guest_changes_total", "Changes of guests, by kind.");
    while let Some(event) = changes.next().await {
        match event {
            Ok(event) => guest(&event),
            Err(lost) => tracing::warn!(lost, "changes happened faster than they could be written down"),
        }
    }
}

fn guest(event: &GuestEvent) {
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
