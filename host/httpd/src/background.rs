//! Background work of the HTTP server.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use tasks::BackgroundTask;

use crate::metrics::Metrics;
use crate::rate_limit::{FORGET_EVERY, RateLimits};

/// How often histogram samples are folded into their buckets.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// What the server has to run for its HTTP side.
#[must_use]
pub fn background_tasks(metrics: Arc<Metrics>, limits: Arc<RateLimits>) -> Vec<BackgroundTask> {
    let upkeep = BackgroundTask::interval("metrics-upkeep", METRICS_UPKEEP, move || {
        metrics.upkeep();
        ready(())
    });
    let sweep = BackgroundTask::interval("rate-limit-sweep", FORGET_EVERY, move || {
        limits.forget_idle();
        ready(())
    });
    vec![upkeep, sweep]
}
