//! Where a browser says a request comes from. Used by CORS and by the same-origin canvas rule.

use http::{HeaderMap, header};

use super::headers::text;

/// Whether an `Origin` value is this server itself: `http://<Host>` or `https://<Host>`.
pub(crate) fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    below_own(origin, headers) == Some("")
}

/// Whether the request comes from a page of this server's own origin, by `Origin` or `Referer`.
/// Any client can forge both: this routes requests, it proves nothing.
pub(crate) fn is_same_origin(headers: &HeaderMap) -> bool {
    let by_origin = text(headers, header::ORIGIN).is_some_and(|origin| is_own(origin, headers));
    let by_referer = text(headers, header::REFERER)
        .and_then(|referer| below_own(referer, headers))
        .is_some_and(|path| path.is_empty() || path.starts_with('/'));
    by_origin || by_referer
}

/// What follows `http(s)://<Host>` in `address`.
fn below_own<'a>(address: &'a str, headers: &HeaderMap) -> Option<&'a str> {
    let host = text(headers, header::HOST).filter(|host| !host.is_empty())?;
    let after_scheme = without_prefix(address, "http://").or_else(|| without_prefix(address, "https://"))?;
    without_prefix(after_scheme, host)
}

/// What follows `prefix`. Schemes and hosts have no case.
fn without_prefix<'a>(address: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = address.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn same(host: &str, name: HeaderName, value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).expect("valid"));
        headers.insert(name, HeaderValue::from_static(value));
        is_same_origin(&headers)
    }

    #[test]
    fn own_pages_by_table() {
        use header::{ORIGIN, REFERER};
        assert!(same("a.example", ORIGIN, "http://a.example"));
        assert!(same("a.example", ORIGIN, "https://a.example"));
        assert!(same("A.example", ORIGIN, "HTTPS://a.EXAMPLE"));
        assert!(!same("a.example", ORIGIN, "https://a.example/"));
        assert!(!same("a.example", ORIGIN, "https://a.example.evil"));
        assert!(!same("a.example", ORIGIN, "ftp://a.example"));
        assert!(!same("", ORIGIN, "https://"));
        assert!(same("a.example", REFERER, "https://a.example"));
        assert!(same("a.example", REFERER, "http://a.example/orgs?x=1"));
        assert!(!same("a.example", REFERER, "http://a.example.evil/"));
        assert!(!same("a.example", REFERER, "http://a.example:81/"));
        assert!(!same("", REFERER, "http:///x"));
    }
}
