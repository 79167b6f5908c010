//! Settings of the HTTP server: where it listens, who may call it from where, and how often.

use std::net::IpAddr;
use std::num::NonZeroU32;

use clap::{Args, value_parser};
use http::Uri;
use http::uri::{Authority, Scheme};

use crate::client_ip::TrustedProxies;
use crate::origin;
use crate::origin_list::OriginList;

/// Settings of the HTTP server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// Host name or address to listen on [default: 127.0.0.1 in dev mode, else all interfaces]
    #[arg(long, env = "BIND_ADDR", value_name = "HOST")]
    pub bind_addr: Option<String>,

    /// TCP port to listen on; 0 picks a free one
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// Serve only requests routed to this organization (header X-Molecule-Org-Id or
    /// Fly-Replay-Src) and answer 404 to others [default: serve all]
    #[arg(long, env = "MOLECULE_ORG_ID", value_name = "ID", alias = "org-id")]
    pub molecule_org_id: Option<String>,

    /// Web origins that may call the API, comma separated; `*` allows any, without cookies
    /// [default: http://localhost:3000,http://localhost:3001]
    #[arg(long, env = "CORS_ORIGINS", value_name = "LIST")]
    pub cors_origins: Option<OriginList>,

    /// Server of the web canvas: paths that no route has are its pages, and a path in this URL is not used
    #[arg(long, env = "CANVAS_PROXY_URL", value_name = "URL", value_parser = http_url)]
    pub canvas_proxy_url: Option<Uri>,

    /// This server's address as agents reach it; its origin is always allowed by CORS
    /// [default: http://host.docker.internal:PORT]
    #[arg(long, env = "PLATFORM_URL", value_name = "URL", value_parser = http_url)]
    pub platform_url: Option<Uri>,

    /// URL of this server for agents outside of it, as it stands in their connection instructions; its
    /// origin is always allowed by CORS [default: from the request]
    #[arg(long, env = "EXTERNAL_PLATFORM_URL", value_name = "URL", value_parser = http_url)]
    pub external_platform_url: Option<Uri>,

    /// Requests a minute that each caller may send, all at once or spread; a caller is a bearer
    /// token, else an address (from one address, ten times that in all); not in dev mode
    #[arg(long, env = "RATE_LIMIT", value_name = "N", default_value = "600", value_parser = positive)]
    pub rate_limit: NonZeroU32,

    /// Proxies in front of this server, as addresses or networks (10.0.0.0/8), comma separated; their
    /// X-Forwarded-For names the client's address [default: none, the header is ignored]
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "LIST", default_value = "", hide_default_value = true)]
    pub trusted_proxies: TrustedProxies,

    /// Connections at the same time. When all are taken, those that wait for a request, or for a body that has stopped,
    /// are closed for new ones [default: half of what the limit of open files leaves after 256, at most 10000]
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "N", value_parser = positive)]
    pub max_connections: Option<NonZeroU32>,

    /// Connections from one address (IPv6: from one /64), and requests in progress of one client behind a
    /// trusted proxy; loopback and trusted proxies have no such limit [default: a quarter of MAX_CONNECTIONS]
    #[arg(long, env = "CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = positive)]
    pub connections_per_address: Option<NonZeroU32>,

    /// MiB that the bodies of all requests may take in memory, at least 72; what would take more waits
    /// for a moment and is then refused with 503
    #[arg(long, env = "REQUEST_BODY_MIB", value_name = "N", default_value = "192", value_parser = value_parser!(u32).range(72..))]
    pub request_body_mib: u32,

    /// Seconds that open requests and deliveries may take after a signal to stop; what is left then is
    /// queued. Give a supervisor that kills some seconds more
    #[arg(long, env = "DRAIN_SECONDS", value_name = "N", default_value = "30", value_parser = positive)]
    pub drain_seconds: NonZeroU32,
}

#[cfg(test)]
#[derive(Debug, clap::Parser)]
struct Flags {
    #[command(flatten)]
    http: HttpSettings,
}

impl HttpSettings {
    /// Settings from flags alone, as if no variable were set.
    #[cfg(test)]
    pub(crate) fn from_flags<'a>(flags: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        use clap::{CommandFactory as _, FromArgMatches as _};
        let command = Flags::command().mut_args(|a| a.env(clap::builder::Resettable::Reset));
        let arguments = std::iter::once("serve").chain(flags);
        Ok(Flags::from_arg_matches(&command.try_get_matches_from(arguments)?)?.http)
    }

    /// Hosts to try to listen on, the first that works wins. All interfaces means IPv6 and IPv4
    /// in one socket where the machine has IPv6.
    #[must_use]
    pub fn listen_hosts(&self, dev_mode: bool) -> Vec<&str> {
        match self.bind_addr.as_deref() {
            Some(host) => vec![host.trim_start_matches('[').trim_end_matches(']')],
            None if dev_mode => vec!["127.0.0.1"],
            None => vec!["::", "0.0.0.0"],
        }
    }

    /// Bytes that the bodies of all requests may take in memory.
    #[must_use]
    pub fn request_body_bytes(&self) -> usize {
        usize::try_from(self.request_body_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20)
    }

    /// The organization this server belongs to, if it serves only one.
    #[must_use]
    pub fn org_id(&self) -> Option<&str> {
        let id = self.molecule_org_id.as_deref().map(str::trim);
        id.filter(|id| !id.is_empty())
    }

    /// `scheme://host[:port]` of this server as agents name it in `Origin`.
    #[must_use]
    pub fn platform_origin(&self) -> String {
        match &self.platform_url {
            Some(url) => origin_of(url),
            None => format!("http://host.docker.internal:{}", self.port),
        }
    }

    /// Whether `CANVAS_PROXY_URL` is this server's own address, at which it would ask itself for ever.
    #[must_use]
    pub fn canvas_is_own(&self) -> bool {
        let Some(url) = &self.canvas_proxy_url else { return false };
        let default = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let here = self.listens_on_loopback()
            && is_loopback(url.host().unwrap_or_default())
            && url.port_u16().unwrap_or(default) == self.port;
        here || self.public_origins().any(|own| origin::is_same(&own, &origin_of(url)))
    }

    fn listens_on_loopback(&self) -> bool {
        let is_unspecified =
            |host: &str| host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        self.listen_hosts(true).into_iter().any(|host| is_loopback(host) || is_unspecified(host))
    }

    /// The origins of this server's public URLs.
    pub(crate) fn public_origins(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.platform_origin()).chain(self.external_platform_url.as_ref().map(origin_of))
    }
}

/// Whether a host is this machine, whatever the network: `localhost` or a loopback address.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn origin_of(url: &Uri) -> String {
    let scheme = url.scheme().map_or("http", Scheme::as_str);
    let authority = url.authority().map_or("", Authority::as_str);
    format!("{scheme}://{authority}").to_lowercase()
}

/// Parses a setting that is a URL of a server.
///
/// # Errors
/// Says what is missing.
pub fn http_url(text: &str) -> Result<Uri, &'static str> {
    const EXPECTED: &str = "must be a URL such as https://isomer.example";
    let url: Uri = text.trim().parse().map_err(|_| EXPECTED)?;
    // `Uri` drops a fragment silently.
    if text.contains('#') {
        return Err(EXPECTED);
    }
    let known = matches!(url.scheme().map(Scheme::as_str), Some("http" | "https"));
    let host = url.authority().filter(|authority| !authority.host().is_empty());
    match host {
        Some(host) if host.as_str().contains('@') => Err("must not contain a user name or password"),
        Some(host) if !origin::has_valid_port(host) => Err("must have a port from 1 to 65535, or none"),
        Some(_) if known && url.query().is_none() => Ok(url),
        _ => Err(EXPECTED),
    }
}

/// Parses a setting that counts something.
///
/// # Errors
/// Says which numbers are allowed.
pub fn positive(text: &str) -> Result<NonZeroU32, &'static str> {
    text.trim().parse().map_err(|_| "must be a whole number from 1 to 4294967295")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[&str]) -> HttpSettings {
        HttpSettings::from_flags(flags.iter().copied()).expect("valid flags")
    }

    #[test]
    fn only_dev_mode_hides_the_server_from_the_network() {
        assert_eq!(settings(&[]).listen_hosts(true), ["127.0.0.1"]);
        assert_eq!(settings(&[]).listen_hosts(false), ["::", "0.0.0.0"]);
        assert_eq!(settings(&["--bind-addr", "[::1]"]).listen_hosts(false), ["::1"]);
        assert_eq!(settings(&["--bind-addr", "0.0.0.0"]).listen_hosts(true), ["0.0.0.0"]);
    }

    #[test]
    fn bad_values_are_refused_with_the_reason() {
        for bad in ["0", "-1", "many", "1.5", "", "4294967296"] {
            let refused = HttpSettings::from_flags([format!("--rate-limit={bad}").as_str()]);
            let refused = refused.expect_err(bad).to_string();
            assert!(refused.contains("must be a whole number from 1"), "{refused}");
        }
        let refused = HttpSettings::from_flags(["--trusted-proxies", "10.0.0.0/8,10.0.0.0/33"]);
        let refused = refused.expect_err("no such network").to_string();
        assert!(refused.contains("`10.0.0.0/33` is neither an address"), "{refused}");
    }

    #[test]
    fn the_platform_origin_has_no_path() {
        assert_eq!(settings(&[]).platform_origin(), "http://host.docker.internal:8080");
        let url = settings(&["--platform-url", "https://Isomer.Example:8443/base/"]);
        assert_eq!(url.platform_origin(), "https://isomer.example:8443");
    }

    #[test]
    fn urls_without_scheme_or_host_are_refused() {
        for flag in ["--platform-url", "--external-platform-url", "--canvas-proxy-url"] {
            for bad in [
                "isomer:8080",
                "isomer",
                "/canvas",
                "ftp://isomer",
                "http://",
                "http://:80",
                "http://a?b=c",
                "http://a#b",
            ] {
                let refused = HttpSettings::from_flags([flag, bad]).expect_err(bad).to_string();
                assert!(refused.contains("must be a URL such as"), "{refused}");
            }
        }
    }

    #[test]
    fn ports_that_no_connection_can_have_are_refused() {
        for flag in ["--platform-url", "--external-platform-url", "--canvas-proxy-url"] {
            for bad in ["http://a:99999", "http://a:0", "http://a:", "https://[::1]:65536"] {
                let refused = HttpSettings::from_flags([flag, bad]).expect_err(bad).to_string();
                assert!(refused.contains("must have a port from 1 to 65535"), "{bad}: {refused}");
            }
            for good in ["http://a:65535", "http://[::1]", "http://[::1]:1", "https://a.example/"] {
                assert!(HttpSettings::from_flags([flag, good]).is_ok(), "{good}");
            }
        }
    }

    #[test]
    fn the_canvas_is_another_server() {
        for (flags, own) in [
            (&["--canvas-proxy-url", "http://localhost:8080/"][..], true),
            (&["--canvas-proxy-url", "http://127.0.0.1:81", "--port", "81"], true),
            (&["--canvas-proxy-url", "http://[::1]:8080"], true),
            (&["--canvas-proxy-url", "http://127.0.0.1", "--port", "80"], true),
            (&["--canvas-proxy-url", "https://I.example", "--platform-url", "https://i.example:443"], true),
            (
                &[
                    "--canvas-proxy-url",
                    "http://x.example:1",
                    "--external-platform-url",
                    "http://x.example:1",
                ],
                true,
            ),
            (&["--canvas-proxy-url", "http://localhost:3000"], false),
            (&["--canvas-proxy-url", "http://canvas:8080"], false),
            (&["--canvas-proxy-url", "http://localhost:8080", "--bind-addr", "::"], true),
            (&["--canvas-proxy-url", "http://localhost:8080", "--bind-addr", "192.0.2.1"], false),
            (&[], false),
        ] {
            assert_eq!(settings(flags).canvas_is_own(), own, "{flags:?}");
        }
    }

    #[test]
    fn a_blank_organization_is_none() {
        assert_eq!(settings(&["--molecule-org-id", " "]).org_id(), None);
    }
}
