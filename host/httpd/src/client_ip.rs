//! The client's address.
//!
//! That is the peer of the connection, unless the operator listed the peer in `TRUSTED_PROXIES`: then it
//! is the address that the proxy forwards for, in `X-Forwarded-For`. Every hop
//! adds the address it saw at the end of that header, and a client may send one of its own making,
//! so the list is read from its end and only as far as the hops are trusted.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::Request;
use http::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};

use crate::requests::Requests;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Bits of an IPv6 address that its holder can't choose: providers hand out a /64 at least.
const IPV6_NETWORK: u32 = 64;
/// Bits that stand before an IPv4 address which is written as an IPv6 one.
const IPV4_MAPPED: u8 = 96;

/// The connection that a request came over; an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Requests>,
}

/// Address of the client of a request; an extension of every request that came over a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// What limits count by: an IPv4 address, or the /64 around an IPv6 one. The
    /// holder of one address of a /64 has all 2⁶⁴ of them; counted singly, each would have a fresh budget.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << (u128::BITS - IPV6_NETWORK));
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        }
    }
}

/// Networks whose `X-Forwarded-For` is believed. Empty: the header is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// One entry of the list is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address (10.0.0.1) nor a network (10.0.0.0/8)")]
pub struct BadNetwork(String);

impl FromStr for TrustedProxies {
    type Err = BadNetwork;

    fn from_str(list: &str) -> Result<Self, BadNetwork> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(network).collect::<Result<_, _>>().map(Self)
    }
}

impl TrustedProxies {
    /// Whether no proxy is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every address is in the list, so that clients choose the address they are known by.
    #[must_use]
    pub fn trusts_all(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }
}

fn network(text: &str) -> Result<IpNet, BadNetwork> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from).ok();
    let network: IpNet = text.parse().ok().or_else(alone).ok_or_else(|| BadNetwork(text.to_owned()))?;
    Ok(unmapped(network).unwrap_or(network))
}

/// The IPv4 network that is meant by `::ffff:…`, which no client's address would ever match: they
/// are unmapped, too.
fn unmapped(network: IpNet) -> Option<IpNet> {
    let address = match network.addr() {
        IpAddr::V6(address) => address.to_ipv4_mapped()?,
        IpAddr::V4(_) => return None,
    };
    let prefix = network.prefix_len().checked_sub(IPV4_MAPPED)?;
    Ipv4Net::new(address, prefix).ok().map(IpNet::from)
}

impl TrustedProxies {
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client behind `peer`: the last address in the list that is not itself a trusted proxy's.
    /// Where an entry can't be read, or the list ends, it is the hop that wrote (or sent) that.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientIp {
        let mut client = peer;
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        while self.trusts(client) {
            match hops.next().and_then(address) {
                Some(hop) => client = hop,
                None => break,
            }
        }
        ClientIp(client)
    }

    /// Notes the client's address on a request that came over a socket.
    pub(crate) fn identify(&self, request: &mut Request) {
        if let Some(peer) = request.extensions().get::<Peer>() {
            let client = self.client(peer.address.ip(), request.headers());
            request.extensions_mut().insert(client);
        }
    }
}

/// One entry of `X-Forwarded-For`; some proxies add the port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let with_port = || text.parse().map(|socket: SocketAddr| socket.ip()).ok();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address: IpAddr = text.parse().ok().or_else(with_port).or_else(bracketed)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// The client that a request from `peer` is found to come from; each header is one line.
    fn client(trusted: &str, peer: &str, headers: &[&str]) -> IpAddr {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(FORWARDED_FOR, HeaderValue::from_bytes(value.as_bytes()).expect("valid"));
        }
        let proxies: TrustedProxies = trusted.parse().expect("a list");
        proxies.client(ip(peer), &map).0
    }

    #[test]
    fn clients_by_table() {
        let lan = "10.0.0.0/8, 192.168.1.1, fd00::/8";
        for (trusted, peer, headers, expected) in [
            // No proxy is trusted, or not this one.
            ("", "10.0.0.1", &["1.1.1.1"][..], "10.0.0.1"),
            (lan, "11.0.0.1", &["1.1.1.1"], "11.0.0.1"),
            (lan, "192.168.1.2", &["1.1.1.1"], "192.168.1.2"),
            // One proxy, several, and what the client itself claims.
            (lan, "10.0.0.1", &[], "10.0.0.1"),
            (lan, "10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            (lan, "10.0.0.1", &["9.9.9.9, 1.1.1.1 , 10.2.3.4"], "1.1.1.1"),
            (lan, "10.0.0.1", &["9.9.9.9", "1.1.1.1", "192.168.1.1,10.2.3.4"], "1.1.1.1"),
            (lan, "fd00::1", &["2001:db8::7"], "2001:db8::7"),
            (lan, "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Not readable: the hop that passed it on counts.
            (lan, "10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2"),
            (lan, "10.0.0.1", &["1.1.1.1,"], "10.0.0.1"),
            (lan, "10.0.0.1", &["1.1.1.1, _hidden"], "10.0.0.1"),
            (lan, "10.0.0.1", &["1.1.1.1, \u{e4}"], "10.0.0.1"),
            (lan, "10.0.0.1", &[""], "10.0.0.1"),
            // Other ways to write an address.
            (lan, "10.0.0.1", &["1.1.1.1:4711"], "1.1.1.1"),
            (lan, "10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            (lan, "10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            (lan, "10.0.0.1", &["::ffff:1.1.1.1"], "1.1.1.1"),
            ("::ffff:10.0.0.0/104", "10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("0.0.0.0/0", "10.0.0.1", &["2.2.2.2, 1.1.1.1"], "2.2.2.2"),
        ] {
            assert_eq!(client(trusted, peer, headers), ip(expected), "{trusted} {peer} {headers:?}");
        }
    }

    #[test]
    fn lists_that_are_refused_say_which_entry_is_wrong() {
        for bad in ["10.0.0.0/33", "proxy.example", "10.0.0", "10.0.0.1-10.0.0.9", "*", "fd00::/129"] {
            let refused = format!("10.0.0.0/8, {bad}").parse::<TrustedProxies>();
            assert_eq!(refused, Err(BadNetwork(bad.to_owned())));
        }
        assert_eq!(" , ".parse(), Ok(TrustedProxies::default()));
    }

    #[test]
    fn an_ipv6_client_counts_by_its_network() {
        let network = |address| ClientIp(ip(address)).network();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), ip("2001:db8:1:2::"));
        assert_eq!(network("2001:db8:1:2::"), network("2001:db8:1:2:ffff::1"));
        assert_ne!(network("2001:db8:1:2::"), network("2001:db8:1:3::"));
        assert_eq!(network("1.2.3.4"), ip("1.2.3.4"));
    }
}
