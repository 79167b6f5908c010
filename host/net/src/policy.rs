//! Address ranges that agents may not have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where agents may be, besides public addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Private networks are allowed: a hosted platform keeps its customers' agents in its own.
    pub saas: bool,
    /// Private networks and loopback are allowed: the machine is a developer's.
    pub development: bool,
}

const LOOPBACK: &str = "loopback address";
const LOOPBACK_6: &str = "IPv6 loopback address";
const PRIVATE: &str = "RFC-1918 private address";
const PRIVATE_6: &str = "IPv6 ULA address (RFC-4193 private)";

/// How an operator opens the range with this name, where that is possible.
pub(crate) fn remedy(label: &str) -> Option<&'static str> {
    match label {
        LOOPBACK | LOOPBACK_6 => Some(
            "in production a loopback address is the server itself: register an address that the server can \
             reach, or start the server with MOLECULE_ENV=development where everything runs on one machine",
        ),
        PRIVATE | PRIVATE_6 => Some(
            "start the server with MOLECULE_DEPLOY_MODE=saas where agents live in a private network with it, \
             or register a public address",
        ),
        _ => None,
    }
}

impl AddressPolicy {
    /// The stricter policy for URLs that agents report: a developer's agents may be on his machine, but
    /// private networks are for hosted platforms.
    pub(crate) fn of_registration(self) -> RegistrationPolicy {
        RegistrationPolicy(self)
    }

    /// Name of the range for which this address is blocked; `None` if an agent may have the address.
    #[must_use]
    pub(crate) fn block_reason(self, ip: IpAddr) -> Option<&'static str> {
        if self.development && ip.to_canonical().is_loopback() {
            return None;
        }
        let private = self.saas || self.development;
        match ip {
            IpAddr::V4(ip) => blocked_v4(ip, private),
            IpAddr::V6(ip) => match embedded_v4(ip) {
                Some(ip) => blocked_v4(ip, private),
                None => blocked_v6(ip, private),
            },
        }
    }
}

/// See [`AddressPolicy::of_registration`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegistrationPolicy(AddressPolicy);

impl RegistrationPolicy {
    pub(crate) fn block_reason(self, ip: IpAddr) -> Option<&'static str> {
        let own_machine = self.0.development && ip.to_canonical().is_loopback();
        let policy = AddressPolicy { development: own_machine, ..self.0 };
        policy.block_reason(ip)
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped (`::ffff:0:0/96`), or through the translator
/// (`64:ff9b::/96`) that networks without IPv4 have.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

fn blocked_v4(ip: Ipv4Addr, private: bool) -> Option<&'static str> {
    match ip.octets() {
        [0, 0, 0, 0] => Some("unspecified address"),
        [169, 254, ..] => Some("link-local address (cloud metadata endpoint)"),
        [127, ..] => Some(LOOPBACK),
        [192, 0, 2, _] => Some("TEST-NET-1 documentation range (RFC-5737)"),
        [198, 51, 100, _] => Some("TEST-NET-2 documentation range (RFC-5737)"),
        [203, 0, 113, _] => Some("TEST-NET-3 documentation range (RFC-5737)"),
        [100, 64..=127, ..] => Some("carrier-grade NAT address (RFC-6598)"),
        [224..=239, ..] => Some("IPv4 multicast address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] if !private => Some(PRIVATE),
        _ => None,
    }
}

fn blocked_v6(ip: Ipv6Addr, private: bool) -> Option<&'static str> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("IPv6 unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(LOOPBACK_6),
        [0xfe80..=0xfebf, ..] => Some("IPv6 link-local address (cloud metadata analogue)"),
        [0xfc00..=0xfcff, ..] => Some("IPv6 ULA non-routable prefix (fc00::/8)"),
        [0x2001, 0x0db8, ..] => Some("IPv6 documentation address (RFC-3849 reserved)"),
        [0xfd00..=0xfdff, ..] if !private => Some(PRIVATE_6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK_LOCAL: &str = "link-local address (cloud metadata endpoint)";
    const NAT: &str = "carrier-grade NAT address (RFC-6598)";
    const MULTICAST: &str = "IPv4 multicast address";
    const TEST_1: &str = "TEST-NET-1 documentation range (RFC-5737)";
    const TEST_2: &str = "TEST-NET-2 documentation range (RFC-5737)";
    const TEST_3: &str = "TEST-NET-3 documentation range (RFC-5737)";
    const LINK_LOCAL_6: &str = "IPv6 link-local address (cloud metadata analogue)";
    const ULA_RESERVED: &str = "IPv6 ULA non-routable prefix (fc00::/8)";
    const DOCUMENTATION: &str = "IPv6 documentation address (RFC-3849 reserved)";

    fn policy(saas: bool) -> AddressPolicy {
        AddressPolicy { saas, development: false }
    }

    #[test]
    fn ranges_are_blocked_from_first_to_last_address() {
        // First and last of each range, then the neighbors below and above.
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
                assert_eq!(policy(saas).block_reason(first.parse().unwrap()), Some(label), "{first}");
                assert_eq!(policy(saas).block_reason(last.parse().unwrap()), Some(label), "{last}");
                assert_eq!(policy(saas).block_reason(below.parse().unwrap()), None, "{below}");
                assert_eq!(policy(saas).block_reason(above.parse().unwrap()), None, "{above}");
            }
        }
    }

    #[test]
    fn private_ranges_are_open_in_saas_mode() {
        for (first, last, below, above, label) in [
            ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0", PRIVATE),
            ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0", PRIVATE),
            ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0", PRIVATE),
            ("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fb00::", "fe00::", PRIVATE_6),
        ] {
            for inside in [first, last] {
                assert_eq!(policy(false).block_reason(inside.parse().unwrap()), Some(label), "{inside}");
                assert_eq!(policy(true).block_reason(inside.parse().unwrap()), None, "{inside}");
            }
            for outside in [below, above] {
                assert_eq!(policy(false).block_reason(outside.parse().unwrap()), None, "{outside}");
            }
        }
    }

    #[test]
    fn ipv4_inside_ipv6_is_judged_as_ipv4() {
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
            assert_eq!(policy(false).block_reason(ip.parse().unwrap()), label, "{ip}");
        }
    }
}
