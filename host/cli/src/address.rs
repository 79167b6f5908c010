//! The address of a server, as users write it: a URL, or `host:port`.

use std::net::{IpAddr, Ipv6Addr};

use url::{Host, Url};

use super::CliError;

/// A checked address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// `http(s)://host[:port][/path]`, without a slash at the end.
    pub(super) url: String,
    pub(super) secure: bool,
    /// The server is on this machine. No proxy reaches it.
    pub(super) loopback: bool,
    /// Host without brackets, and port.
    pub(super) socket: (String, u16),
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        let text = text.trim();
        let full = if text.contains("://") {
            text.to_owned()
        } else if text.parse::<Ipv6Addr>().is_ok() {
            format!("http://[{text}]")
        } else {
            format!("http://{text}")
        };
        let url = Url::parse(&full).map_err(|error| unusable(text, &error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(CliError::refused(
                "the server's URL has a user name or password. Give the token with --token or ADMIN_TOKEN",
            ));
        }
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(unusable(text, &format!("{other} is neither http nor https"))),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(unusable(text, "it has something after its path"));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(unusable(text, "it has no host"));
        };
        let (name, loopback) = match host {
            Host::Domain(name) => (name.to_owned(), name == "localhost" || name.ends_with(".localhost")),
            // An unspecified address leads to this machine, too.
            Host::Ipv4(address) => (address.to_string(), is_own(IpAddr::V4(address))),
            Host::Ipv6(address) => (address.to_string(), is_own(IpAddr::V6(address).to_canonical())),
        };
        let url = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { url, secure, loopback, socket: (name, port) })
    }
}

fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

fn unusable(text: &str, reason: &str) -> CliError {
    CliError::refused(format!(
        "{text} is not the URL of a server: {reason}. Give one such as http://127.0.0.1:8080 with --server"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_by_table() {
        for (text, url, secure, loopback, host, port) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", false, true, "127.0.0.1", 8080),
            (" http://127.0.0.1:8080/ ", "http://127.0.0.1:8080", false, true, "127.0.0.1", 8080),
            ("localhost:8080", "http://localhost:8080", false, true, "localhost", 8080),
            ("127.9.9.9:1", "http://127.9.9.9:1", false, true, "127.9.9.9", 1),
            ("isomer.example", "http://isomer.example", false, false, "isomer.example", 80),
            ("HTTPS://Isomer.Example/", "https://isomer.example", true, false, "isomer.example", 443),
            ("https://a.example/isomer/", "https://a.example/isomer", true, false, "a.example", 443),
            ("[::1]:8080", "http://[::1]:8080", false, true, "::1", 8080),
            ("::1", "http://[::1]", false, true, "::1", 80),
            ("http://[::ffff:127.0.0.1]:1", "http://[::ffff:7f00:1]:1", false, true, "::ffff:127.0.0.1", 1),
            ("http://[2001:db8::1]:1", "http://[2001:db8::1]:1", false, false, "2001:db8::1", 1),
            ("isomer.localhost:80", "http://isomer.localhost", false, true, "isomer.localhost", 80),
            ("localhost.example:81", "http://localhost.example:81", false, false, "localhost.example", 81),
        ] {
            let address = Address::parse(text).expect(text);
            let socket = (host.to_owned(), port);
            assert_eq!(address, Address { url: url.to_owned(), secure, loopback, socket }, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty host"),
            ("http://", "empty host"),
            ("ftp://a.example", "ftp is neither http nor https"),
            ("a.example:port", "invalid port number"),
            ("http://a.example/?x=1", "after its path"),
            ("http://admin:hunter2@a.example", "--token"),
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
