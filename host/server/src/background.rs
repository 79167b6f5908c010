//! What the server does in the background: one list, all of it supervised.

use std::sync::Arc;
use std::time::Duration;

use api::app::App;
use catalog::GuestWatcher;
use messaging::ActivityRetention;

use crate::settings::Settings;

/// Seconds in an hour.
const HOUR: u64 = 3_600;

/// Starts all background tasks. `watcher`: watches the directory of guests, if there is one.
pub fn start(app: &App, settings: &Settings, watcher: Option<GuestWatcher>) {
    let event_retention = chrono::Duration::days(settings.storage.event_retention_days.get().into());
    let tasks = &app.tasks;
    tasks.spawn_all(httpd::background_tasks(Arc::clone(&app.metrics), Arc::clone(&app.limits)));
    tasks.spawn_all(app.catalog.background_tasks(app.fleet.hub(), watcher));
    tasks.spawn_all(app.fleet.state().background_tasks(event_retention));
    tasks.spawn_all(app.fleet.background_tasks());
    tasks.spawn_all(app.messaging.background_tasks(activity_retention(settings)));
}

fn activity_retention(settings: &Settings) -> ActivityRetention {
    let hours = settings.messages.activity_cleanup_interval_hours.get();
    ActivityRetention {
        age: chrono::Duration::days(settings.messages.activity_retention_days.get().into()),
        queue_age: chrono::Duration::days(settings.messages.a2a_queue_retention_days.get().into()),
        interval: Duration::from_secs(u64::from(hours) * HOUR),
    }
}
