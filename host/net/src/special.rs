//! Addresses that no agent has: the special-purpose registries of IANA, and the metadata services of clouds.
//!
//! <https://www.iana.org/assignments/iana-ipv4-special-registry> as of 2020-09-04, and
//! <https://www.iana.org/assignments/iana-ipv6-special-registry> as of 2024-10-22 with the block `100:0:0:1::/64` of 2025
//! (RFC 9780), compared with copies of 2026-08. Listed are the blocks that are not globally reachable, and multicast, which
//! has registries of its own. Blocks within `192.0.0.0/24` and `2001::/23` that are globally reachable (anycast for address
//! translators) are left closed with them: no agent is there. Of IPv6, only `2000::/3` is assigned to hosts at all.

use std::net::{Ipv4Addr, Ipv6Addr};

use Opened::{Development, Never, Private};

/// When agents may have addresses of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    Never,
    /// On a developer's machine.
    Development,
    /// On a developer's machine, and on hosted platforms.
    Private,
}

/// Network, length of its prefix, name, and when it is open. The first that matches counts.
type Range<A> = (A, u8, &'static str, Opened);

/// The name of the range that has this address, and when it is open. `None` for one that hosts on the internet have.
pub(crate) fn range_v4(ip: Ipv4Addr) -> Option<(&'static str, Opened)> {
    let is_in =
        |network: Ipv4Addr, prefix: u8| shared(network.to_bits().into(), ip.to_bits().into(), 32) >= prefix;
    V4.iter()
        .find(|(network, prefix, ..)| is_in(*network, *prefix))
        .map(|(.., name, opened)| (*name, *opened))
}

/// The same for an IPv6 address that has no IPv4 address in it.
pub(crate) fn range_v6(ip: Ipv6Addr) -> Option<(&'static str, Opened)> {
    let is_in = |network: Ipv6Addr, prefix: u8| shared(network.to_bits(), ip.to_bits(), 128) >= prefix;
    let listed = V6.iter().find(|(network, prefix, ..)| is_in(*network, *prefix));
    let listed = listed.map(|(.., name, opened)| (*name, *opened));
    listed.or_else(|| (!is_in(HOSTS, 3)).then_some((UNASSIGNED, Never)))
}

/// The IPv4 address that an IPv6 one leads to: mapped (`::ffff:0:0/96`), compatible (`::/96`), translated
/// (`::ffff:0:0:0/96`), or through the translator (`64:ff9b::/96`) that networks without IPv4 have.
pub(crate) fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

/// How many leading bits two addresses of `bits` bits have in common.
fn shared(one: u128, other: u128, bits: u8) -> u8 {
    let differing = 128 - (one ^ other).leading_zeros();
    u8::try_from(differing).map_or(0, |differing| bits.saturating_sub(differing))
}

pub(crate) const LOOPBACK: &str = "loopback address";
pub(crate) const LOOPBACK_6: &str = "IPv6 loopback address";
pub(crate) const PRIVATE: &str = "RFC-1918 private address";
pub(crate) const PRIVATE_6: &str = "IPv6 ULA address (RFC-4193 private)";
/// Assigned to hosts, of which the registry of IPv6 addresses has more.
const HOSTS: Ipv6Addr = v6([0x2000, 0, 0, 0], [0, 0]);
const UNASSIGNED: &str = "IPv6 address that is not assigned to hosts (RFC-4291)";
const METADATA: &str = "cloud metadata endpoint";

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

/// `first` are the first four groups, `last` the last two.
const fn v6(first: [u16; 4], last: [u16; 2]) -> Ipv6Addr {
    let ([a, b, c, d], [g, h]) = (first, last);
    Ipv6Addr::new(a, b, c, d, 0, 0, g, h)
}

const V4: [Range<Ipv4Addr>; 19] = [
    (v4(0, 0, 0, 0), 32, "unspecified address", Never),
    (v4(0, 0, 0, 0), 8, "address of \"this network\" (RFC-791)", Never),
    (v4(10, 0, 0, 0), 8, PRIVATE, Private),
    // Alibaba Cloud.
    (v4(100, 100, 100, 200), 32, METADATA, Never),
    (v4(100, 64, 0, 0), 10, "carrier-grade NAT address (RFC-6598)", Never),
    (v4(127, 0, 0, 0), 8, LOOPBACK, Development),
    // Azure, in the midst of public addresses.
    (v4(168, 63, 129, 16), 32, METADATA, Never),
    (v4(169, 254, 0, 0), 16, "link-local address (cloud metadata endpoint)", Never),
    (v4(172, 16, 0, 0), 12, PRIVATE, Private),
    // With the metadata service of Oracle Cloud, 192.0.0.192.
    (v4(192, 0, 0, 0), 24, "IETF protocol assignment (RFC-6890)", Never),
    (v4(192, 0, 2, 0), 24, "TEST-NET-1 documentation range (RFC-5737)", Never),
    (v4(192, 88, 99, 0), 24, "6to4 relay (RFC-7526, deprecated)", Never),
    (v4(192, 168, 0, 0), 16, PRIVATE, Private),
    (v4(198, 18, 0, 0), 15, "benchmarking range (RFC-2544)", Never),
    (v4(198, 51, 100, 0), 24, "TEST-NET-2 documentation range (RFC-5737)", Never),
    (v4(203, 0, 113, 0), 24, "TEST-NET-3 documentation range (RFC-5737)", Never),
    (v4(224, 0, 0, 0), 4, "IPv4 multicast address", Never),
    (v4(255, 255, 255, 255), 32, "broadcast address", Never),
    (v4(240, 0, 0, 0), 4, "reserved address (RFC-1112)", Never),
];

const V6: [Range<Ipv6Addr>; 20] = [
    (v6([0; 4], [0, 0]), 128, "IPv6 unspecified address", Never),
    (v6([0; 4], [0, 1]), 128, LOOPBACK_6, Development),
    (v6([0x64, 0xff9b, 1, 0], [0, 0]), 48, "IPv4/IPv6 translation (RFC-8215)", Never),
    (v6([0x100, 0, 0, 0], [0, 0]), 64, "IPv6 discard-only address (RFC-6666)", Never),
    (v6([0x100, 0, 0, 1], [0, 0]), 64, "IPv6 dummy prefix (RFC-9780)", Never),
    (v6([0x2001, 0, 0, 0], [0, 0]), 32, "Teredo tunnel (RFC-4380)", Never),
    (v6([0x2001, 0, 0, 0], [0, 0]), 23, "IPv6 protocol assignment (RFC-2928)", Never),
    (v6([0x2001, 0xdb8, 0, 0], [0, 0]), 32, "IPv6 documentation address (RFC-3849 reserved)", Never),
    (v6([0x2002, 0, 0, 0], [0, 0]), 16, "6to4 tunnel (RFC-3056)", Never),
    (v6([0x3fff, 0, 0, 0], [0, 0]), 20, "IPv6 documentation address (RFC-9637 reserved)", Never),
    (v6([0x5f00, 0, 0, 0], [0, 0]), 16, "IPv6 segment routing (RFC-9602)", Never),
    // AWS, Google Cloud, Oracle Cloud and Scaleway, within private addresses.
    (v6([0xfd00, 0xec2, 0, 0], [0, 0x254]), 128, METADATA, Never),
    (v6([0xfd20, 0xce, 0, 0], [0, 0x254]), 128, METADATA, Never),
    (v6([0xfd00, 0xc1, 0, 0], [0xa9fe, 0xa9fe]), 128, METADATA, Never),
    (v6([0xfd00, 0x42, 0, 0], [0, 0x42]), 128, METADATA, Never),
    (v6([0xfd00, 0, 0, 0], [0, 0]), 8, PRIVATE_6, Private),
    (v6([0xfc00, 0, 0, 0], [0, 0]), 8, "IPv6 ULA non-routable prefix (fc00::/8)", Never),
    (v6([0xfe80, 0, 0, 0], [0, 0]), 10, "IPv6 link-local address (cloud metadata analogue)", Never),
    (v6([0xfec0, 0, 0, 0], [0, 0]), 10, "IPv6 site-local address (RFC-3879, deprecated)", Never),
    (v6([0xff00, 0, 0, 0], [0, 0]), 8, "IPv6 multicast address", Never),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_holds_from_its_first_to_its_last_address() {
        // First and last address, then the neighbors' ranges.
        let open = None;
        let this = Some("address of \"this network\" (RFC-791)");
        let nat = Some("carrier-grade NAT address (RFC-6598)");
        let ietf = Some("IETF protocol assignment (RFC-6890)");
        let multicast = Some("IPv4 multicast address");
        let reserved = Some("reserved address (RFC-1112)");
        for (first, last, label, below, above) in [
            ("0.0.0.0", "0.0.0.0", Some("unspecified address"), None, this),
            ("0.0.0.1", "0.255.255.255", this, Some("unspecified address"), open),
            ("10.0.0.0", "10.255.255.255", Some(PRIVATE), open, open),
            ("100.64.0.0", "100.100.100.199", nat, open, Some(METADATA)),
            ("100.100.100.200", "100.100.100.200", Some(METADATA), nat, nat),
            ("100.100.100.201", "100.127.255.255", nat, Some(METADATA), open),
            ("127.0.0.0", "127.255.255.255", Some(LOOPBACK), open, open),
            ("168.63.129.16", "168.63.129.16", Some(METADATA), open, open),
            (
                "169.254.0.0",
                "169.254.255.255",
                Some("link-local address (cloud metadata endpoint)"),
                open,
                open,
            ),
            ("172.16.0.0", "172.31.255.255", Some(PRIVATE), open, open),
            ("192.0.0.0", "192.0.0.255", ietf, open, open),
            ("192.0.2.0", "192.0.2.255", Some("TEST-NET-1 documentation range (RFC-5737)"), open, open),
            ("192.88.99.0", "192.88.99.255", Some("6to4 relay (RFC-7526, deprecated)"), open, open),
            ("192.168.0.0", "192.168.255.255", Some(PRIVATE), open, open),
            ("198.18.0.0", "198.19.255.255", Some("benchmarking range (RFC-2544)"), open, open),
            ("198.51.100.0", "198.51.100.255", Some("TEST-NET-2 documentation range (RFC-5737)"), open, open),
            ("203.0.113.0", "203.0.113.255", Some("TEST-NET-3 documentation range (RFC-5737)"), open, open),
            ("224.0.0.0", "239.255.255.255", multicast, open, reserved),
            ("240.0.0.0", "255.255.255.254", reserved, multicast, Some("broadcast address")),
            ("255.255.255.255", "255.255.255.255", Some("broadcast address"), reserved, None),
        ] {
            let at = |bits: u32| range_v4(Ipv4Addr::from_bits(bits)).map(|(name, _)| name);
            let [first, last] = [first, last].map(|ip| ip.parse::<Ipv4Addr>().unwrap().to_bits());
            assert_eq!((at(first), at(last)), (label, label), "{label:?}");
            let beside = (first.checked_sub(1).and_then(at), last.checked_add(1).and_then(at));
            assert_eq!(beside, (below, above), "{label:?}");
        }
    }

    #[test]
    fn every_range_of_ipv6_holds_from_its_first_to_its_last_address() {
        let open = None;
        let unassigned = Some(UNASSIGNED);
        let teredo = Some("Teredo tunnel (RFC-4380)");
        let protocol = Some("IPv6 protocol assignment (RFC-2928)");
        let discard = Some("IPv6 discard-only address (RFC-6666)");
        let dummy = Some("IPv6 dummy prefix (RFC-9780)");
        let fc = Some("IPv6 ULA non-routable prefix (fc00::/8)");
        let local = Some("IPv6 link-local address (cloud metadata analogue)");
        let site = Some("IPv6 site-local address (RFC-3879, deprecated)");
        let multicast = Some("IPv6 multicast address");
        let documentation = Some("IPv6 documentation address (RFC-3849 reserved)");
        for (first, bits, label, below, above) in [
            ("::", 128, Some("IPv6 unspecified address"), None, Some(LOOPBACK_6)),
            ("::1", 128, Some(LOOPBACK_6), Some("IPv6 unspecified address"), unassigned),
            ("64:ff9b:1::", 48, Some("IPv4/IPv6 translation (RFC-8215)"), unassigned, unassigned),
            ("100::", 64, discard, unassigned, dummy),
            ("100:0:0:1::", 64, dummy, discard, unassigned),
            ("2001::", 32, teredo, open, protocol),
            ("2001:100::", 24, protocol, protocol, open),
            ("2001:db8::", 32, documentation, open, open),
            ("2002::", 16, Some("6to4 tunnel (RFC-3056)"), open, open),
            ("2000::", 16, open, unassigned, teredo),
            ("3fff::", 20, Some("IPv6 documentation address (RFC-9637 reserved)"), open, open),
            ("3fff:8000::", 17, open, open, unassigned),
            ("5f00::", 16, Some("IPv6 segment routing (RFC-9602)"), unassigned, unassigned),
            ("fc00::", 8, fc, unassigned, Some(PRIVATE_6)),
            ("fd00:42::42", 128, Some(METADATA), Some(PRIVATE_6), Some(PRIVATE_6)),
            ("fd00:c1::a9fe:a9fe", 128, Some(METADATA), Some(PRIVATE_6), Some(PRIVATE_6)),
            ("fd00:ec2::254", 128, Some(METADATA), Some(PRIVATE_6), Some(PRIVATE_6)),
            ("fd20:ce::254", 128, Some(METADATA), Some(PRIVATE_6), Some(PRIVATE_6)),
            ("fd00::", 8, Some(PRIVATE_6), fc, unassigned),
            ("fe80::", 10, local, unassigned, site),
            ("fec0::", 10, site, local, multicast),
            ("ff00::", 8, multicast, site, None),
        ] {
            let at = |bits: u128| range_v6(Ipv6Addr::from_bits(bits)).map(|(name, _)| name);
            let first = first.parse::<Ipv6Addr>().unwrap().to_bits();
            let last = first | u128::MAX.checked_shr(bits).unwrap_or_default();
            assert_eq!((at(first), at(last)), (label, label), "{label:?}");
            let beside = (first.checked_sub(1).and_then(at), last.checked_add(1).and_then(at));
            assert_eq!(beside, (below, above), "{label:?}");
        }
    }

    #[test]
    fn ipv4_addresses_are_found_in_ipv6_ones() {
        for (ip, found) in [
            ("::ffff:127.0.0.1", Some("127.0.0.1")),
            ("::ffff:a9fe:a9fe", Some("169.254.169.254")),
            ("::127.0.0.1", Some("127.0.0.1")),
            ("::2", Some("0.0.0.2")),
            ("::ffff:0:10.0.0.1", Some("10.0.0.1")),
            ("64:ff9b::168.63.129.16", Some("168.63.129.16")),
            ("::", None),
            ("::1", None),
            ("64:ff9b:1::127.0.0.1", None),
            ("64:ff9b::1:127.0.0.1", None),
            ("::1:0:0:1", None),
            ("2606:4700::1111", None),
        ] {
            let expected = found.map(|ip| ip.parse::<Ipv4Addr>().unwrap());
            assert_eq!(embedded_v4(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
