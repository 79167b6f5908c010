//! CORS: which web origins may call the API from a browser.
//!
//! Named origins are echoed and may send cookies. `*` allows any other origin too, but never with
//! credentials: otherwise every page on the web could act for a signed-in user.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::origin;
use crate::host_guard::HostGuard;
use crate::settings::HttpSettings;

/// Where the web canvas runs on a developer's machine.
const DEFAULT_ORIGINS: [&str; 2] = ["http://localhost:3000", "http://localhost:3001"];
const ALLOW_METHODS: HeaderValue = HeaderValue::from_static("GET,POST,PUT,PATCH,DELETE,OPTIONS");
const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(
    "Origin,Content-Type,X-Workspace-Id,Authorization,X-Molecule-Org-Slug,X-Molecule-Org-Id,\
     Idempotency-Key,X-Timeout",
);
const EXPOSE_HEADERS: HeaderValue =
    HeaderValue::from_static("Retry-After,X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset");
/// Characters of a refused origin that are logged.
const SHOWN_ORIGIN: usize = 200;
/// Seconds a browser may remember a preflight answer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The allowed origins, and in development mode the hosts that requests may be for.
#[derive(Debug)]
pub struct Cors {
    origins: Vec<String>,
    any: bool,
    hosts: Option<HostGuard>,
}

/// What the policy says about one `Origin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Not a cross-origin request.
    Own,
    /// Allowed by name.
    Named,
    /// Allowed by `*`.
    Any,
    Refused,
}

impl Cors {
    /// The policy of `CORS_ORIGINS`, plus the platform's own public origins, which agents send.
    #[must_use]
    pub fn new(settings: &HttpSettings, dev_mode: bool) -> Self {
        let (mut origins, any) = match &settings.cors_origins {
            Some(list) => (list.origins.clone(), list.any),
            None => (DEFAULT_ORIGINS.map(str::to_owned).to_vec(), false),
        };
        origins.extend(settings.public_origins());
        Self { origins, any, hosts: dev_mode.then(|| HostGuard::new(settings)) }
    }

    /// Whether a request is for this server, as far as that matters.
    pub(crate) fn admits_host(&self, headers: &HeaderMap) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.admits(headers))
    }

    fn judge(&self, origin: &HeaderValue, headers: &HeaderMap) -> Verdict {
        let Ok(origin) = origin.to_str() else {
            return Verdict::Refused;
        };
        if origin::is_own(origin, headers) {
            Verdict::Own
        } else if self.origins.iter().any(|allowed| origin::is_same(allowed, origin)) {
            Verdict::Named
        } else if self.any {
            Verdict::Any
        } else {
            Verdict::Refused
        }
    }
}

/// What the policy says about one request. `None`: it comes from no page.
#[derive(Debug, Clone)]
pub(crate) struct Decision(Option<CrossOrigin>);

#[derive(Debug, Clone)]
struct CrossOrigin {
    origin: HeaderValue,
    verdict: Verdict,
    preflight: bool,
}

impl Cors {
    pub(crate) fn decide(&self, request: &Request) -> Decision {
        Decision(request.headers().get(header::ORIGIN).map(|origin| CrossOrigin {
            origin: origin.clone(),
            verdict: self.judge(origin, request.headers()),
            preflight: *request.method() == Method::OPTIONS,
        }))
    }
}

impl Decision {
    /// The answer, where no route gives it: a refusal, or that to a preflight.
    pub(crate) fn answer(&self) -> Option<Response> {
        let CrossOrigin { origin, verdict, preflight } = self.0.as_ref()?;
        if *verdict == Verdict::Refused {
            log_refusal(origin);
            return Some(StatusCode::FORBIDDEN.into_response());
        }
        preflight.then(|| {
            let mut response = StatusCode::NO_CONTENT.into_response();
            self.write_headers(response.headers_mut());
            response
        })
    }

    /// Marks an answer to an allowed foreign origin.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        if let Some(CrossOrigin { origin, verdict, preflight }) = &self.0
            && matches!(verdict, Verdict::Named | Verdict::Any)
        {
            allow(headers, origin.clone(), *verdict);
            permit(headers, *preflight);
        }
    }
}

/// The answer to a refusal has no body, so that only the log tells an operator what to set.
fn log_refusal(origin: &HeaderValue) {
    let shown: String = String::from_utf8_lossy(origin.as_bytes()).chars().take(SHOWN_ORIGIN).collect();
    tracing::info!(
        origin = ?shown,
        "refused by CORS: allowed are CORS_ORIGINS, the origins of PLATFORM_URL and EXTERNAL_PLATFORM_URL, and the \
         request's own Host, which a reverse proxy may rewrite"
    );
}

/// Says who may read the answer.
fn allow(headers: &mut HeaderMap, origin: HeaderValue, verdict: Verdict) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if verdict == Verdict::Named {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    } else {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
}

/// Says what may be sent (to a preflight) or read (to anything else).
fn permit(headers: &mut HeaderMap, preflight: bool) {
    if !preflight {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
        return;
    }
    for asked in ["Access-Control-Request-Method", "Access-Control-Request-Headers"] {
        headers.append(header::VARY, HeaderValue::from_static(asked));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(list: Option<&str>, origin: &str) -> Verdict {
        let flags = list.map(|list| ["--cors-origins", list]);
        let settings = HttpSettings::from_flags(flags.into_iter().flatten()).expect("valid");
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("own.example"));
        let origin = HeaderValue::from_str(origin).expect("valid");
        Cors::new(&settings, false).judge(&origin, &headers)
    }

    #[test]
    fn origins_by_table() {
        use Verdict::{Any, Named, Own, Refused};
        let list = Some(" https://A.example ,, http://b.example:81");
        for (list, origin, expected) in [
            (None, "http://localhost:3000", Named),
            (None, "http://localhost:3001", Named),
            (None, "https://localhost:3000", Refused),
            (None, "http://localhost:3002", Refused),
            (None, "null", Refused),
            (None, "https://own.example", Own),
            (None, "http://host.docker.internal:8080", Named),
            (list, "https://a.example", Named),
            (list, "HTTPS://A.Example", Named),
            (None, "https://OWN.example", Own),
            (None, "http://Host.Docker.Internal:8080", Named),
            (list, "http://b.example:81", Named),
            (list, "http://b.example", Refused),
            (list, "https://x.a.example", Refused),
            (list, "http://localhost:3000", Refused),
            (list, "http://host.docker.internal:8080", Named),
            (list, "https://a.example:443", Named),
            (Some("https://a.example:443/"), "https://a.example", Named),
            (Some("*,https://a.example"), "https://a.example", Named),
            (Some("*,https://a.example"), "https://evil.example", Any),
        ] {
            assert_eq!(verdict(list, origin), expected, "{list:?} {origin}");
        }
    }

    #[test]
    fn the_origins_of_both_public_urls_are_always_allowed() {
        let flags = [
            "--cors-origins",
            "https://a.example",
            "--platform-url",
            "http://Inside.example:8080/base",
            "--external-platform-url",
            "https://Outside.example:443/",
        ];
        let cors = Cors::new(&HttpSettings::from_flags(flags).expect("valid"), false);
        for (origin, expected) in [
            ("http://inside.example:8080", Verdict::Named),
            ("https://outside.example", Verdict::Named),
            ("HTTPS://OUTSIDE.example:443", Verdict::Named),
            ("http://outside.example", Verdict::Refused),
            ("http://localhost:3000", Verdict::Refused),
        ] {
            let value = HeaderValue::from_static(origin);
            assert_eq!(cors.judge(&value, &HeaderMap::new()), expected, "{origin}");
        }
    }

    #[test]
    fn entries_that_no_origin_can_match_are_refused() {
        for list in ["https://*.example", "https://a.example, a.example", "null", "https://a.example/app"] {
            let refused = HttpSettings::from_flags(["--cors-origins", list]).expect_err(list).to_string();
            assert!(refused.contains("is not an origin such as"), "{refused}");
        }
    }
}
