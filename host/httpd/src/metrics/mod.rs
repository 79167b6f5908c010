//! Metrics: the text of `/metrics`, and the series of requests.
//!
//! The text has three parts. Request series come from [`requests`], our own registry: their
//! contract wants a counter of *seconds*, and counters of the `metrics` facade are integers.
//! Series of the process are read from `/proc` on the spot ([`process`]). Everything else arrives
//! through the facade from any crate.

use std::sync::{Mutex, PoisonError};

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use self::requests::RequestSeries;
pub(crate) use self::requests::{CLIENT_LEFT, method_label};
mod process;
mod requests;

/// Upper bounds of every histogram, in seconds: from a guest call (some ten microseconds) to a
/// slow container.
const BUCKETS: [f64; 19] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The recorder behind the facade. There can be one per process; servers in one process (tests)
/// share it.
static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// All metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    facade: PrometheusHandle,
    pub(crate) requests: RequestSeries,
}

impl Metrics {
    /// Connects to the process's recorder, installing it when this is the first server.
    ///
    /// # Errors
    /// When the process has another recorder: ours would stay empty.
    pub fn new() -> Result<Self, BuildError> {
        Ok(Self { facade: recorder()?, requests: RequestSeries::default() })
    }

    /// The whole text, in Prometheus' format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        self.requests.render(&mut text);
        process::render(&mut text);
        text.push_str(&self.facade.render());
        text
    }

    /// Folds the samples of histograms into their buckets. Between scrapes samples pile up, so
    /// this has to be called every few seconds.
    pub fn upkeep(&self) {
        self.facade.run_upkeep();
    }
}

fn recorder() -> Result<PrometheusHandle, BuildError> {
    let mut installed = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    announce();
    *installed = Some(handle.clone());
    Ok(handle)
}

/// Names the series of the contract, so that they are there (at zero) before anything happens.
fn announce() {
    describe_gauge!("molecule_websocket_connections_active", "WebSocket connections open right now.");
    gauge!("molecule_websocket_connections_active").set(0.0);
    describe_counter!(
        "molecule_phantom_busy_resets_total",
        "Workspaces that reported work without doing any and were reset."
    );
    counter!("molecule_phantom_busy_resets_total").absolute(0);
    describe_counter!("isomer_rate_limited_total", "Requests refused, by the limiter that refused them.");
    describe_counter!(
        "isomer_connections_refused_total",
        "Connections and requests over the limit of their address."
    );
    describe_counter!(
        "isomer_connections_evicted_total",
        "Waiting connections that were closed to make room."
    );
    describe_counter!(
        "molecule_pending_uploads_swept_total",
        "Uploads removed from the waiting list, by outcome."
    );
    for outcome in ["acked", "expired", "error"] {
        counter!("molecule_pending_uploads_swept_total", "outcome" => outcome).absolute(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_the_facade_render_with_buckets() {
        let metrics = Metrics::new().expect("the only recorder");
        metrics::histogram!("isomer_test_seconds").record(0.000_03);
        metrics.upkeep();
        let text = metrics.render();
        for line in [
            "# TYPE isomer_test_seconds histogram",
            "isomer_test_seconds_bucket{le=\"0.000025\"} 0",
            "isomer_test_seconds_bucket{le=\"0.00005\"} 1",
            "isomer_test_seconds_bucket{le=\"10\"} 1",
            "isomer_test_seconds_bucket{le=\"+Inf\"} 1",
            "isomer_test_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn contract_series_exist_before_anything_happens() {
        let text = Metrics::new().expect("the only recorder").render();
        for line in [
            "molecule_websocket_connections_active 0",
            "molecule_phantom_busy_resets_total 0",
            "molecule_pending_uploads_swept_total{outcome=\"acked\"} 0",
            "molecule_pending_uploads_swept_total{outcome=\"expired\"} 0",
            "molecule_pending_uploads_swept_total{outcome=\"error\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }

    /// HELP and TYPE stand directly before the samples of their series, once each.
    #[test]
    fn every_series_is_introduced() {
        let metrics = Metrics::new().expect("the only recorder");
        metrics.requests.add(Some("/x"), ("GET", 200), std::time::Duration::ZERO);
        let text = metrics.render();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(help) = line.strip_prefix("# HELP ") else {
                continue;
            };
            let name = help.split(' ').next().expect("a name");
            assert!(lines[at + 1].starts_with(&format!("# TYPE {name} ")), "{line}");
            assert!(lines[at + 2].starts_with(name), "{line}");
            let helps = lines.iter().filter(|l| l.starts_with(&format!("# HELP {name} ")));
            assert_eq!(helps.count(), 1, "{line}");
        }
    }
}
