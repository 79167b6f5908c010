//! What the server does in the background: one list, all of it supervised.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use api::app::App;
use catalog::GuestWatcher;
use fleet::Fleet;
use httpd::rate_limit::FORGET_EVERY;
use tasks::{BackgroundTask, retry_forever};
use tokio::time::sleep;

use crate::settings::Settings;

/// How often histogram samples are folded into their buckets.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// Within this time each loop of the fleet reports progress.
const FLEET_INTERVAL: Duration = Duration::from_secs(2);
/// How often events that are too old are deleted.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3_600);
/// Seconds in an hour.
const HOUR: u64 = 3_600;

/// Starts all background tasks. `watcher`: watches the directory of guests, if there is one.
pub fn start(app: &App, settings: &Settings, watcher: Option<GuestWatcher>) {
    let tasks = &app.tasks;
    tasks.spawn_all(httpd(app));
    tasks.spawn_all(app.catalog.background_tasks(app.fleet.hub(), watcher));
    tasks.spawn_all(fleet(&app.fleet, settings));
    tasks.spawn_all(app.messaging.background_tasks());
}

fn httpd(app: &App) -> [BackgroundTask; 2] {
    let metrics = Arc::clone(&app.metrics);
    let limits = Arc::clone(&app.limits);
    [
        BackgroundTask::interval("metrics-upkeep", METRICS_UPKEEP, move || {
            metrics.upkeep();
            ready(())
        }),
        BackgroundTask::interval("rate-limit-sweep", FORGET_EVERY, move || {
            limits.forget_idle();
            ready(())
        }),
    ]
}

/// A task of the fleet that ends with an error is started again.
fn fleet(fleet: &Fleet, settings: &Settings) -> Vec<BackgroundTask> {
    let reconciled = fleet.clone();
    let reconciler = BackgroundTask::new("reconciler", FLEET_INTERVAL, move |progress| {
        let fleet = reconciled.clone();
        async move { retry_forever("reconciler", || fleet.reconcile(|| progress.report())).await }
    });
    let followed = fleet.clone();
    let broadcaster = BackgroundTask::new("broadcaster", FLEET_INTERVAL, move |progress| {
        let fleet = followed.clone();
        async move { retry_forever("broadcaster", || fleet.state().follow(|| progress.report())).await }
    });
    let published = fleet.clone();
    let live_events = BackgroundTask::new("live-events", FLEET_INTERVAL, move |progress| {
        let fleet = published.clone();
        async move { fleet.state().send_ephemeral(|| progress.report()).await }
    });
    let (swept, days) = (fleet.clone(), settings.storage.event_retention_days.get());
    let event_retention = BackgroundTask::interval("event-retention", RETENTION_INTERVAL, move || {
        let fleet = swept.clone();
        async move { fleet.state().delete_old_events(chrono::Duration::days(days.into())).await }
    });
    vec![reconciler, broadcaster, live_events, event_retention, activity_retention(fleet, settings)]
}

fn activity_retention(fleet: &Fleet, settings: &Settings) -> BackgroundTask {
    let days = chrono::Duration::days(settings.messages.activity_retention_days.get().into());
    let interval =
        Duration::from_secs(u64::from(settings.messages.activity_cleanup_interval_hours.get()) * HOUR);
    let swept = fleet.clone();
    BackgroundTask::new("activity-retention", interval, move |progress| {
        let fleet = swept.clone();
        async move {
            loop {
                // Waits first: a start has more urgent things to write.
                progress.report();
                sleep(interval).await;
                fleet.forget_activity(days).await;
            }
        }
    })
}
