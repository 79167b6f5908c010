//! What the server does in the background: one list, all of it supervised.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use api::app::App;
use catalog::{Catalog, Folder};
use fleet::Fleet;
use httpd::rate_limit::FORGET_EVERY;
use tasks::{BackgroundTask, Progress, retry_forever};
use tokio::time::sleep;

use crate::settings::Settings;

/// How often histogram samples are folded into their buckets.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// How often counters of guests are written to the store.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(10);
/// Within this time each loop of the fleet reports progress.
const FLEET_INTERVAL: Duration = Duration::from_secs(2);
/// How often events that are too old are deleted.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3_600);
/// Seconds in an hour.
const HOUR: u64 = 3_600;

/// Starts all background tasks. `folder`: the watched directory of guests, if there is one.
pub fn start(app: &App, settings: &Settings, folder: Option<Folder>) {
    let tasks = &app.tasks;
    tasks.spawn_all(httpd(app));
    tasks.spawn_all(guests(&app.catalog, folder));
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

fn guests(catalog: &Catalog, folder: Option<Folder>) -> Vec<BackgroundTask> {
    let counted = catalog.clone();
    let mut tasks = vec![BackgroundTask::interval("guest-counters", COUNTERS_INTERVAL, move || {
        let catalog = counted.clone();
        async move { catalog.store_counters().await }
    })];
    tasks.extend(folder.map(|folder| watch(folder, catalog.clone())));
    tasks
}

/// After a panic the directory is read anew: events of the first watch may be lost.
fn watch(folder: Folder, catalog: Catalog) -> BackgroundTask {
    let directory = folder.directory().to_owned();
    let mut first = Some(folder);
    BackgroundTask::new("guests-folder", Folder::TURN, move |progress| {
        let (first, directory, catalog) = (first.take(), directory.clone(), catalog.clone());
        async move {
            let folder = match first {
                Some(folder) => folder,
                None => watch_again(&directory, &progress).await,
            };
            folder.run(&catalog, || progress.report()).await;
        }
    })
}

async fn watch_again(directory: &std::path::Path, progress: &Progress) -> Folder {
    loop {
        match Folder::watch(directory) {
            Ok(folder) => return folder,
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "trying again"),
        }
        sleep(Folder::TURN).await;
        progress.report();
    }
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
        async move { retry_forever("broadcaster", || fleet.follow(|| progress.report())).await }
    });
    let published = fleet.clone();
    let live_events = BackgroundTask::new("live-events", FLEET_INTERVAL, move |progress| {
        let fleet = published.clone();
        async move { fleet.send_live(|| progress.report()).await }
    });
    let (swept, days) = (fleet.clone(), settings.storage.event_retention_days.get());
    let event_retention = BackgroundTask::interval("event-retention", RETENTION_INTERVAL, move || {
        let fleet = swept.clone();
        async move { fleet.forget_events(chrono::Duration::days(days.into())).await }
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
