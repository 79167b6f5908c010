//! Rate limits. Their clock is advanced by the tests alone.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use api::app::App;
use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::get;
use governor::Quota;
use governor::clock::FakeRelativeClock;
use httpd::rate_limit::{KeyedLimiter, LimiterClock, Rule, limited};
use httpd::router_ext::RouterExt;

use crate::transport::wire::{Answer, Client, PATIENT, Server, request};

const MINUTE: Duration = Duration::from_secs(60);

/// The routes of the product and some of this test.
fn routes(app: &App) -> Router<App> {
    let mcp = || limited(&app.limits.mcp, get(async || "answered"));
    api::routes(app)
        .endpoint("/explode", get(async || -> &'static str { panic!("on purpose") }))
        .endpoint("/mcp", mcp())
        .endpoint("/mcp/stream", mcp())
}

async fn server(flags: &[&str]) -> (Server, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    let server = Server::with_clock(LimiterClock::Manual(clock.clone()), flags, PATIENT, routes).await;
    (server, clock)
}

/// Headers: limit, remaining, reset, retry-after.
fn limit_headers(answer: &Answer) -> [Option<&str>; 4] {
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"].map(|name| {
        let values = answer.headers(name);
        assert!(values.len() <= 1, "{answer:?}");
        values.first().copied()
    })
}

fn allowed<'a>(limit: &'a str, remaining: &'a str, reset: &'a str) -> [Option<&'a str>; 4] {
    [Some(limit), Some(remaining), Some(reset), None]
}

/// Statuses of successive requests.
async fn statuses(server: &Server, requests: usize, headers: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(server.ask("GET", "/health", headers).await.status());
    }
    statuses
}

// === All routes ===

#[tokio::test]
async fn rate_limit_headers_count_down_to_a_refusal() {
    let (server, clock) = server(&["--rate-limit", "3"]).await;
    for (remaining, reset) in [("2", "20"), ("1", "40"), ("0", "60")] {
        let answer = server.get("/health").await;
        assert_eq!((answer.status(), limit_headers(&answer)), (200, allowed("3", remaining, reset)));
    }
    let answer = server.get("/health").await;
    assert_eq!(answer.status(), 429);
    assert_eq!(limit_headers(&answer), [Some("3"), Some("0"), Some("60"), Some("20")]);
    assert_eq!(answer.body, r#"{"error":"rate limit exceeded","retry_after":20}"#);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    clock.advance(MINUTE / 3);
    assert_eq!(limit_headers(&server.get("/health").await), allowed("3", "0", "60"));
    clock.advance(MINUTE);
    assert_eq!(limit_headers(&server.get("/health").await), allowed("3", "2", "20"));
}

#[tokio::test]
async fn the_default_is_600_a_minute() {
    let (server, _) = server(&[]).await;
    assert_eq!(limit_headers(&server.get("/health").await), allowed("600", "599", "1"));
}

#[tokio::test]
async fn rate_limit_headers_are_in_title_case() {
    let (server, _) = server(&["--rate-limit", "1"]).await;
    server.get("/health").await;
    let answer = server.get("/health").await;
    for name in ["X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", "Retry-After"] {
        assert!(answer.head.contains(&format!("\r\n{name}: ")), "{name} in {}", answer.head);
    }
}

#[tokio::test]
async fn every_answer_counts_and_carries_the_headers() {
    let (server, _) = server(&["--rate-limit", "100", "--admin-token", "right"]).await;
    let mut left = 100;
    for (method, target, status) in [
        ("GET", "/health", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nothing", 404),
        ("POST", "/health", 404),
        ("GET", "/health/", 301),
        ("GET", "/admin/guests", 401),
        ("GET", "/explode", 500),
        ("HEAD", "/health", 200),
    ] {
        let answer = server.ask(method, target, &[]).await;
        left -= 1;
        assert_eq!(answer.status(), status, "{method} {target}");
        assert_eq!(
            limit_headers(&answer)[..2],
            [Some("100"), Some(left.to_string().as_str())],
            "{method} {target}"
        );
    }
}

#[tokio::test]
async fn health_and_metrics_are_rate_limited_too() {
    let (server, _) = server(&["--rate-limit", "1"]).await;
    server.get("/nothing").await;
    for target in ["/health", "/metrics", "/buildinfo", "/nothing"] {
        assert_eq!(server.get(target).await.status(), 429, "{target}");
    }
}

#[tokio::test]
async fn answers_of_outer_middleware_are_not_counted() {
    let (server, _) = server(&["--rate-limit", "1", "--molecule-org-id", "org"]).await;
    for (method, target, headers, status) in [
        ("GET", "/things", &[][..], 404),
        ("GET", "/health", &["Origin: https://evil.example"], 403),
        ("OPTIONS", "/health", &["Origin: http://localhost:3000"], 204),
    ] {
        let answer = server.ask(method, target, headers).await;
        assert_eq!((answer.status(), limit_headers(&answer)), (status, [None; 4]), "{method} {target}");
    }
    assert_eq!(statuses(&server, 2, &[]).await, [200, 429]);
}

#[tokio::test]
async fn a_browser_may_read_a_refusal() {
    let (server, _) = server(&["--rate-limit", "1"]).await;
    server.get("/health").await;
    let answer = server.ask("GET", "/health", &["Origin: http://localhost:3000"]).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
}

#[tokio::test]
async fn dev_mode_has_no_limit() {
    let (server, _) = server(&["--rate-limit", "1", "--molecule-env", "dev"]).await;
    for target in ["/health", "/nothing", "/admin/guests"] {
        let answer = server.get(target).await;
        assert_ne!(answer.status(), 429);
        assert_eq!(limit_headers(&answer), [Some("unlimited"), None, None, None]);
    }
    // With an admin token this is not dev mode.
    let (server, _) =
        self::server(&["--rate-limit", "1", "--molecule-env", "dev", "--admin-token", "t"]).await;
    assert_eq!(statuses(&server, 2, &[]).await, [200, 429]);
}

#[tokio::test]
async fn a_websocket_is_one_request() {
    let clock = FakeRelativeClock::default();
    let server = Server::with_clock(LimiterClock::Manual(clock), &["--rate-limit", "3"], PATIENT, |app| {
        let upgrade = async |socket: WebSocketUpgrade| socket.on_upgrade(|_| std::future::pending());
        api::routes(app).endpoint("/socket", get(upgrade))
    })
    .await;
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let mut client = server.connect().await;
    client.write(&request("GET", "/socket", &upgrade, "")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), limit_headers(&answer)), (101, allowed("3", "2", "20")));
    assert_eq!(limit_headers(&server.get("/health").await)[1], Some("1"));
    server.get("/health").await;
    assert_eq!(server.ask("GET", "/socket", &upgrade).await.status(), 429);
}

// === Keys ===

#[tokio::test]
async fn a_bearer_has_one_budget_from_every_address() {
    let (server, _) = server(&["--rate-limit", "2"]).await;
    assert_eq!(statuses(&server, 3, &[]).await, [200, 200, 429]);
    assert_eq!(statuses(&server, 1, &["Authorization: Bearer a"]).await, [200]);
    // The scheme is case-insensitive.
    assert_eq!(statuses(&server, 2, &["Authorization: bEARER a"]).await, [200, 429]);
    let mut elsewhere = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address).await;
    elsewhere.write(&request("GET", "/health", &["Authorization: Bearer a"], "")).await;
    assert_eq!(elsewhere.answer().await.status(), 429);
    assert_eq!(statuses(&server, 3, &["Authorization: Bearer b"]).await, [200, 200, 429]);
    // Another scheme is limited by address.
    assert_eq!(statuses(&server, 1, &["Authorization: Basic b"]).await, [429]);
}

#[tokio::test]
async fn addresses_have_budgets_of_their_own() {
    let (server, _) = server(&["--rate-limit", "1"]).await;
    assert_eq!(statuses(&server, 2, &[]).await, [200, 429]);
    for expected in [200, 429] {
        let mut client = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address).await;
        client.write(&request("GET", "/health", &[], "")).await;
        assert_eq!(client.answer().await.status(), expected);
    }
}

#[tokio::test]
async fn only_the_organization_of_the_server_has_a_budget() {
    let ours = ["X-Molecule-Org-Id:  org-1 ", "Authorization: Bearer right"];
    let flags = ["--rate-limit", "2", "--molecule-org-id", "org-1", "--admin-token", "right"];
    let (server, _) = server(&flags).await;
    // Who only names it has no part in it.
    let named = "X-Molecule-Org-Id: org-1";
    for stranger in [&[named][..], &[named, "Authorization: Bearer b"]] {
        assert_eq!(statuses(&server, 3, stranger).await, [200, 200, 429]);
    }
    assert_eq!(statuses(&server, 3, &ours).await, [200, 200, 429]);
    // Other values are ignored: the next key counts.
    for other in ["org-2", "ORG-1", " "] {
        let header = format!("X-Molecule-Org-Id: {other}");
        let remaining =
            limit_headers(&server.ask("GET", "/health", &[&header, "Authorization: Bearer c"]).await)[1]
                .map(ToOwned::to_owned);
        let left = match other {
            "org-2" => Some("1"),
            "ORG-1" => Some("0"),
            _ => Some("0"), // refused
        };
        assert_eq!(remaining.as_deref(), left, "{other}");
    }
}

#[tokio::test]
async fn made_up_organizations_get_no_budget() {
    let (server, _) = server(&["--rate-limit", "2"]).await;
    for (number, expected) in [200, 200, 429].into_iter().enumerate() {
        let header = format!("X-Molecule-Org-Id: org-{number}");
        assert_eq!(statuses(&server, 1, &[&header]).await, [expected]);
    }
}

#[tokio::test]
async fn made_up_bearers_are_limited_by_address() {
    let (server, clock) = server(&["--rate-limit", "2"]).await;
    for number in 0..20 {
        let header = format!("Authorization: Bearer made-up-{number}");
        assert_eq!(statuses(&server, 1, &[&header]).await, [200], "{number}");
    }
    let answer = server.ask("GET", "/health", &["Authorization: Bearer made-up-20"]).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.body, r#"{"error":"rate limit exceeded","retry_after":3}"#);
    assert_eq!(limit_headers(&answer), [Some("2"), Some("0"), Some("60"), Some("3")]);
    assert_eq!(server.get("/health").await.status(), 429);
    // The budget of the address is exhausted. From another address, the bearer has its full budget.
    let mut elsewhere = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address).await;
    elsewhere.write(&request("GET", "/health", &["Authorization: Bearer made-up-20"], "")).await;
    assert_eq!(limit_headers(&elsewhere.answer().await)[1], Some("1"));
    clock.advance(MINUTE / 20);
    assert_eq!(statuses(&server, 2, &["Authorization: Bearer x"]).await, [200, 429]);
}

#[tokio::test]
async fn forwarding_headers_are_ignored_unless_the_proxy_is_trusted() {
    let forwarded = |client: &str| {
        ["X-Forwarded-For", "X-Real-Ip", "Forwarded", "Cf-Connecting-Ip"]
            .map(|name| format!("{name}: {client}"))
    };
    let (server, _) = server(&["--rate-limit", "1", "--trusted-proxies", "127.0.0.2"]).await;
    for (client, expected) in [("1.1.1.1", 200), ("1.1.1.2", 429)] {
        let headers = forwarded(client);
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        assert_eq!(statuses(&server, 1, &headers).await, [expected]);
    }
    let through_proxy = async |list: &str| {
        let mut proxy = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address).await;
        let header = format!("X-Forwarded-For: {list}");
        proxy.write(&request("GET", "/health", &[&header], "")).await;
        proxy.answer().await.status()
    };
    assert_eq!(through_proxy("1.1.1.1").await, 200);
    assert_eq!(through_proxy("1.1.1.2").await, 200);
    // Only the address that the trusted proxy appended counts.
    assert_eq!(through_proxy("1.1.1.3, 1.1.1.2").await, 429);
    // A /64 prefix is one client.
    assert_eq!(through_proxy("2001:db8::1").await, 200);
    assert_eq!(through_proxy("2001:db8::ffff:1").await, 429);
    assert_eq!(through_proxy("2001:db8:0:1::1").await, 200);
}

// === Routes with a budget of their own ===

#[tokio::test]
async fn mcp_is_limited_to_120_a_minute_for_each_bearer_even_in_dev_mode() {
    for mode in [&["--rate-limit", "600"][..], &["--molecule-env", "dev"]] {
        let (server, _) = server(mode).await;
        let first = ["Authorization: Bearer a"];
        for remaining in (0..120).rev() {
            // Two routes, one budget.
            let target = if remaining % 2 == 0 { "/mcp" } else { "/mcp/stream" };
            let answer = server.ask("GET", target, &first).await;
            let remaining = remaining.to_string();
            assert_eq!(limit_headers(&answer)[..2], [Some("120"), Some(remaining.as_str())]);
        }
        let answer = server.ask("GET", "/mcp", &["Authorization: bearer a"]).await;
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.body, r#"{"error":"MCP rate limit exceeded","retry_after":1}"#);
        assert_eq!(limit_headers(&answer), [Some("120"), Some("0"), Some("60"), Some("1")]);
        assert_eq!(
            limit_headers(&server.ask("GET", "/mcp", &["Authorization: Bearer b"]).await)[1],
            Some("119")
        );
        // Without a bearer the address counts.
        assert_eq!(limit_headers(&server.get("/mcp").await)[1], Some("119"));
        assert_eq!(limit_headers(&server.get("/mcp").await)[1], Some("118"));
    }
}

#[tokio::test]
async fn an_organization_has_no_budget_for_mcp() {
    let (server, _) = server(&["--molecule-org-id", "org"]).await;
    for (bearer, remaining) in [("a", "119"), ("b", "119"), ("a", "118")] {
        let bearer = format!("Authorization: Bearer {bearer}");
        let answer = server.ask("GET", "/mcp", &["X-Molecule-Org-Id: org", &bearer]).await;
        assert_eq!(limit_headers(&answer)[1], Some(remaining));
    }
}

#[tokio::test]
async fn refusals_are_counted_by_limiter() {
    let rule = Rule {
        name: "of-this-test",
        quota: Quota::per_minute(NonZeroU32::MIN),
        refusal: "enough",
        org_id: None,
        enabled: true,
    };
    let server = Server::with_routes(&[], |app| {
        let limiter = Arc::new(KeyedLimiter::new(rule, LimiterClock::Manual(FakeRelativeClock::default())));
        api::routes(app).endpoint("/once", limited(&limiter, get(async || "ok")))
    })
    .await;
    let counted = async |count: u32| {
        let line = format!("isomer_rate_limited_total{{limiter=\"of-this-test\"}} {count}");
        server.get("/metrics").await.body.lines().any(|l| l == line)
    };
    assert!(counted(0).await);
    for status in [200, 429, 429] {
        assert_eq!(server.get("/once").await.status(), status);
    }
    assert!(counted(2).await);
    let metrics = server.get("/metrics").await.body;
    for name in ["global", "address", "mcp"] {
        assert!(metrics.contains(&format!("isomer_rate_limited_total{{limiter=\"{name}\"}} ")), "{name}");
    }
}
