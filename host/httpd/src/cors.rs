//! CORS: which web origins may call the API from a browser.
//!
//! Named origins are echoed and may send cookies. `*` allows any other origin too, but never with
//! credentials: otherwise every page on the web could act for a signed-in user.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::origin;
use crate::settings::HttpSettings;

/// Where the web canvas runs on a developer's machine.
const DEFAULT_ORIGINS: &str = "http://localhost:3000,http://localhost:3001";
const ALLOW_METHODS: HeaderValue = HeaderValue::from_static("GET,POST,PUT,PATCH,DELETE,OPTIONS");
const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(
    "Origin,Content-Type,X-Workspace-Id,Authorization,X-Molecule-Org-Slug,X-Molecule-Org-Id,\
     Idempotency-Key,X-Timeout",
);
const EXPOSE_HEADERS: HeaderValue =
    HeaderValue::from_static("Retry-After,X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset");
/// Seconds a browser may remember a preflight answer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The allowed origins.
#[derive(Debug)]
pub struct Cors {
    origins: Vec<String>,
    any: bool,
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
    /// The policy of `CORS_ORIGINS`, plus the platform's own public origin, which agents send.
    #[must_use]
    pub fn new(settings: &HttpSettings) -> Self {
        let list = settings.cors_origins.as_deref().unwrap_or(DEFAULT_ORIGINS);
        let mut origins: Vec<String> = list
            .split(',')
            .map(|origin| origin.trim().to_lowercase())
            .filter(|origin| !origin.is_empty())
            .collect();
        let any = origins.iter().any(|origin| origin == "*");
        origins.push(settings.platform_origin());
        Self { origins, any }
    }

    /// Does the request come from a page of an allowed origin, or of this server? An origin that only
    /// `*` allows does not count.
    #[must_use]
    pub fn names(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN);
        origin.is_some_and(|origin| matches!(self.judge(origin, headers), Verdict::Own | Verdict::Named))
    }

    fn judge(&self, origin: &HeaderValue, headers: &HeaderMap) -> Verdict {
        let Ok(origin) = origin.to_str() else {
            return Verdict::Refused;
        };
        if origin::is_own(origin, headers) {
            Verdict::Own
        } else if self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
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
        let CrossOrigin { verdict, preflight, .. } = self.0.as_ref()?;
        if *verdict == Verdict::Refused {
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
        Cors::new(&settings).judge(&origin, &headers)
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
            (Some("https://*.example"), "https://a.example", Refused),
            (Some("*,https://a.example"), "https://a.example", Named),
            (Some("*,https://a.example"), "https://evil.example", Any),
        ] {
            assert_eq!(verdict(list, origin), expected, "{list:?} {origin}");
        }
    }
}
