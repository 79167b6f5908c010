//! Which URLs an agent may report as its own.
//!
//! The platform will send messages there, so a URL must not lead it to itself, to a cloud's metadata
//! service or into a private network. A name is allowed only if every address behind it is; what it
//! leads to later is checked again when a message is sent.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Once,
    time::Duration,
};

use url::{Host, ParseError, Url};

/// How long a name may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// Hosted customers keep their agents in the platform's own private network.
const SAAS: &str = "saas";
const SELF_HOSTED: [&str; 3] = ["self-hosted", "selfhosted", "standalone"];

/// What is wrong with an agent's URL. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// There is none.
    #[error("url is required")]
    Missing,
    /// It can't be read as a URL.
    #[error("url is not valid")]
    Malformed,
    /// It isn't for HTTP.
    #[error("url scheme must be http or https, got \"{0}\"")]
    Scheme(String),
    /// Its host is an address that agents may not have.
    #[error("url targets a blocked address: {0}")]
    Blocked(&'static str),
    /// Its host has no address.
    #[error("hostname \"{host}\" cannot be resolved (DNS error): {reason}")]
    Unresolved {
        /// The host.
        host: String,
        /// Why, in words of ours: resolvers tell too much about the network.
        reason: &'static str,
    },
    /// Its host has an address that agents may not have.
    #[error("hostname \"{host}\" resolves to forbidden address: {label}")]
    Forbidden {
        /// The host.
        host: String,
        /// What kind of address.
        label: &'static str,
    },
}

/// Where agents may be called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// In private networks.
    pub saas: bool,
    /// There, and on the machine itself: it is a developer's own.
    pub development: bool,
}

/// The check of an agent's URL.
#[derive(Debug, Clone, Copy)]
pub struct AgentUrl;

impl AgentUrl {
    /// Checks a URL, and resolves its host if that is a name. `saas` allows private networks.
    ///
    /// # Errors
    /// If an agent may not have that URL.
    pub async fn check(url: &str, saas: bool) -> Result<(), UrlError> {
        Self::check_with(url, saas, async |host: &str, port| {
            Ok(lookup(host, port).await?.into_iter().map(|address| address.ip()).collect())
        })
        .await
    }

    /// Reads an agent's URL.
    ///
    /// # Errors
    /// If it isn't one for HTTP.
    pub fn parse(url: &str) -> Result<Url, UrlError> {
        parse(url)
    }

    /// Addresses at which an agent is called, now. All of them are such that agents may have, so any may
    /// be connected to; whoever looks the name up once more may get others.
    ///
    /// # Errors
    /// If there is none, or one of them is none that agents may have.
    pub async fn addresses(url: &Url, reach: Reach) -> Result<Vec<SocketAddr>, UrlError> {
        let port = url.port_or_known_default().unwrap_or_default();
        let literal = match url.host() {
            Some(Host::Domain(name)) => {
                let found = lookup(name, port).await;
                let ips = found.as_ref().map(|found| found.iter().map(SocketAddr::ip).collect());
                judge(name, ips.map_err(|kind| *kind), |ip| uncallable(ip, reach))?;
                return Ok(found.unwrap_or_default());
            }
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            None => return Err(UrlError::Malformed),
        };
        match uncallable(literal, reach) {
            Some(label) => Err(UrlError::Blocked(label)),
            None => Ok(vec![SocketAddr::new(literal, port)]),
        }
    }

    async fn check_with(
        url: &str,
        saas: bool,
        resolve: impl AsyncFnOnce(&str, u16) -> Result<Vec<IpAddr>, io::ErrorKind>,
    ) -> Result<(), UrlError> {
        let url = parse(url)?;
        let literal = match url.host() {
            Some(Host::Domain("localhost")) => return Ok(()),
            Some(Host::Domain(name)) => {
                let port = url.port_or_known_default().unwrap_or_default();
                let found = resolve(name, port).await;
                return judge(name, found, |ip| blocked(ip, saas));
            }
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            None => return Err(UrlError::Malformed),
        };
        blocked(literal, saas).map_or(Ok(()), |label| Err(UrlError::Blocked(label)))
    }
}

/// Reads a URL the way browsers and our own client do: odd spellings of an address (`0x7f.1`,
/// `2130706433`, `%31`) come out as that address.
fn parse(text: &str) -> Result<Url, UrlError> {
    if text.is_empty() {
        return Err(UrlError::Missing);
    }
    // Readers disagree on these, so the host that was checked might not be the one that is called.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(UrlError::Malformed);
    }
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => UrlError::Scheme(String::new()),
        _ => UrlError::Malformed,
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme(url.scheme().to_owned()));
    }
    Ok(url)
}

async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, io::ErrorKind> {
    let found = tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| io::ErrorKind::TimedOut)?.map_err(|error| {
        tracing::debug!(host, %error, "an agent's host name can't be resolved");
        error.kind()
    })?;
    Ok(found.collect())
}

fn judge(
    name: &str,
    found: Result<Vec<IpAddr>, io::ErrorKind>,
    forbidden: impl Fn(IpAddr) -> Option<&'static str>,
) -> Result<(), UrlError> {
    let unresolved = |reason| Err(UrlError::Unresolved { host: name.to_owned(), reason });
    match found {
        Ok(addresses) if addresses.is_empty() => unresolved("no addresses"),
        Ok(addresses) => match addresses.into_iter().find_map(forbidden) {
            Some(label) => Err(UrlError::Forbidden { host: name.to_owned(), label }),
            None => Ok(()),
        },
        Err(io::ErrorKind::TimedOut) => unresolved("lookup timed out"),
        Err(_) => unresolved("lookup failed"),
    }
}

/// What kind of address it is at which no agent is called; none if one may be.
fn uncallable(ip: IpAddr, reach: Reach) -> Option<&'static str> {
    if reach.development && ip.to_canonical().is_loopback() {
        return None;
    }
    blocked(ip, reach.saas || reach.development)
}

/// What kind of address it is that agents may not have; none if they may have it.
#[must_use]
pub fn blocked(ip: IpAddr, saas: bool) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => blocked_v4(ip, saas),
        IpAddr::V6(ip) => match inner(ip) {
            Some(ip) => blocked_v4(ip, saas),
            None => blocked_v6(ip, saas),
        },
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped (`::ffff:0:0/96`), or through the translator
/// (`64:ff9b::/96`) that networks without IPv4 have.
fn inner(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

fn blocked_v4(ip: Ipv4Addr, saas: bool) -> Option<&'static str> {
    match ip.octets() {
        [0, 0, 0, 0] => Some("unspecified address"),
        [169, 254, ..] => Some("link-local address (cloud metadata endpoint)"),
        [127, ..] => Some("loopback address"),
        [192, 0, 2, _] => Some("TEST-NET-1 documentation range (RFC-5737)"),
        [198, 51, 100, _] => Some("TEST-NET-2 documentation range (RFC-5737)"),
        [203, 0, 113, _] => Some("TEST-NET-3 documentation range (RFC-5737)"),
        [100, 64..=127, ..] => Some("carrier-grade NAT address (RFC-6598)"),
        [224..=239, ..] => Some("IPv4 multicast address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] if !saas => Some("RFC-1918 private address"),
        _ => None,
    }
}

fn blocked_v6(ip: Ipv6Addr, saas: bool) -> Option<&'static str> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("IPv6 unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("IPv6 loopback address"),
        [0xfe80..=0xfebf, ..] => Some("IPv6 link-local address (cloud metadata analogue)"),
        [0xfc00..=0xfcff, ..] => Some("IPv6 ULA non-routable prefix (fc00::/8)"),
        [0x2001, 0x0db8, ..] => Some("IPv6 documentation address (RFC-3849 reserved)"),
        [0xfd00..=0xfdff, ..] if !saas => Some("IPv6 ULA address (RFC-4193 private)"),
        _ => None,
    }
}

/// Whether this is a hosted platform: by `MOLECULE_DEPLOY_MODE`, or, where that is unset, because it
/// belongs to an organisation (`MOLECULE_ORG_ID`). Warns once about a mode that it doesn't know.
#[must_use]
pub fn saas_mode(deploy_mode: Option<&str>, org_id: Option<&str>) -> bool {
    static UNKNOWN: Once = Once::new();
    let mode = deploy_mode.unwrap_or_default().trim().to_ascii_lowercase();
    if mode.is_empty() {
        return org_id.is_some_and(|org| !org.trim().is_empty());
    }
    if mode != SAAS && !SELF_HOSTED.contains(&mode.as_str()) {
        UNKNOWN.call_once(|| {
            tracing::warn!(
                mode,
                "MOLECULE_DEPLOY_MODE is neither saas nor self-hosted: taken as self-hosted"
            );
        });
    }
    mode == SAAS
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK_LOCAL: &str = "link-local address (cloud metadata endpoint)";
    const LOOPBACK: &str = "loopback address";
    const PRIVATE: &str = "RFC-1918 private address";
    const NAT: &str = "carrier-grade NAT address (RFC-6598)";
    const MULTICAST: &str = "IPv4 multicast address";
    const TEST_1: &str = "TEST-NET-1 documentation range (RFC-5737)";
    const TEST_2: &str = "TEST-NET-2 documentation range (RFC-5737)";
    const TEST_3: &str = "TEST-NET-3 documentation range (RFC-5737)";
    const LINK_LOCAL_6: &str = "IPv6 link-local address (cloud metadata analogue)";
    const ULA: &str = "IPv6 ULA address (RFC-4193 private)";
    const ULA_RESERVED: &str = "IPv6 ULA non-routable prefix (fc00::/8)";
    const DOCUMENTATION: &str = "IPv6 documentation address (RFC-3849 reserved)";

    #[test]
    fn ranges_by_table() {
        // First and last of each range, then the neighbours below and above.
        for (first, last, below, above, label) in [
            ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0", LINK_LOCAL),
            ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0", LOOPBACK),
            ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0", TEST_1),
            ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0", TEST_2),
            ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0", TEST_3),
            ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0", NAT),
            ("224.0.0.0", "239.255.255.255", "223.255.255.255", "240.0.0.0", MULTICAST),
            ("0.0.0.0", "0.0.0.0", "255.255.255.255", "0.0.0.1", "unspecified address"),
            ("::1", "::1", "::2", "::3", "IPv6 loopback address"),
            ("::", "::", "::2", "::3", "IPv6 unspecified address"),
            (
                "fe80::",
                "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "fec0::",
                LINK_LOCAL_6,
            ),
            (
                "fc00::",
                "fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "fe00::",
                ULA_RESERVED,
            ),
            (
                "2001:db8::",
                "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:db9::",
                DOCUMENTATION,
            ),
        ] {
            for saas in [false, true] {
                assert_eq!(blocked(first.parse().unwrap(), saas), Some(label), "{first}");
                assert_eq!(blocked(last.parse().unwrap(), saas), Some(label), "{last}");
                assert_eq!(blocked(below.parse().unwrap(), saas), None, "{below}");
                assert_eq!(blocked(above.parse().unwrap(), saas), None, "{above}");
            }
        }
    }

    #[test]
    fn private_ranges_by_table() {
        for (first, last, below, above, label) in [
            ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0", PRIVATE),
            ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0", PRIVATE),
            ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0", PRIVATE),
            ("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fb00::", "fe00::", ULA),
        ] {
            for inside in [first, last] {
                assert_eq!(blocked(inside.parse().unwrap(), false), Some(label), "{inside}");
                assert_eq!(blocked(inside.parse().unwrap(), true), None, "{inside}");
            }
            for outside in [below, above] {
                assert_eq!(blocked(outside.parse().unwrap(), false), None, "{outside}");
            }
        }
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        for (ip, label) in [
            ("::ffff:127.0.0.1", Some(LOOPBACK)),
            ("::ffff:a9fe:a9fe", Some(LINK_LOCAL)),
            ("::ffff:10.0.0.1", Some(PRIVATE)),
            ("::ffff:0.0.0.0", Some("unspecified address")),
            ("::ffff:8.8.8.8", None),
            ("64:ff9b::169.254.169.254", Some(LINK_LOCAL)),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::127.0.0.1", None),
            ("2606:4700::1111", None),
        ] {
            assert_eq!(blocked(ip.parse().unwrap(), false), label, "{ip}");
        }
    }

    /// The answer for a URL whose host, if it is a name, has these addresses.
    async fn answer(url: &str, addresses: &[&str]) -> String {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let checked = AgentUrl::check_with(url, false, async |_: &str, _| Ok(addresses)).await;
        checked.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
    }

    #[tokio::test]
    async fn urls_by_table() {
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
    async fn a_name_without_addresses_is_refused() {
        let error = AgentUrl::check("http://agent.invalid:8000", true).await.unwrap_err().to_string();
        assert!(
            error.starts_with("hostname \"agent.invalid\" cannot be resolved (DNS error): lookup "),
            "{error}"
        );
        let slow = async |_: &str, _| Err(io::ErrorKind::TimedOut);
        let error = AgentUrl::check_with("http://slow.example", true, slow).await.unwrap_err().to_string();
        assert_eq!(error, "hostname \"slow.example\" cannot be resolved (DNS error): lookup timed out");
    }

    #[tokio::test]
    async fn calls_by_table() {
        let hosted = Reach { saas: true, development: false };
        let own = Reach { saas: false, development: true };
        // Who may be called: everywhere; on a hosted platform; on a developer's machine.
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
            let parsed = AgentUrl::parse(url).unwrap();
            for (reach, allowed) in [(Reach::default(), everywhere), (hosted, in_saas), (own, in_development)]
            {
                let called = AgentUrl::addresses(&parsed, reach).await;
                assert_eq!(called.is_ok(), allowed, "{url} {reach:?}");
                assert!(called.unwrap_or_default().iter().all(|it| it.port() == parsed.port().unwrap_or(80)));
            }
        }
    }

    #[tokio::test]
    async fn hosted_platforms_reach_private_networks() {
        AgentUrl::check("http://10.1.2.3:8000", true).await.unwrap();
        AgentUrl::check("http://[fd00::1]", true).await.unwrap();
        AgentUrl::check("http://127.0.0.1", true).await.unwrap_err();
    }

    #[test]
    fn deploy_modes_by_table() {
        for (mode, org, saas) in [
            (Some("saas"), None, true),
            (Some(" SaaS "), None, true),
            (Some("self-hosted"), Some("org"), false),
            (Some("selfhosted"), Some("org"), false),
            (Some("standalone"), Some("org"), false),
            (Some("cloud"), Some("org"), false),
            (Some(""), Some("org"), true),
            (Some(""), None, false),
            (None, Some("org"), true),
            (None, Some(""), false),
            (None, None, false),
        ] {
            assert_eq!(saas_mode(mode, org), saas, "{mode:?} {org:?}");
        }
    }
}
