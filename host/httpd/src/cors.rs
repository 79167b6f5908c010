//! CORS: which web origins may call the API from a browser.
//!
//! Named origins are echoed and may send cookies. `*` allows any other origin too, but never with
//! credentials: otherwise every page on the web could act for a signed-in user.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
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

    /// Does the request come from a page of an allowed origin, or of this server? That anybody may call
    /// (`*`) is not enough here.
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
        } else if self.origins.iter().any(|allowed| allowed == origin) {
            Verdict::Named
        } else if self.any {
            Verdict::Any
        } else {
            Verdict::Refused
        }
    }
}

/// Layer: refuses foreign origins, answers preflights, marks answers to allowed origins.
pub async fn answer(State(cors): State<Arc<Cors>>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        return next.run(request).await;
    };
    let preflight = *request.method() == Method::OPTIONS;
    let verdict = cors.judge(&origin, request.headers());
    let mut response = match verdict {
        Verdict::Refused => return StatusCode::FORBIDDEN.into_response(),
        _ if preflight => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    if verdict != Verdict::Own {
        allow(response.headers_mut(), origin, verdict);
        permit(response.headers_mut(), preflight);
    }
    response
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
