//! The rule of which URLs agents may have: addresses of the policy, and none of the platform itself. An agent
//! at the platform's own address would make one message call itself again and again.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
};

use futures::future::join_all;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use url::{Host, Url};

use crate::{
    agent_url::{self, UrlError},
    limits::{LOOKUPS, RESOLVE_ALL_TIMEOUT},
    policy::{AddressPolicy, reached},
};

/// Which URLs agents may have. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AgentAddresses {
    policy: AddressPolicy,
    own: Arc<OwnAddresses>,
}

/// Where the platform itself is reached, as far as it knows.
#[derive(Debug, Default)]
struct OwnAddresses {
    listening: Option<SocketAddr>,
    urls: Vec<Url>,
}

impl AgentAddresses {
    /// The platform listens on `listening`, and is reached by `urls` from outside. Text that is no URL is
    /// left out.
    #[must_use]
    pub fn new<'a>(
        policy: AddressPolicy,
        listening: Option<SocketAddr>,
        urls: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let urls = urls.into_iter().filter_map(|url| agent_url::parse(url).ok()).collect();
        Self { policy, own: Arc::new(OwnAddresses { listening, urls }) }
    }

    /// Checks a URL that an agent reports, and resolves its host if that is a name. `localhost` passes: whether
    /// loopback may be called is decided when a connection is opened.
    ///
    /// # Errors
    /// If no agent may have that URL.
    pub async fn check(&self, url: &str) -> Result<(), UrlError> {
        let url = self.parse(url)?;
        let found = agent_url::check(&url, self.policy).await?;
        self.check_resolved(&url, &found)
    }

    /// Checks many URLs as [`check`](Self::check) does. A host is looked up once, and all within half a minute: where
    /// that is over, names that were not looked up count as not answered.
    pub async fn check_all(&self, urls: &[&str]) -> Vec<Result<(), UrlError>> {
        self.check_all_with(urls, agent_url::ips).await
    }

    async fn check_all_with(
        &self,
        urls: &[&str],
        resolve: impl AsyncFn(&str, u16) -> Result<Vec<IpAddr>, io::ErrorKind>,
    ) -> Vec<Result<(), UrlError>> {
        let parsed: Vec<Result<Url, UrlError>> = urls.iter().map(|url| self.parse(url)).collect();
        let end = Instant::now() + RESOLVE_ALL_TIMEOUT;
        let permits = Semaphore::new(LOOKUPS);
        let (permits, resolve) = (&permits, &resolve);
        let mut known = HashSet::new();
        let hosts = parsed.iter().flatten().filter(|url| known.insert(url.host()));
        // Permits are granted in the order of the URLs.
        let lookups = hosts.map(|url| async move {
            let resolve = async |host: &str, port| {
                let found = async {
                    let _permit = permits.acquire().await;
                    resolve(host, port).await
                };
                timeout_at(end, found).await.unwrap_or(Err(io::ErrorKind::TimedOut))
            };
            (url.host(), agent_url::check_with(url, self.policy, resolve).await)
        });
        let found: HashMap<_, _> = join_all(lookups).await.into_iter().collect();
        let checked = parsed.iter().map(|url| {
            let url = url.as_ref().map_err(Clone::clone)?;
            match found.get(&url.host()) {
                Some(Ok(found)) => self.check_resolved(url, found),
                Some(Err(error)) => Err(error.clone()),
                None => Err(UrlError::Malformed),
            }
        });
        checked.collect()
    }

    /// Reads a URL, and checks of it what takes no look-up.
    fn parse(&self, url: &str) -> Result<Url, UrlError> {
        let url = agent_url::parse(url)?;
        if agent_url::names_user(&url) {
            return Err(UrlError::UserInfo);
        }
        self.check_url(&url)?;
        Ok(url)
    }

    /// Why messages to an agent with this URL can't be delivered though it has it, as far as that can be told
    /// without looking its host up: `localhost` in production, or a URL from before the server's settings
    /// changed.
    #[must_use]
    pub fn problem(&self, url: &str) -> Option<UrlError> {
        let url = agent_url::parse(url).ok()?;
        let address = match url.host()? {
            Host::Domain("localhost") => IpAddr::from([127, 0, 0, 1]),
            Host::Domain(_) => return self.check_url(&url).err(),
            Host::Ipv4(ip) => ip.into(),
            Host::Ipv6(ip) => ip.into(),
        };
        let blocked = self.policy.block_reason(address).map(UrlError::Blocked);
        blocked.or_else(|| self.check_resolved(&url, &[address]).err())
    }

    /// Whether the URL leads to an agent, as far as that can be told without looking its host up.
    pub(crate) fn check_url(&self, url: &Url) -> Result<(), UrlError> {
        if self.own.urls.iter().any(|own| is_below(url, own)) { Err(UrlError::Own) } else { Ok(()) }
    }

    /// Addresses to connect to now. All of them passed the check, so any may be used; another lookup of the
    /// name may give others.
    pub(crate) async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, UrlError> {
        let found = agent_url::resolve(url, self.policy).await?;
        let ips: Vec<IpAddr> = found.iter().map(SocketAddr::ip).collect();
        self.check_resolved(url, &ips)?;
        Ok(found)
    }

    fn check_resolved(&self, url: &Url, addresses: &[IpAddr]) -> Result<(), UrlError> {
        let Some(listening) = self.own.listening else { return Ok(()) };
        let port = url.port_or_known_default();
        let own = port == Some(listening.port()) && addresses.iter().any(|ip| is_served(listening.ip(), *ip));
        if own { Err(UrlError::Own) } else { Ok(()) }
    }
}

/// Whether a server that listens on `listening` is reached by `ip`.
fn is_served(listening: IpAddr, ip: IpAddr) -> bool {
    let (listening, ip) = (reached(listening), reached(ip));
    listening == ip || listening.is_unspecified() && (ip.is_loopback() || is_local(ip))
}

/// Whether an interface of this machine has the address: only then a socket can be bound to it.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Whether `url` is the same host and port as `own`, at its path or below. The default ports of both schemes
/// count as one: a proxy that serves https mostly serves or redirects http too.
fn is_below(url: &Url, own: &Url) -> bool {
    let path = own.path().trim_end_matches('/');
    let below = url.path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    url.host() == own.host() && url.port() == own.port() && below
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVELOPMENT: AddressPolicy = AddressPolicy { saas: false, development: true };

    fn addresses(listening: &str) -> AgentAddresses {
        let urls = ["https://Platform.example/", "http://proxy.example:8080/isomer", "nonsense"];
        AgentAddresses::new(DEVELOPMENT, Some(listening.parse().unwrap()), urls)
    }

    #[tokio::test]
    async fn addresses_of_the_platform_are_no_agents() {
        for (listening, url, own) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/workspaces/x/a2a", true),
            ("127.0.0.1:8080", "http://localhost:8080", true),
            ("127.0.0.1:8080", "http://0x7f.1:8080", true),
            ("127.0.0.1:8080", "http://[::ffff:127.0.0.1]:8080", true),
            ("127.0.0.1:8080", "http://127.0.0.1:8081", false),
            ("127.0.0.1:8080", "http://127.0.0.2:8080", false),
            ("0.0.0.0:8080", "http://127.0.0.2:8080", true),
            ("[::]:8080", "http://127.0.0.1:8080", true),
            ("[::]:8080", "http://[::1]:8080", true),
            ("[::]:8080", "http://8.8.8.8:8080", false),
            ("8.8.8.8:8080", "http://[64:ff9b::8.8.8.8]:8080", true),
            ("0.0.0.0:80", "http://localhost", true),
            ("0.0.0.0:443", "https://localhost", true),
            ("0.0.0.0:443", "http://localhost", false),
        ] {
            let refused = addresses(listening).check(url).await;
            assert_eq!(refused, if own { Err(UrlError::Own) } else { Ok(()) }, "{listening} {url}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn names_of_many_urls_are_looked_up_together_each_once_and_with_one_deadline() {
        let lookups = std::sync::Mutex::new(Vec::new());
        let slow = async |host: &str, _| {
            lookups.lock().unwrap().push(host.to_owned());
            tokio::time::sleep(std::time::Duration::from_millis(4_900)).await;
            Ok(vec![IpAddr::from([8, 8, 8, 8])])
        };
        let begun = Instant::now();
        let urls: Vec<String> =
            (0..40).map(|number| format!("http://a{}.example/{number}", number % 20)).collect();
        let mut urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        urls.extend(["ftp://a1.example", "http://me@a1.example", "http://10.0.0.1"]);
        let checked = addresses("127.0.0.1:1").check_all_with(&urls, slow).await;
        assert!(begun.elapsed().as_secs() < 10, "two rounds");
        assert_eq!(lookups.lock().unwrap().len(), 20);
        assert!(checked[..40].iter().all(Result::is_ok));
        assert_eq!(checked[40], Err(UrlError::Scheme("ftp".to_owned())));
        assert_eq!(checked[41], Err(UrlError::UserInfo));
        assert!(matches!(checked[42], Err(UrlError::Blocked(_))));
        let urls: Vec<String> = (0..2_000).map(|number| format!("http://a{number}.example")).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let (begun, checked) = (Instant::now(), addresses("127.0.0.1:1").check_all_with(&urls, slow).await);
        assert!(begun.elapsed().as_secs() <= 30, "{:?}", begun.elapsed());
        let first = checked.iter().position(Result::is_err);
        assert_eq!(first, Some(96), "six rounds of sixteen");
        let late = UrlError::Unresolved { host: "a96.example".to_owned(), reason: "lookup timed out" };
        assert_eq!(checked[96], Err(late));
    }

    #[tokio::test]
    async fn urls_with_a_user_are_refused() {
        for url in
            ["http://me:secret@8.8.8.8", "http://me@8.8.8.8", "https://:secret@8.8.8.8/x", "http:me@8.8.8.8"]
        {
            assert_eq!(AgentAddresses::default().check(url).await, Err(UrlError::UserInfo), "{url}");
            assert!(agent_url::has_user_info(url), "{url}");
        }
        for url in ["http://8.8.8.8/me@home", "http://8.8.8.8?to=me:secret@8.8.8.8", "http://8.8.8.8#me@home"]
        {
            assert_eq!(AgentAddresses::default().check(url).await, Ok(()), "{url}");
            assert!(!agent_url::has_user_info(url), "{url}");
        }
    }

    #[test]
    fn public_urls_of_the_platform_are_no_agents() {
        for (url, own) in [
            ("https://platform.example", true),
            ("https://platform.example:443/workspaces/x/a2a", true),
            ("http://platform.example/workspaces/x/a2a", true),
            ("https://me@PLATFORM.example/x?y#z", true),
            ("https://platform.example:8443", false),
            ("https://platform.example.org", false),
            ("http://proxy.example:8080/isomer", true),
            ("http://proxy.example:8080/isomer/workspaces/x/a2a", true),
            ("http://proxy.example:8080/isomers", false),
            ("http://proxy.example:8080/agents/x", false),
        ] {
            let checked = addresses("127.0.0.1:1").check_url(&agent_url::parse(url).unwrap());
            assert_eq!(checked, if own { Err(UrlError::Own) } else { Ok(()) }, "{url}");
        }
    }

    #[tokio::test]
    async fn localhost_is_registered_everywhere_and_callable_in_development_only() {
        let production = AgentAddresses::default();
        production.check("http://localhost:9").await.unwrap();
        let problem = production.problem("http://localhost:9").unwrap();
        assert!(problem.hint().unwrap().contains("MOLECULE_ENV=development"), "{problem}");
        assert_eq!(addresses("127.0.0.1:1").problem("http://localhost:9"), None);
        production.check("http://127.0.0.1:9").await.unwrap_err();
        addresses("127.0.0.1:1").check("http://127.0.0.1:9").await.unwrap();
        addresses("127.0.0.1:1").check("http://[::1]:9").await.unwrap();
        addresses("127.0.0.1:1").check("http://10.0.0.1:9").await.unwrap_err();
    }
}
