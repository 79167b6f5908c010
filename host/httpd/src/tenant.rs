//! The tenant guard: a server that belongs to one organization answers 404 to requests meant for
//! another.
//!
//! This is routing and not authentication (every header here can be forged); the route's auth
//! class still applies. The 404 has no body, so that it says nothing about tenants.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, StatusCode};

use super::headers::text;
use super::origin;
use crate::settings::HttpSettings;

const ORG_ID: HeaderName = HeaderName::from_static("x-molecule-org-id");
const REPLAY_SOURCE: HeaderName = HeaderName::from_static("fly-replay-src");

/// Paths that have to work before the edge knows the tenant. Exact, nothing below them.
const EXEMPT: [&str; 6] =
    ["/health", "/healthz", "/buildinfo", "/metrics", "/registry/register", "/registry/heartbeat"];

/// Which organization's requests are served.
#[derive(Debug)]
pub(crate) struct TenantGuard {
    /// `None`: those of all organizations.
    org_id: Option<String>,
    /// Whether the web canvas is served from this server's own origin.
    canvas_here: bool,
}

impl TenantGuard {
    /// The guard of `MOLECULE_ORG_ID`.
    #[must_use]
    pub(crate) fn new(settings: &HttpSettings) -> Self {
        Self {
            org_id: settings.org_id().map(ToOwned::to_owned),
            canvas_here: settings.canvas_proxy_url.is_some(),
        }
    }

    pub(crate) fn admits(&self, path: &str, headers: &HeaderMap) -> bool {
        let Some(org_id) = self.org_id.as_deref() else {
            return true;
        };
        EXEMPT.contains(&path)
            || path.starts_with("/cp/")
            || text(headers, ORG_ID) == Some(org_id)
            || replayed_for(headers) == Some(org_id)
            || (self.canvas_here && origin::is_same_origin(headers))
    }
}

/// The `state` of a `Fly-Replay-Src` header: `instance=…;region=…;state=…`.
fn replayed_for(headers: &HeaderMap) -> Option<&str> {
    text(headers, REPLAY_SOURCE)?
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim() == "state")
        .map(|(_, value)| value.trim())
}

/// The answer to requests that the guard does not admit.
pub(crate) fn not_found() -> Response {
    StatusCode::NOT_FOUND.into_response()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn admits(flags: &[&str], path: &str, header: Option<(&'static str, &'static str)>) -> bool {
        let settings = HttpSettings::from_flags(flags.iter().copied()).expect("valid");
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("own.example"));
        if let Some((name, value)) = header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        TenantGuard::new(&settings).admits(path, &headers)
    }

    #[test]
    fn admission_by_table() {
        let guarded = ["--molecule-org-id", " org-1 "];
        for (path, header, expected) in [
            ("/workspaces", None, false),
            ("/no/such/route", None, false),
            ("/health", None, true),
            ("/healthz", None, true),
            ("/buildinfo", None, true),
            ("/metrics", None, true),
            ("/registry/register", None, true),
            ("/registry/heartbeat", None, true),
            ("/health/x", None, false),
            ("/health/", None, false),
            ("/registry/update-card", None, false),
            ("/cp/auth/me", None, true),
            ("/cp", None, false),
            ("/x", Some(("x-molecule-org-id", "org-1")), true),
            ("/x", Some(("x-molecule-org-id", "ORG-1")), false),
            ("/x", Some(("x-molecule-org-id", "org-12")), false),
            ("/x", Some(("fly-replay-src", "instance=a; state = org-1 ;t=1")), true),
            ("/x", Some(("fly-replay-src", "state=org-2")), false),
            ("/x", Some(("fly-replay-src", "org-1")), false),
            ("/x", Some(("origin", "https://own.example")), false),
        ] {
            assert_eq!(admits(&guarded, path, header), expected, "{path} {header:?}");
        }
    }

    #[test]
    fn without_an_org_everything_passes() {
        assert!(admits(&[], "/x", None));
    }

    #[test]
    fn a_canvas_of_this_origin_passes_when_there_is_one() {
        let flags = ["--molecule-org-id", "o", "--canvas-proxy-url", "http://c"];
        assert!(admits(&flags, "/x", Some(("origin", "https://own.example"))));
        assert!(admits(&flags, "/x", Some(("referer", "http://own.example/a"))));
        assert!(!admits(&flags, "/x", Some(("origin", "https://other.example"))));
    }
}
