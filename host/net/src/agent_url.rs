//! URLs under which agents are called.
//!
//! A host name is allowed only if every address behind it is. What a name resolves to may change, so the
//! check at registration is repeated when a connection is opened.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use types::clip;
use url::{Host, ParseError, Url};

use crate::{
    limits::RESOLVE_TIMEOUT,
    policy::{AddressPolicy, remedy},
};

/// Bytes that an error repeats of a URL: the longest host name.
const SHOWN_BYTES: usize = 255;

/// What is wrong with an agent's URL. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The URL is empty.
    #[error("url is required")]
    Missing,
    /// The text can't be read as a URL.
    #[error("url is not valid")]
    Malformed,
    /// The scheme is another one than HTTP's two.
    #[error("url scheme must be http or https, got \"{0}\"")]
    Scheme(String),
    /// The URL has a user name or a password.
    #[error("url must not contain a user name or password: whoever may see the workspace may see them")]
    UserInfo,
    /// The host is an address in a blocked range.
    #[error("url targets a blocked address: {0}")]
    Blocked(&'static str),
    /// The host name has no address.
    #[error("hostname \"{host}\" cannot be resolved (DNS error): {reason}")]
    Unresolved {
        /// The host name.
        host: String,
        /// Not the resolver's text, which exposes details of the network.
        reason: &'static str,
    },
    /// The host name has an address in a blocked range.
    #[error("hostname \"{host}\" resolves to forbidden address: {label}")]
    Forbidden {
        /// The host name.
        host: String,
        /// Name of the range.
        label: &'static str,
    },
    /// The URL leads to the platform itself.
    #[error("url is an address of the platform itself, not of an agent")]
    Own,
}

impl UrlError {
    /// What to do about it, where the text doesn't say so.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Blocked(label) | Self::Forbidden { label, .. } => remedy(label),
            Self::Own => Some(
                "register the URL under which the agent itself listens; \
                 an agent without one registers with delivery_mode poll",
            ),
            Self::Unresolved { .. } => Some("check the host name, or register the agent by its IP address"),
            Self::Missing | Self::Malformed | Self::Scheme(_) | Self::UserInfo => None,
        }
    }
}

/// Checks a URL that an agent reports, and resolves its host if that is a name. `localhost` passes: whether
/// loopback may be called is decided when a connection is opened. Returns the addresses, as far as they are
/// known.
pub(crate) async fn check(url: &Url, policy: AddressPolicy) -> Result<Vec<IpAddr>, UrlError> {
    check_with(url, policy, ips).await
}

/// The addresses behind a name.
pub(crate) async fn ips(host: &str, port: u16) -> Result<Vec<IpAddr>, io::ErrorKind> {
    Ok(lookup(host, port).await?.into_iter().map(|address| address.ip()).collect())
}

/// The same by a resolver of the caller's.
pub(crate) async fn check_with(
    url: &Url,
    policy: AddressPolicy,
    resolve: impl AsyncFnOnce(&str, u16) -> Result<Vec<IpAddr>, io::ErrorKind>,
) -> Result<Vec<IpAddr>, UrlError> {
    let policy = policy.of_registration();
    let literal = match url.host() {
        Some(Host::Domain("localhost")) => {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        Some(Host::Domain(name)) => {
            let port = url.port_or_known_default().unwrap_or_default();
            let found = resolve(name, port).await;
            check_resolved(name, found.clone(), |ip| policy.block_reason(ip))?;
            return Ok(found.unwrap_or_default());
        }
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        None => return Err(UrlError::Malformed),
    };
    policy.block_reason(literal).map_or(Ok(vec![literal]), |label| Err(UrlError::Blocked(label)))
}

/// Addresses to connect to now. Fails if there is none, or one of them is blocked.
pub(crate) async fn resolve(url: &Url, policy: AddressPolicy) -> Result<Vec<SocketAddr>, UrlError> {
    let port = url.port_or_known_default().unwrap_or_default();
    let literal = match url.host() {
        Some(Host::Domain(name)) => {
            let found = lookup(name, port).await;
            let ips = found.as_ref().map(|found| found.iter().map(SocketAddr::ip).collect());
            check_resolved(name, ips.map_err(|kind| *kind), |ip| policy.block_reason(ip))?;
            return Ok(found.unwrap_or_default());
        }
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        None => return Err(UrlError::Malformed),
    };
    match policy.block_reason(literal) {
        Some(label) => Err(UrlError::Blocked(label)),
        None => Ok(vec![SocketAddr::new(literal, port)]),
    }
}

/// Reads a URL the way browsers and our own client do: odd spellings of an address (`0x7f.1`,
/// `2130706433`, `%31`) come out as that address. Fails if it is no URL for HTTP.
pub(crate) fn parse(text: &str) -> Result<Url, UrlError> {
    if text.is_empty() {
        return Err(UrlError::Missing);
    }
    // URL parsers disagree on these, so the host that was checked might not be the one that is called.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(UrlError::Malformed);
    }
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => UrlError::Scheme(String::new()),
        _ => UrlError::Malformed,
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme(clip(url.scheme().to_owned(), SHOWN_BYTES)));
    }
    Ok(url)
}

/// Whether a text is a URL with a user name or a password: absolute, or without a scheme (`//me@host`).
#[must_use]
pub fn has_user_info(text: &str) -> bool {
    if !text.contains('@') {
        return false;
    }
    let text = text.trim_matches(is_ignored);
    match (Url::parse(text), authority(text)) {
        (Ok(url), _) => names_user(&url),
        (Err(_), Some(authority)) => authority.contains('@'),
        (Err(_), None) => false,
    }
}

/// Whether a text is a URL that names a host: `scheme://…`, `//…`, or what is read as one (`http:host`).
#[must_use]
pub fn is_absolute_url(text: &str) -> bool {
    let text = text.trim_matches(is_ignored);
    authority(text).is_some_and(|authority| !authority.is_empty())
        || text.contains(':') && Url::parse(text).is_ok_and(|url| url.has_host())
}

/// What stands between the two slashes after the scheme, or at the beginning, and the next slash. Some parsers take
/// backslashes for slashes.
fn authority(text: &str) -> Option<&str> {
    let relative = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => rest,
        _ => text,
    };
    let after = relative.strip_prefix(['/', '\\'])?.strip_prefix(['/', '\\'])?;
    after.split(['/', '\\', '?', '#']).next()
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Characters that parsers of URLs leave out at both ends.
fn is_ignored(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

pub(crate) fn names_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, io::ErrorKind> {
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| io::ErrorKind::TimedOut)?.map_err(|error| {
        tracing::debug!(host, %error, "an agent's host name can't be resolved");
        error.kind()
    })?;
    Ok(found.collect())
}

fn check_resolved(
    name: &str,
    found: Result<Vec<IpAddr>, io::ErrorKind>,
    block_reason: impl Fn(IpAddr) -> Option<&'static str>,
) -> Result<(), UrlError> {
    let shown = || clip(name.to_owned(), SHOWN_BYTES);
    let unresolved = |reason| Err(UrlError::Unresolved { host: shown(), reason });
    match found {
        Ok(addresses) if addresses.is_empty() => unresolved("no addresses"),
        Ok(addresses) => match addresses.into_iter().find_map(block_reason) {
            Some(label) => Err(UrlError::Forbidden { host: shown(), label }),
            None => Ok(()),
        },
        Err(io::ErrorKind::TimedOut) => unresolved("lookup timed out"),
        Err(_) => unresolved("lookup failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELF_HOSTED: AddressPolicy = AddressPolicy { saas: false, development: false };
    const SAAS: AddressPolicy = AddressPolicy { saas: true, development: false };

    /// The answer for a URL whose host, if it is a name, has these addresses.
    async fn answer(url: &str, addresses: &[&str]) -> String {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let checked = async { check_with(&parse(url)?, SELF_HOSTED, async |_: &str, _| Ok(addresses)).await };
        checked.await.map_or_else(|error: UrlError| error.to_string(), |_| "ok".to_owned())
    }

    #[tokio::test]
    async fn reported_urls_are_checked() {
        let loopback = "url targets a blocked address: loopback address";
        let private = "url targets a blocked address: RFC-1918 private address";
        let unspecified = "url targets a blocked address: unspecified address";
        for (url, expected) in [
            ("", "url is required"),
            ("ftp://example.com", "url scheme must be http or https, got \"ftp\""),
            ("file:///etc/passwd", "url scheme must be http or https, got \"file\""),
            ("JavaScript:alert(1)", "url scheme must be http or https, got \"javascript\""),
            ("example.com", "url scheme must be http or https, got \"\""),
            ("//example.com", "url scheme must be http or https, got \"\""),
            ("http://", "url is not valid"),
            ("http://:80", "url is not valid"),
            ("http://example.com:99999", "url is not valid"),
            ("http://[::1", "url is not valid"),
            ("http://999.1.1.1", "url is not valid"),
            (" http://8.8.8.8", "url is not valid"),
            ("http://8.8.8.8\n", "url is not valid"),
            ("http://8.8.8.8\\@127.0.0.1", "url is not valid"),
            ("http://8.8.8.8", "ok"),
            ("https://8.8.8.8:8443/a2a?x#y", "ok"),
            ("HTTPS://8.8.8.8", "ok"),
            ("http://[2606:4700::1111]:8000", "ok"),
            ("http://localhost:8001", "ok"),
            ("http://LocalHost", "ok"),
            ("http://127.0.0.1:8000", loopback),
            ("http://user:pass@127.0.0.1", loopback),
            ("http://localhost@127.0.0.1", loopback),
            ("http://8.8.8.8@127.0.0.1", loopback),
            ("http://127.1", loopback),
            ("http://0x7f.1", loopback),
            ("http://0177.0.0.1", loopback),
            ("http://2130706433", loopback),
            ("http://0x7f000001", loopback),
            ("http://127.0.0.%31", loopback),
            ("http://127.0.0.1.", loopback),
            ("http://①②⑦.0.0.1", loopback),
            ("http:127.0.0.1", loopback),
            ("http://[::ffff:127.0.0.1]", loopback),
            ("http://[::ffff:7f00:1]", loopback),
            ("http://0", unspecified),
            ("http://0.0.0.0", unspecified),
            ("http://[::]", "url targets a blocked address: IPv6 unspecified address"),
            ("http://[::1]:80", "url targets a blocked address: IPv6 loopback address"),
            ("http://10.1.2.3", private),
            (
                "http://169.254.169.254/latest",
                "url targets a blocked address: link-local address (cloud metadata endpoint)",
            ),
        ] {
            assert_eq!(answer(url, &["203.0.113.1"]).await, expected, "{url:?}");
        }
    }

    #[tokio::test]
    async fn every_address_of_a_name_must_be_allowed() {
        let forbidden = "hostname \"agent.example\" resolves to forbidden address: RFC-1918 private address";
        for (addresses, expected) in [
            (&["8.8.8.8"][..], "ok"),
            (&["8.8.8.8", "2606:4700::1111"], "ok"),
            (&["8.8.8.8", "10.0.0.1"], forbidden),
            (&["::ffff:10.0.0.1"], forbidden),
            (&[], "hostname \"agent.example\" cannot be resolved (DNS error): no addresses"),
        ] {
            assert_eq!(answer("http://agent.example:8000", addresses).await, expected, "{addresses:?}");
        }
        let named_like_it = answer("http://localhost.agent.example", &["127.0.0.1"]).await;
        assert!(named_like_it.ends_with("forbidden address: loopback address"), "{named_like_it}");
        let with_dot = answer("http://localhost.", &["127.0.0.1"]).await;
        assert!(with_dot.ends_with("forbidden address: loopback address"), "{with_dot}");
    }

    #[tokio::test]
    async fn what_an_error_repeats_is_clipped() {
        let long = "x".repeat(1 << 20);
        for url in [format!("{long}://host"), format!("http://{long}/")] {
            let error = answer(&url, &[]).await;
            assert!(error.len() < 400, "{}", error.len());
        }
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_refused() {
        let error = check(&parse("http://agent.invalid:8000").unwrap(), SAAS).await.unwrap_err().to_string();
        assert!(
            error.starts_with("hostname \"agent.invalid\" cannot be resolved (DNS error): lookup "),
            "{error}"
        );
        let slow = async |_: &str, _| Err(io::ErrorKind::TimedOut);
        let error =
            check_with(&parse("http://slow.example").unwrap(), SAAS, slow).await.unwrap_err().to_string();
        assert_eq!(error, "hostname \"slow.example\" cannot be resolved (DNS error): lookup timed out");
    }

    #[tokio::test]
    async fn only_allowed_addresses_are_connected_to() {
        let own = AddressPolicy { saas: false, development: true };
        // Callable everywhere; on a hosted platform; on a developer's machine.
        for (url, everywhere, in_saas, in_development) in [
            ("http://8.8.8.8:81", true, true, true),
            ("http://10.0.0.1", false, true, true),
            ("http://[fd00::1]", false, true, true),
            ("http://127.0.0.1:8001", false, false, true),
            ("http://localhost:8001", false, false, true),
            ("http://[::1]", false, false, true),
            ("http://[::ffff:127.0.0.1]", false, false, true),
            ("http://169.254.169.254", false, false, false),
            ("http://0.0.0.0", false, false, false),
            ("http://[fe80::1]", false, false, false),
            ("http://[fc00::1]", false, false, false),
            ("http://100.64.0.1", false, false, false),
            ("http://203.0.113.1", false, false, false),
        ] {
            let parsed = parse(url).unwrap();
            for (policy, allowed) in [(SELF_HOSTED, everywhere), (SAAS, in_saas), (own, in_development)] {
                let called = resolve(&parsed, policy).await;
                assert_eq!(called.is_ok(), allowed, "{url} {policy:?}");
                assert!(called.unwrap_or_default().iter().all(|it| it.port() == parsed.port().unwrap_or(80)));
            }
        }
    }

    #[tokio::test]
    async fn hosted_platforms_reach_private_networks() {
        let check = async |url| check(&parse(url).unwrap(), SAAS).await;
        check("http://10.1.2.3:8000").await.unwrap();
        check("http://[fd00::1]").await.unwrap();
        check("http://127.0.0.1").await.unwrap_err();
    }
}
