//! In development mode, requests need no credential. So that no web page sends them to this server under a name of
//! its own (DNS rebinding: the name first leads to the page's server, then to 127.0.0.1), only names that no stranger
//! can own are answered.

use std::net::IpAddr;

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};

use crate::error::ApiError;
use crate::headers::text;
use crate::settings::HttpSettings;

/// Where containers find the machine that they run on.
const CONTAINER_HOST: &str = "host.docker.internal";

/// Hosts that requests may be for.
#[derive(Debug)]
pub(crate) struct HostGuard {
    /// Hosts of the public URLs.
    public: Vec<String>,
}

impl HostGuard {
    pub(crate) fn new(settings: &HttpSettings) -> Self {
        let urls = [&settings.platform_url, &settings.external_platform_url];
        Self { public: urls.into_iter().flatten().filter_map(|url| url.host().map(str::to_owned)).collect() }
    }

    /// Whether the request is for this server. One without `Host` comes from no browser.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        match headers.get(header::HOST) {
            None => true,
            Some(_) => text(headers, header::HOST).is_some_and(|host| self.is_ours(host)),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = without_port(host);
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let address = name.trim_start_matches('[').trim_end_matches(']');
        is("localhost")
            || is(CONTAINER_HOST)
            || address.parse::<IpAddr>().is_ok()
            || name.to_ascii_lowercase().ends_with(".localhost")
            || self.public.iter().any(|host| is(host))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

/// The answer to a request for another host.
pub(crate) fn misdirected() -> Response {
    let text = "this server is in development mode and doesn't answer under this name: use localhost, or set \
                EXTERNAL_PLATFORM_URL to a URL with this name";
    tracing::info!("refused: the request's Host is no name of this server (development mode)");
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_by_table() {
        let flags =
            ["--platform-url", "http://isomer:8080", "--external-platform-url", "https://Isomer.Example"];
        let guard = HostGuard::new(&HttpSettings::from_flags(flags).expect("valid"));
        for (host, ours) in [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("a.localhost:1", true),
            ("127.0.0.1:8080", true),
            ("192.168.1.5", true),
            ("[::1]:8080", true),
            ("[2001:db8::1]", true),
            ("host.docker.internal:8080", true),
            ("isomer:8080", true),
            ("isomer.example", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            (":80", false),
        ] {
            assert_eq!(guard.is_ours(host), ours, "{host}");
        }
    }
}
