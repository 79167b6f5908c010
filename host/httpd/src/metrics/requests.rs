//! Request counters by method, route pattern and status.
//!
//! A series is created at the first answer with its labels and lives as long as the process; the
//! labels are bounded by the routes there are, the methods HTTP knows and the statuses we give.
//! Counting an answer in an existing series takes a shared lock, two lookups and two atomic adds.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use http::Method;

/// `path` label of requests that no route answers.
const UNMATCHED: &str = "unmatched";
/// `status` label of requests whose client left before there was an answer.
pub(crate) const CLIENT_LEFT: u16 = 499;

/// Labels besides the path. The method is one of a fixed set, see [`method_label`].
type MethodAndStatus = (&'static str, u16);

/// All request series of one server.
#[derive(Debug, Default)]
pub(crate) struct RequestSeries {
    by_route: RwLock<HashMap<Box<str>, HashMap<MethodAndStatus, Series>>>,
}

#[derive(Debug, Default)]
struct Series {
    answers: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Series {
    fn add(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Exact to the nanosecond, as a float would not be after some months.
    fn seconds(&self) -> String {
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
        format!("{}.{:09}", sum.as_secs(), sum.subsec_nanos())
    }
}

impl RequestSeries {
    /// Counts an answer. `route`: its pattern, `None` where the answer came from no route.
    pub(crate) fn add(&self, route: Option<&str>, labels: MethodAndStatus, took: Duration) {
        let route = route.unwrap_or(UNMATCHED);
        let by_route = self.by_route.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = by_route.get(route).and_then(|known| known.get(&labels)) {
            return series.add(took);
        }
        drop(by_route);
        let mut by_route = self.by_route.write().unwrap_or_else(PoisonError::into_inner);
        let known = by_route.entry(route.into()).or_default();
        known.entry(labels).or_default().add(took);
    }

    /// Appends both families, sorted by labels.
    pub(super) fn render(&self, text: &mut String) {
        let by_route = self.by_route.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<(String, &Series)> = by_route
            .iter()
            .flat_map(|(route, known)| {
                let path = label_of(route);
                known.iter().map(move |((method, status), series)| {
                    let labels = format!(r#"method="{method}",path="{path}",status="{status}""#);
                    (labels, series)
                })
            })
            .collect();
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        family(text, "molecule_http_requests_total", "Requests answered.");
        for (labels, series) in &rows {
            let answers = series.answers.load(Ordering::Relaxed);
            let _ = writeln!(text, "molecule_http_requests_total{{{labels}}} {answers}");
        }
        let name = "molecule_http_request_duration_seconds_total";
        family(text, name, "Seconds spent until the head of the answer, summed up.");
        for (labels, series) in &rows {
            let _ = writeln!(text, "{name}{{{labels}}} {}", series.seconds());
        }
        text.push('\n');
    }
}

fn family(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
}

/// Clients may invent methods; their names must not become labels.
pub(crate) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// `/workspaces/{id}/files/{*path}` as dashboards know it: `/workspaces/:id/files/*path`.
fn label_of(route: &str) -> String {
    route.replace("{*", "*").replace('{', ":").replace('}', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(series: &RequestSeries) -> String {
        let mut text = String::new();
        series.render(&mut text);
        text
    }

    #[test]
    fn labels_name_the_pattern() {
        assert_eq!(label_of("/workspaces/{id}/files/{*path}"), "/workspaces/:id/files/*path");
        assert_eq!(label_of(UNMATCHED), UNMATCHED);
    }

    #[test]
    fn answers_add_up_per_label_set() {
        let series = RequestSeries::default();
        for status in [200, 200, 404] {
            series.add(Some("/a/{id}"), ("GET", status), Duration::ZERO);
        }
        series.add(None, ("POST", 404), Duration::ZERO);
        let text = render(&series);
        for line in [
            r#"molecule_http_requests_total{method="GET",path="/a/:id",status="200"} 2"#,
            r#"molecule_http_requests_total{method="GET",path="/a/:id",status="404"} 1"#,
            r#"molecule_http_requests_total{method="POST",path="unmatched",status="404"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn durations_are_sums_of_seconds() {
        let series = RequestSeries::default();
        series.add(Some("/a"), ("GET", 200), Duration::from_millis(1500));
        series.add(Some("/a"), ("GET", 200), Duration::from_micros(250));
        let line = r#"molecule_http_request_duration_seconds_total{method="GET",path="/a",status="200"} 1.500250000"#;
        let text = render(&series);
        assert!(text.lines().any(|l| l == line), "{text}");
    }

    #[test]
    fn invented_methods_share_one_label() {
        let method = Method::from_bytes(b"BREW").expect("a valid method");
        assert_eq!(method_label(&method), "OTHER");
    }
}
