//! Access class `admin`: credentials and refusals.

use api::access::AdminAuth;
use axum::Router;
use axum::routing::get;
use httpd::router_ext::RouterExt;

use crate::transport::wire::Server;

/// A server with a route `/who` that answers as which caller a request was accepted.
async fn server(flags: &[&str]) -> Server {
    Server::with_routes(flags, |_| {
        let who = async |AdminAuth(caller): AdminAuth| caller.to_string();
        Router::new().endpoint("/who", get(who))
    })
    .await
}

#[tokio::test]
async fn access_by_mode_and_token() {
    let missing = (401, r#"{"error":"admin auth required"}"#);
    let wrong = (401, r#"{"error":"invalid admin auth token"}"#);
    let good = ["Authorization: Bearer right"];
    let bad = ["Authorization: Bearer wrong"];
    let fresh = (200, "fresh-install");
    let dev = (200, "dev-mode");
    for (flags, without, with_bad, with_good) in [
        (&["--admin-token", "right"][..], missing, wrong, (200, "admin-token")),
        (&["--admin-token", "right", "--molecule-env", "dev"], missing, wrong, (200, "admin-token")),
        (&["--molecule-env", "dev"], dev, dev, dev),
        (&["--molecule-env", "production"], fresh, fresh, fresh),
        (&[], fresh, fresh, fresh),
    ] {
        let server = server(flags).await;
        for (headers, expected) in [(&[][..], without), (&bad, with_bad), (&good, with_good)] {
            let answer = server.ask("GET", "/who", headers).await;
            let seen = (answer.status(), answer.body.as_str());
            assert_eq!(seen, expected, "{flags:?} {headers:?}");
        }
    }
}

#[tokio::test]
async fn a_malformed_bearer_counts_as_none() {
    let server = server(&["--admin-token", "right"]).await;
    for header in [
        "Authorization: bearer right",
        "Authorization: Basic right",
        "Authorization: right",
        "Authorization: Bearer ",
        "Cookie: session=right",
        "Origin: http://own.localhost",
        "Referer: http://own.localhost/",
    ] {
        let answer = server.ask("GET", "/who", &[header]).await;
        assert_eq!(answer.status(), 401, "{header}");
        assert_eq!(answer.body, r#"{"error":"admin auth required"}"#, "{header}");
    }
    let query = server.get("/who?token=right&access_token=right").await;
    assert_eq!(query.status(), 401);
}

#[tokio::test]
async fn refusals_are_json() {
    let server = server(&["--admin-token", "right"]).await;
    let answer = server.get("/who").await;
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
}
