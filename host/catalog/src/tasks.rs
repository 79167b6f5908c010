//! The catalog's background work.

use std::{collections::BTreeSet, path::Path, time::Duration};

use events::Hub;
use tasks::{BackgroundTask, Progress};
use tokio::time::sleep;

use crate::{Catalog, GuestWatcher, audit, replication::POLL_INTERVAL};

/// How often counters of guests are written to the database.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(10);

/// How often refused releases beyond what is kept, and components without a release, are looked for. One of these is
/// deleted when it is found twice.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// When it is looked for first: a start has other work, and a server that starts again and again deletes nothing.
const FIRST_SWEEP: Duration = Duration::from_secs(5 * 60);

/// Within this time the guests of a start are compiled.
const PREPARATION_INTERVAL: Duration = Duration::from_secs(120);

impl Catalog {
    /// The catalog's background work. `hub` publishes the changes of other servers; `watcher` watches
    /// the directory of guests, if there is one.
    #[must_use]
    pub fn background_tasks(&self, hub: &Hub, watcher: Option<GuestWatcher>) -> Vec<BackgroundTask> {
        let mut tasks = vec![
            self.audit(),
            self.preparation(),
            self.replication(hub.clone()),
            self.counters(),
            self.component_sweep(),
        ];
        tasks.extend(watcher.map(|watcher| self.watch(watcher)));
        tasks
    }

    fn audit(&self) -> BackgroundTask {
        let feed = self.inner.changes_feed.clone();
        // From now on: a push may come before the task runs.
        let mut first = Some(feed.subscribe());
        BackgroundTask::new("guest-audit", audit::TICK, move |progress| {
            let changes = first.take().unwrap_or_else(|| feed.subscribe());
            async move { audit::follow(changes, || progress.report()).await }
        })
    }

    fn preparation(&self) -> BackgroundTask {
        let catalog = self.clone();
        BackgroundTask::new("guest-preparation", PREPARATION_INTERVAL, move |_| {
            let catalog = catalog.clone();
            async move { catalog.prepare_all().await }
        })
    }

    fn replication(&self, hub: Hub) -> BackgroundTask {
        let catalog = self.clone();
        BackgroundTask::new("guest-replication", POLL_INTERVAL, move |progress| {
            let (catalog, hub) = (catalog.clone(), hub.clone());
            async move { catalog.replicate(&hub, || progress.report()).await }
        })
    }

    fn counters(&self) -> BackgroundTask {
        let catalog = self.clone();
        BackgroundTask::interval("guest-counters", COUNTERS_INTERVAL, move || {
            let catalog = catalog.clone();
            async move { catalog.store_counters().await }
        })
    }

    fn component_sweep(&self) -> BackgroundTask {
        let catalog = self.clone();
        BackgroundTask::new("guest-component-sweep", SWEEP_INTERVAL, move |progress| {
            let catalog = catalog.clone();
            async move {
                let mut orphaned = BTreeSet::new();
                progress.report();
                sleep(FIRST_SWEEP).await;
                loop {
                    catalog.prune_refused(None).await;
                    catalog.sweep_compiled().await;
                    match catalog.sweep_components(&orphaned).await {
                        Ok(found) => orphaned = found,
                        Err(error) => {
                            let error = &error as &dyn std::error::Error;
                            tracing::warn!(error, "components without a release could not be deleted");
                        }
                    }
                    progress.report();
                    sleep(SWEEP_INTERVAL).await;
                }
            }
        })
    }

    /// After a panic the directory is read anew: events of the first watch may be lost.
    fn watch(&self, watcher: GuestWatcher) -> BackgroundTask {
        let (catalog, directory) = (self.clone(), watcher.directory().to_owned());
        let mut first = Some(watcher);
        BackgroundTask::new("guests-folder", GuestWatcher::TICK, move |progress| {
            let (first, directory, catalog) = (first.take(), directory.clone(), catalog.clone());
            async move {
                let watcher = match first {
                    Some(watcher) => watcher,
                    None => watch_again(&directory, &progress).await,
                };
                let report = |problem: Option<&str>| match problem {
                    None => progress.report(),
                    Some(problem) => progress.report_problem(problem),
                };
                watcher.run(&catalog, report).await;
            }
        })
    }
}

async fn watch_again(directory: &Path, progress: &Progress) -> GuestWatcher {
    loop {
        match GuestWatcher::watch(directory) {
            Ok(watcher) => return watcher,
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "trying again"),
        }
        sleep(GuestWatcher::TICK).await;
        progress.report();
    }
}
