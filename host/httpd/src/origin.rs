//! Where a browser says a request comes from. Used by CORS and by the same-origin canvas rule.

use http::{HeaderMap, Uri, header, uri::Authority};

use super::headers::text;

/// Default ports, which an origin may name or leave out.
const DEFAULT_PORTS: [(&str, &str); 2] = [("http://", ":80"), ("https://", ":443")];

/// Whether an `Origin` value is this server itself: `http://<Host>` or `https://<Host>`.
pub(crate) fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    below_own(without_default_port(origin), headers) == Some("")
}

/// Whether two origins are the same. Neither case nor a default port makes a difference.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    without_default_port(one).eq_ignore_ascii_case(without_default_port(other))
}

fn without_default_port(origin: &str) -> &str {
    let default = DEFAULT_PORTS.iter().find(|(scheme, _)| without_prefix(origin, scheme).is_some());
    default.and_then(|(_, port)| origin.strip_suffix(port)).unwrap_or(origin)
}

/// The origin that a text is: `scheme://host[:port]`. A slash at its end is dropped.
pub(crate) fn parse(text: &str) -> Option<&str> {
    let origin = text.strip_suffix('/').unwrap_or(text);
    let uri: Uri = origin.parse().ok()?;
    let authority = uri.authority()?;
    let complete = uri.scheme().is_some() && uri.path() == "/" && uri.query().is_none();
    let plain = !authority.host().is_empty()
        && !authority.as_str().contains(['@', '*'])
        && has_valid_port(authority)
        && !text.contains('#');
    (complete && plain && !origin.ends_with('/')).then_some(origin)
}

/// Whether the port is one to connect to. `Uri` accepts any digits.
pub(crate) fn has_valid_port(authority: &Authority) -> bool {
    let after_host =
        authority.as_str().rsplit('@').next().and_then(|rest| rest.strip_prefix(authority.host()));
    match after_host.map(|rest| rest.strip_prefix(':').unwrap_or(rest)) {
        Some("") => !authority.as_str().ends_with(':'),
        Some(port) => port.parse::<u16>().is_ok_and(|port| port != 0),
        None => false,
    }
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
    let (after_scheme, port) =
        DEFAULT_PORTS.iter().find_map(|(scheme, port)| Some((without_prefix(address, scheme)?, *port)))?;
    // The header may name the default port, where the address leaves it out.
    without_prefix(after_scheme, host).or_else(|| without_prefix(after_scheme, host.strip_suffix(port)?))
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
        assert!(same("a.example", ORIGIN, "https://a.example:443"));
        assert!(same("a.example:80", ORIGIN, "http://a.example"));
        assert!(!same("a.example:80", ORIGIN, "https://a.example"));
        assert!(!same("a.example", ORIGIN, "http://a.example:443"));
        assert!(same("a.example:443", REFERER, "https://a.example/x"));
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

    #[test]
    fn origins_have_no_case_and_may_name_the_default_port() {
        for (one, other, same) in [
            ("https://a.example", "HTTPS://A.Example:443", true),
            ("http://a.example:80", "http://a.example", true),
            ("http://[::1]:80", "http://[::1]", true),
            ("http://a.example:443", "http://a.example", false),
            ("http://a.example", "https://a.example", false),
            ("https://a.example:4430", "https://a.example", false),
        ] {
            assert_eq!(is_same(one, other), same, "{one} {other}");
        }
    }

    #[test]
    fn only_origins_are_read_as_origins() {
        for origin in ["https://a.example", "http://a.example:81", "http://[::1]:80", "capacitor://localhost"]
        {
            assert_eq!(parse(origin), Some(origin));
        }
        assert_eq!(parse("https://a.example/"), Some("https://a.example"));
        for other in [
            "",
            "null",
            "a.example",
            "a.example:81",
            "https://",
            "https://*.example",
            "https://a.example/x",
            "https://a.example//",
            "https://a.example?x",
            "https://u@a.example",
            ":80",
            "http://:80",
            "http://a.example:",
            "http://a.example:99999",
            "https://a.example#x",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
