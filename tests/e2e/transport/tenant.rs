//! The tenant guard within the middleware. Its table is tested in `host/httpd`.

use crate::transport::wire::Server;

#[tokio::test]
async fn other_tenants_requests_get_an_empty_404() {
    let server = Server::start(&["--molecule-org-id", "org-1"]).await;
    for headers in [&[][..], &["X-Molecule-Org-Id: org-2"], &["Fly-Replay-Src: state=org-2"]] {
        for target in ["/nothing", "/workspaces"] {
            let answer = server.ask("GET", target, headers).await;
            assert_eq!((answer.status(), answer.body.as_str()), (404, ""), "{headers:?}");
        }
    }
}

#[tokio::test]
async fn own_requests_reach_the_routes() {
    let server = Server::start(&["--molecule-org-id", "org-1"]).await;
    for header in ["X-Molecule-Org-Id: org-1", "Fly-Replay-Src: region=x; state=org-1"] {
        let answer = server.ask("GET", "/nothing", &[header]).await;
        assert_eq!(answer.body, "404 page not found", "{header}");
    }
    assert_eq!(server.get("/health").await.status(), 200);
}

#[tokio::test]
async fn cors_is_checked_before_the_tenant() {
    let server = Server::start(&["--molecule-org-id", "org-1"]).await;
    let answer = server.ask("GET", "/nothing", &["Origin: https://evil.example"]).await;
    assert_eq!(answer.status(), 403);
    let answer = server.ask("GET", "/nothing", &["Origin: http://localhost:3000"]).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
}
