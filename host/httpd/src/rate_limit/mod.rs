//! Rate limits: how many requests one caller may send.
//!
//! A caller has a budget of N requests, its *burst*, which fills up again evenly: N per window. That
//! is GCRA, as governor has it. What is left of the burst is `X-RateLimit-Remaining`; whole seconds
//! until it is full are `X-RateLimit-Reset`; a refused caller reads in `Retry-After` when one more
//! request will be allowed.
//!
//! | Limiter | Key | Budget |
//! |---|---|---|
//! | `address` | every address (IPv6: every /64) | 10 × `RATE_LIMIT` a minute |
//! | `global` | the organization of this server, for its credentials; else the bearer; else the address | `RATE_LIMIT` a minute |
//! | `mcp` | the bearer, else the address; for the routes of MCP | 120 a minute |
//!
//! The limiter stands before authentication, so a bearer may be invented: each one has a budget of
//! its own. That is what the ceiling per address is for, which is counted first: an address that is
//! over it uses up no other budget and adds no key. An organization counts only if it is ours, and for
//! requests with one of its credentials, because a header can be invented, too.
//!
//! The middleware counts the requests of all routes. A route with a budget of its own is wrapped in [`limited`]. The
//! tokens that one maker makes for the organization within an hour are counted in the database, for all servers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use governor::clock::{Clock, FakeRelativeClock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use metrics::Counter;
use serde_json::json;
use sha2::{Digest, Sha256};

use self::table::{CountedKey, Key, Table};
use super::client_ip::ClientIp;
use super::error::ApiError;
use super::headers::text;
use crate::settings::HttpSettings;

mod table;

/// How often [`RateLimits::forget_idle`] should be called.
pub(crate) const FORGET_EVERY: Duration = Duration::from_secs(5 * 60);

/// What one address may send, in budgets of one caller.
const CEILING: u32 = 10;
const MCP_PER_MINUTE: NonZeroU32 = NonZeroU32::new(120).unwrap();

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const ORG_ID: HeaderName = HeaderName::from_static("x-molecule-org-id");
const UNLIMITED: HeaderValue = HeaderValue::from_static("unlimited");

const EXCEEDED: &str = "rate limit exceeded";

/// The clock of the limiters.
#[derive(Debug, Clone)]
pub enum LimiterClock {
    /// The monotonic clock, counted from this moment.
    System(Instant),
    /// A clock that a test advances.
    Manual(FakeRelativeClock),
}

impl Default for LimiterClock {
    fn default() -> Self {
        Self::System(Instant::now())
    }
}

impl Clock for LimiterClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        match self {
            Self::System(start) => start.elapsed().into(),
            Self::Manual(clock) => clock.now(),
        }
    }
}

// === One limiter ===

/// What a limiter is made of.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name in metrics and in the log.
    pub name: &'static str,
    /// What each caller may send.
    pub quota: Quota,
    /// The error text of a refusal.
    pub refusal: &'static str,
    /// The organization whose requests share one budget. None: callers are told apart by bearer and
    /// address only.
    pub org_id: Option<String>,
    /// Whether it refuses requests at all.
    pub enabled: bool,
}

/// Says whether a bearer is a credential.
type IsCredential = dyn Fn(&str) -> bool + Send + Sync;

/// The credentials of this server. No bearer is one until they are known.
#[derive(Default)]
struct Credentials(OnceLock<Box<IsCredential>>);

impl Credentials {
    fn include(&self, bearer: &str) -> bool {
        self.0.get().is_some_and(|is_credential| is_credential(bearer))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Budgets of one kind, one for each caller.
#[derive(Debug)]
pub struct KeyedLimiter {
    rule: Rule,
    credentials: Credentials,
    limit: HeaderValue,
    budgets: RateLimiter<CountedKey, Table, LimiterClock, StateInformationMiddleware>,
    /// When `budgets` began to count its time.
    begun: Nanos,
    refused: Counter,
}

/// What a caller has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuotaStatus {
    limit: HeaderValue,
    remaining: u32,
    /// Until the burst is full again.
    reset: Duration,
}

/// A caller has nothing left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    text: &'static str,
    status: QuotaStatus,
    /// Until one more request is allowed.
    wait: Duration,
}

impl KeyedLimiter {
    /// A limiter with all budgets full.
    #[must_use]
    pub fn new(rule: Rule, clock: LimiterClock) -> Self {
        let refused = metrics::counter!("isomer_rate_limited_total", "limiter" => rule.name);
        refused.absolute(0);
        let begun = clock.now();
        Self {
            limit: rule.quota.burst_size().get().into(),
            budgets: RateLimiter::new(rule.quota, Table::new(), clock),
            credentials: Credentials::default(),
            begun,
            refused,
            rule,
        }
    }

    /// The budget that a request is counted against.
    fn key(&self, headers: &HeaderMap, client: IpAddr) -> Key {
        let Some(token) = bearer(headers) else { return Key::Address(client) };
        let ours = self.rule.org_id.as_deref();
        let is_for_us = ours.is_some() && text(headers, ORG_ID).map(str::trim) == ours;
        if is_for_us && self.credentials.include(token) {
            return Key::Org;
        }
        Key::Token(Sha256::digest(token.as_bytes()).into())
    }

    /// Counts a request.
    fn check(&self, key: Key) -> Result<QuotaStatus, Box<Refusal>> {
        let counted = CountedKey::new(key);
        let answer = self.budgets.check_key(&counted);
        let now = self.budgets.clock().now();
        let limit = self.limit.clone();
        match answer {
            Ok(after) => {
                let reset = counted.full_at.get().saturating_sub(now.duration_since(self.begun));
                let remaining = after.remaining_burst_capacity();
                Ok(QuotaStatus { limit, remaining, reset: reset.into() })
            }
            Err(until) => {
                self.refused.increment(1);
                tracing::debug!(limiter = self.rule.name, by = key.kind(), "refused by rate limit");
                let wait = until.wait_time_from(now);
                let quota = self.rule.quota;
                let reset = wait + quota.replenish_interval() * (quota.burst_size().get() - 1);
                let status = QuotaStatus { limit, remaining: 0, reset };
                Err(Box::new(Refusal { text: self.rule.refusal, status, wait }))
            }
        }
    }

    fn admit(&self, request: &Request) -> Result<QuotaStatus, Box<Refusal>> {
        self.check(self.key(request.headers(), network(request)))
    }

    /// Forgets the callers whose burst is full again: so is a budget that was not used for ten minutes,
    /// unless its window is longer. A forgotten budget is a full one, so no caller gains by it.
    fn forget_idle(&self) {
        self.budgets.retain_recent();
        self.budgets.shrink_to_fit();
    }
}

/// The token of `Authorization: Bearer <token>`, the scheme in any case. Not that of
/// the auth classes: it only counts here, it lets no request in.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

/// The network that a request comes from. All that come over no socket count as one.
fn network(request: &Request) -> IpAddr {
    let client = request.extensions().get::<ClientIp>();
    client.map_or(Ipv4Addr::UNSPECIFIED.into(), |client| client.network())
}

// === Headers and refusals ===

impl QuotaStatus {
    fn write_headers(self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, self.limit);
        headers.insert(REMAINING, self.remaining.into());
        headers.insert(RESET, whole_seconds(self.reset).into());
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let seconds = whole_seconds(self.wait).max(1);
        let body = json!({ "error": self.text, "retry_after": seconds });
        let mut response = ApiError::with_body(StatusCode::TOO_MANY_REQUESTS, body).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        self.status.write_headers(response.headers_mut());
        response
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

// === All limiters ===

/// The limiters of one server.
#[derive(Debug)]
pub struct RateLimits {
    ceiling: KeyedLimiter,
    callers: KeyedLimiter,
    /// For the routes of the MCP bridge, which share it. In force in dev mode, too.
    pub mcp: Arc<KeyedLimiter>,
}

impl RateLimits {
    /// The limiters of the settings.
    #[must_use]
    pub fn new(settings: &HttpSettings, dev_mode: bool) -> Self {
        Self::with_clock(settings, dev_mode, &LimiterClock::default())
    }

    /// The limiters of the settings, by a given clock.
    #[must_use]
    pub fn with_clock(settings: &HttpSettings, dev_mode: bool, clock: &LimiterClock) -> Self {
        let each = settings.rate_limit;
        let callers = Rule {
            name: "global",
            quota: Quota::per_minute(each),
            refusal: EXCEEDED,
            org_id: settings.org_id().map(ToOwned::to_owned),
            enabled: !dev_mode,
        };
        let address = each.saturating_mul(NonZeroU32::MIN.saturating_add(CEILING - 1));
        let ceiling =
            Rule { name: "address", quota: Quota::per_minute(address), org_id: None, ..callers.clone() };
        let mcp = Rule {
            name: "mcp",
            quota: Quota::per_minute(MCP_PER_MINUTE),
            refusal: "MCP rate limit exceeded",
            org_id: None,
            enabled: true,
        };
        let limiter = |rule| KeyedLimiter::new(rule, clock.clone());
        Self { ceiling: limiter(ceiling), callers: limiter(callers), mcp: Arc::new(limiter(mcp)) }
    }

    /// Says from now on which bearers are credentials of this server. Only the first call counts.
    pub fn know_credentials(&self, is_credential: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let _ = self.callers.credentials.0.set(Box::new(is_credential));
    }

    /// Drops the budgets of callers that sent nothing for a while; see [`FORGET_EVERY`].
    pub(crate) fn forget_idle(&self) {
        [&self.ceiling, &self.callers, &self.mcp].into_iter().for_each(KeyedLimiter::forget_idle);
    }

    fn admit(&self, request: &Request) -> Result<QuotaStatus, Box<Refusal>> {
        if let Err(mut refusal) = self.ceiling.check(Key::Address(network(request))) {
            // The headers show the limit of one caller, which is the one that clients know.
            refusal.status.limit = self.callers.limit.clone();
            return Err(refusal);
        }
        self.callers.admit(request)
    }
}

// === Middleware and layer ===

/// Marks an answer whose headers are about the limiter of its route.
#[derive(Debug, Clone, Copy)]
struct Marker;

impl RateLimits {
    /// Counts a request. `None`: limits are off.
    ///
    /// # Errors
    /// The refusal of a caller that has nothing left.
    pub(crate) fn check(&self, request: &Request) -> Result<Option<QuotaStatus>, Box<Refusal>> {
        if !self.callers.rule.enabled {
            return Ok(None);
        }
        self.admit(request).map(Some)
    }

    /// Says in an answer what its caller has left.
    pub(crate) fn write_headers(status: Option<QuotaStatus>, response: &mut Response) {
        if response.extensions().get::<Marker>().is_some() {
            return;
        }
        match status {
            Some(status) => status.write_headers(response.headers_mut()),
            None => drop(response.headers_mut().insert(LIMIT, UNLIMITED)),
        }
    }
}

/// Gives methods a budget of their own, beside the one of all routes. Several routes may share a
/// limiter.
pub fn limited<S>(limiter: &Arc<KeyedLimiter>, methods: MethodRouter<S>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    methods.route_layer(from_fn_with_state(Arc::clone(limiter), limit_route))
}

async fn limit_route(State(limiter): State<Arc<KeyedLimiter>>, request: Request, next: Next) -> Response {
    if !limiter.rule.enabled {
        return next.run(request).await;
    }
    let mut response = match limiter.admit(&request) {
        Ok(status) => {
            let mut response = next.run(request).await;
            status.write_headers(response.headers_mut());
            response
        }
        Err(refusal) => (*refusal).into_response(),
    };
    response.extensions_mut().insert(Marker);
    response
}

#[cfg(test)]
mod tests;
