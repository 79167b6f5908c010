//! Which addresses agents may have in which mode. The ranges are in `special`.

use std::net::IpAddr;

use crate::special::{LOOPBACK, LOOPBACK_6, Opened, PRIVATE, PRIVATE_6, embedded_v4, range_v4, range_v6};

/// Where agents may be, besides public addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Private networks are allowed: a hosted platform keeps its customers' agents in its own.
    pub saas: bool,
    /// Private networks and loopback are allowed: the machine is a developer's.
    pub development: bool,
}

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
        let (label, opened) = match reached(ip) {
            IpAddr::V4(ip) => range_v4(ip),
            IpAddr::V6(ip) => range_v6(ip),
        }?;
        let is_open = match opened {
            Opened::Never => false,
            // Through a translator, it is another machine's.
            Opened::Development => self.development && ip.to_canonical().is_loopback(),
            Opened::Private => self.development || self.saas,
        };
        (!is_open).then_some(label)
    }
}

/// The address that connections to `ip` really end at, as far as `ip` itself tells.
pub(crate) fn reached(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(long) => embedded_v4(long).map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
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

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCTION: AddressPolicy = AddressPolicy { saas: false, development: false };
    const SAAS: AddressPolicy = AddressPolicy { saas: true, development: false };
    const DEVELOPMENT: AddressPolicy = AddressPolicy { saas: false, development: true };

    fn assert_open(ip: &str, in_production: bool, in_saas: bool, in_development: bool) {
        let address = ip.parse().unwrap();
        for (policy, open) in [(PRODUCTION, in_production), (SAAS, in_saas), (DEVELOPMENT, in_development)] {
            assert_eq!(policy.block_reason(address).is_none(), open, "{ip} {policy:?}");
        }
    }

    #[test]
    fn a_mode_opens_private_and_loopback_addresses_only() {
        for ip in ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "::8.8.8.8"] {
            assert_open(ip, true, true, true);
        }
        for ip in ["10.0.0.1", "172.31.255.255", "192.168.0.0", "fd00::", "fdff::1", "64:ff9b::10.0.0.1"] {
            assert_open(ip, false, true, true);
        }
        for ip in ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"] {
            assert_open(ip, false, false, true);
        }
    }

    #[test]
    fn no_mode_opens_metadata_services_and_special_addresses() {
        for ip in [
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::168.63.129.16",
            // Through a translator, loopback is not this machine's.
            "64:ff9b::127.0.0.1",
            "::127.0.0.1",
            "64:ff9b:1::10.0.0.1",
            // 6to4 and Teredo with 127.0.0.1 and 169.254.169.254 in them.
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:0:4136:e378:8000:63bf:5601:5601",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::2",
            "198.18.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "fec0::1",
            "ff02::1",
            "fe80::1",
            "fc00::1",
            "4000::1",
        ] {
            assert_open(ip, false, false, false);
        }
    }

    #[test]
    fn a_registered_address_is_private_on_hosted_platforms_only() {
        let registration = |policy: AddressPolicy, ip: &str| {
            policy.of_registration().block_reason(ip.parse().unwrap()).is_none()
        };
        assert!(registration(SAAS, "10.0.0.1") && !registration(DEVELOPMENT, "10.0.0.1"));
        assert!(registration(DEVELOPMENT, "127.0.0.1") && !registration(SAAS, "127.0.0.1"));
        assert!(!registration(SAAS, "fd00:ec2::254") && registration(SAAS, "fd00:ec2::255"));
    }
}
