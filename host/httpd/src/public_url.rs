//! This server's address as clients reach it: by setting, else as the request came.
//!
//! `X-Forwarded-Proto` and `-Host` are believed from every client: the address is only shown, and only to
//! the client that sent them.

use http::{HeaderMap, HeaderName, Uri, header};

use super::headers::text;

/// `scheme://host[:port]`, without a slash at the end.
#[must_use]
pub fn public_url(setting: Option<&Uri>, headers: &HeaderMap) -> String {
    if let Some(url) = setting {
        return url.to_string().trim_end_matches('/').to_owned();
    }
    let forwarded = |name| text(headers, HeaderName::from_static(name)).and_then(first);
    let scheme = forwarded("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or("http");
    let host = forwarded("x-forwarded-host").or_else(|| text(headers, header::HOST));
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

/// The first entry of a list that proxies append to.
fn first(list: &str) -> Option<&str> {
    list.split(',').next().map(str::trim).filter(|first| !first.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn url(setting: Option<&str>, headers: &[(&'static str, &'static str)]) -> String {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        public_url(setting.map(|url| url.parse().expect("valid")).as_ref(), &headers)
    }

    #[test]
    fn addresses_by_table() {
        let host = ("host", "a.example:81");
        assert_eq!(url(None, &[host]), "http://a.example:81");
        assert_eq!(url(None, &[host, ("x-forwarded-proto", "https")]), "https://a.example:81");
        assert_eq!(url(None, &[host, ("x-forwarded-host", "b.example, c")]), "http://b.example");
        assert_eq!(url(None, &[host, ("x-forwarded-proto", "javascript")]), "http://a.example:81");
        assert_eq!(url(Some("https://p.example/"), &[host]), "https://p.example");
        assert_eq!(url(None, &[]), "http://localhost");
    }
}
