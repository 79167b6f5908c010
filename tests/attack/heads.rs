//! Requests that two readers could understand in two ways, and requests that no client sends by accident.
//!
//! A proxy in front of the server and the server must agree where a request ends and what it asks for. Whatever is
//! not clear is refused at once, and never answered twice.

use std::fmt::Write as _;

use support::{Database, Server, Start};

use crate::raw::{Answer, End, Raw};

/// What an attack may lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// One answer below 500 that refuses, or the end of the connection.
    Refused,
    /// The same, and the connection ends.
    RefusedAndClosed,
    /// One answer: what was asked for, or a refusal.
    AnsweredOnce,
}

use Outcome::{AnsweredOnce, Refused, RefusedAndClosed};

/// A request that is answered with 200, if a reader finds it in another one.
const SMUGGLED: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn with(headers: &str) -> String {
    format!("GET /workspaces HTTP/1.1\r\n{headers}\r\n\r\n")
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /registry/check-access HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n{body}")
}

/// Name, bytes, outcome.
fn attacks() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    let many = |count: usize| {
        let mut lines = "Host: localhost".to_owned();
        for number in 0..count {
            let _ = write!(lines, "\r\nX-{number}: y");
        }
        with(&lines)
    };
    let mut attacks: Vec<(&'static str, String, Outcome)> = vec![
        // === Whose request it is ===
        ("two bearers", with("Host: localhost\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b"), Refused),
        ("the same bearer twice", with("Host: localhost\r\nAuthorization: Bearer a\r\nauthorization: Bearer a"), Refused),
        ("two hosts", with("Host: localhost\r\nHost: attacker.example"), Refused),
        ("the same host twice", with("Host: localhost\r\nHost: localhost"), Refused),
        ("no host", with("Accept: */*"), Refused),
        ("a terabyte", post("Content-Length: 1099511627776", "{}"), RefusedAndClosed),
        ("an absolute target that hides a foreign host", "GET http://attacker.example/workspaces HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), Refused),
        ("an empty host", with("Host:"), Refused),
        ("a host with a path", with("Host: localhost/attacker.example"), Refused),
        ("a host with a user", with("Host: a@localhost"), Refused),
        ("a foreign host in development", with("Host: attacker.example"), Refused),
        ("a list of hosts", with("Host: localhost, attacker.example"), Refused),
        // === Where it ends ===
        ("a length and chunks", post("Content-Length: 4\r\nTransfer-Encoding: chunked", &format!("0\r\n\r\n{SMUGGLED}")), RefusedAndClosed),
        ("chunks and a length", post("Transfer-Encoding: chunked\r\nContent-Length: 5", &format!("0\r\n\r\n{SMUGGLED}")), RefusedAndClosed),
        ("two lengths", post("Content-Length: 0\r\nContent-Length: 42", SMUGGLED), RefusedAndClosed),
        ("a list of lengths", post("Content-Length: 0, 42", SMUGGLED), RefusedAndClosed),
        ("a negative length", post("Content-Length: -1", SMUGGLED), RefusedAndClosed),
        ("a signed length", post("Content-Length: +0", SMUGGLED), RefusedAndClosed),
        ("a hexadecimal length", post("Content-Length: 0x0", SMUGGLED), RefusedAndClosed),
        ("a length of no number", post("Content-Length: many", SMUGGLED), RefusedAndClosed),
        ("a length of 2^64", post("Content-Length: 18446744073709551616", SMUGGLED), RefusedAndClosed),
        ("an absurd length", post("Content-Length: 18446744073709551615", "{}"), RefusedAndClosed),
        ("an unknown coding", post("Transfer-Encoding: identity", SMUGGLED), RefusedAndClosed),
        ("chunks in another case, twice", post("Transfer-Encoding: Chunked\r\nTransfer-Encoding: identity", &format!("0\r\n\r\n{SMUGGLED}")), RefusedAndClosed),
        ("chunks that are not the last coding", post("Transfer-Encoding: chunked, gzip", &format!("0\r\n\r\n{SMUGGLED}")), RefusedAndClosed),
        ("a hidden coding", post("Transfer-Encoding : chunked", &format!("0\r\n\r\n{SMUGGLED}")), RefusedAndClosed),
        ("a coding with a vertical tab", post("Transfer-Encoding: \x0bchunked", &format!("0\r\n\r\n{SMUGGLED}")), RefusedAndClosed),
        ("a chunk of 2^64 bytes", post("Transfer-Encoding: chunked", &format!("10000000000000000\r\n{SMUGGLED}")), RefusedAndClosed),
        ("a chunk size of no number", post("Transfer-Encoding: chunked", &format!("zz\r\n{SMUGGLED}")), RefusedAndClosed),
        ("a chunk size with a sign", post("Transfer-Encoding: chunked", &format!("+0\r\n\r\n{SMUGGLED}")), RefusedAndClosed),
        ("a chunk without its line end", post("Transfer-Encoding: chunked", &format!("2\r\n{{}}0\r\n\r\n{SMUGGLED}")), RefusedAndClosed),
        ("a chunk extension without end", post("Transfer-Encoding: chunked", &format!("2;{}", "x".repeat(100_000))), RefusedAndClosed),
        ("trailers without end", post("Transfer-Encoding: chunked", &format!("0\r\n{}", "X: y\r\n".repeat(50_000))), RefusedAndClosed),
        ("chunks in HTTP/1.0", format!("POST /registry/check-access HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"), RefusedAndClosed),
        // === How its lines end ===
        ("a folded header", with("Host: localhost\r\nX-A: b\r\n c: d"), Refused),
        ("a folded bearer", with("Host: localhost\r\nAuthorization:\r\n Bearer a"), Refused),
        ("a carriage return in a header", with("Host: localhost\r\nX-A: b\rX-C: d"), Refused),
        ("a NUL in a header", with("Host: localhost\r\nX-A: b\0c"), Refused),
        ("a NUL in a name", with("Host: localhost\r\nX-\0A: b"), Refused),
        ("a header without a colon", with("Host: localhost\r\nX-A"), Refused),
        ("a header without a name", with("Host: localhost\r\n: b"), Refused),
        ("a blank before the colon", with("Host : localhost"), Refused),
        ("a blank before the first header", with(" Host: localhost"), Refused),
        ("line feeds alone", with("Host: localhost").replace("\r\n", "\n"), AnsweredOnce),
        ("a line feed among others", with("Host: localhost\nX-A: b"), AnsweredOnce),
        // === How much it is ===
        ("101 headers", many(101), Refused),
        ("100,000 headers", many(100_000), Refused),
        ("a header of 100,000 bytes", with(&format!("Host: localhost\r\nX-A: {}", "b".repeat(100_000))), Refused),
        ("a name of 100,000 bytes", with(&format!("Host: localhost\r\n{}: b", "a".repeat(100_000))), Refused),
        ("a target of 100,000 bytes", format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(100_000)), Refused),
        ("a method of 100,000 bytes", format!("{} / HTTP/1.1\r\nHost: localhost\r\n\r\n", "A".repeat(100_000)), Refused),
        // === What it asks for ===
        ("HTTP/0.9", "GET /health\r\n\r\n".to_owned(), RefusedAndClosed),
        ("HTTP/2.0", "GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n".to_owned(), RefusedAndClosed),
        ("HTTP/1.2", "GET /health HTTP/1.2\r\nHost: localhost\r\n\r\n".to_owned(), RefusedAndClosed),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), RefusedAndClosed),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n".to_owned(), RefusedAndClosed),
        ("garbage", "\0\x01\x02\r\n\r\n".to_owned(), RefusedAndClosed),
        ("two blanks", "GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), Refused),
        ("a tab in the target", "GET /he\talth HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), Refused),
        ("a method with a blank", "GE T /health HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), Refused),
        ("an asterisk", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), Refused),
        ("CONNECT", "CONNECT attacker.example:443 HTTP/1.1\r\nHost: attacker.example:443\r\n\r\n".to_owned(), Refused),
        ("CONNECT to this server", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n".to_owned(), Refused),
        ("TRACE", "TRACE /workspaces HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\n\r\n".to_owned(), Refused),
        ("a foreign absolute target", "GET http://attacker.example/workspaces HTTP/1.1\r\nHost: attacker.example\r\n\r\n".to_owned(), Refused),
        ("an absolute target of a file", "GET file:///etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), Refused),
        ("a query with a bearer", "GET /nothing?token=a HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), Refused),
        ("a body of GET", format!("GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()), AnsweredOnce),
        ("an expectation that is none", post("Expect: 200-maybe\r\nContent-Length: 2", "{}"), AnsweredOnce),
        ("an upgrade to HTTP/2", "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n".to_owned(), AnsweredOnce),
        ("a WebSocket elsewhere", "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".to_owned(), AnsweredOnce),
        ("garbage after a request", format!("{SMUGGLED}\0\x01\x02\x03\r\n\r\n"), AnsweredOnce),
    ];
    for path in [
        "/%00",
        "/workspaces/%00",
        "/workspaces%2f",
        "/admin%2fguests",
        "/%2e%2e/workspaces",
        "/..;/admin/guests",
        "/workspaces/..;/admin/guests",
        "/workspaces/../admin/guests",
        "//admin/guests",
        "/admin//guests",
        "/./admin/guests",
        "/admin/guests/..%2f..%2fetc%2fpasswd",
        "/admin/guests/%2e%2e%2f%2e%2e",
        "/admin/guests/%252e",
        "/admin/guests/%c0%ae",
        "/admin/guests/%",
        "/admin/guests/%zz",
        "/WORKSPACES",
        "/workspaces;a=b",
        "/workspaces\\",
        "/events/../../health",
        "/health/",
        "/health/x",
        "/health%20",
        "/health;x",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        attacks.push((path, request, Refused));
    }
    attacks.into_iter().map(|(name, text, outcome)| (name, text.into_bytes(), outcome)).collect()
}

/// What the outcome has against these answers.
fn judge(outcome: Outcome, answers: &[Answer], end: End) -> Result<(), String> {
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    if statuses.iter().any(|status| *status >= 500 || *status < 200) {
        return Err(format!("{statuses:?}"));
    }
    match (outcome, statuses.as_slice()) {
        _ if end == End::Silent => Err(format!("{statuses:?}, and the server waits")),
        (_, []) if end == End::Closed => Ok(()),
        // A redirect to the path without its slash asks for nothing.
        (Refused | RefusedAndClosed, [status]) if !(300..500).contains(status) => Err(format!("{status}")),
        (RefusedAndClosed, [_]) if end != End::Closed => {
            Err(format!("{statuses:?}, and the connection stays open"))
        }
        (AnsweredOnce, [_, rest @ ..]) if rest.iter().all(|status| *status == 400) => Ok(()),
        (Refused | RefusedAndClosed, [_]) => Ok(()),
        _ => Err(format!("{statuses:?}")),
    }
}

#[tokio::test]
async fn what_is_not_clear_is_refused_and_nothing_is_answered_twice() {
    // Development, where no credential is asked for: what is refused is so for its form.
    let server = Server::start(Start::from(Database::sqlite())).await;
    let mut deviations = String::new();
    for (name, bytes, outcome) in attacks() {
        let mut connection = Raw::connect(server.address()).await;
        connection.write(&bytes).await;
        let (answers, end) = connection.answers().await;
        if let Err(problem) = judge(outcome, &answers, end) {
            let body = answers.first().map_or("", |answer| answer.body.as_str());
            let _ = writeln!(deviations, "{name}: {problem} {body}");
        }
        let leaked =
            answers.iter().any(|answer| answer.body.contains("root:") || answer.head.contains("Bearer"));
        assert!(!leaked, "{name}: {answers:?}");
    }
    assert!(deviations.is_empty(), "{deviations}");
    server.get("/health").await.ok();
}
