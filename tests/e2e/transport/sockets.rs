//! `/ws`: the handshake, and who may open a socket.

use api::events::Limits;
use types::{Owner, WorkspaceId};

use crate::transport::socket_client::{ADMIN, DEV, HANDSHAKE, TestServer, patient, seen};

#[tokio::test]
async fn malformed_handshakes_are_refused_before_authentication() {
    let test = TestServer::start(ADMIN).await;
    let without = |left_out: &str| HANDSHAKE.into_iter().filter(|line| !line.starts_with(left_out)).collect();
    let mut wrong: Vec<Vec<&str>> =
        ["Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Key"].map(without).to_vec();
    wrong.push([without("Sec-WebSocket-Version"), vec!["Sec-WebSocket-Version: 8"]].concat());
    wrong.push([without("Upgrade"), vec!["Upgrade: h2c"]].concat());
    wrong.push(Vec::new());
    for headers in wrong {
        let answer = test.server.ask("GET", "/ws", &headers).await;
        assert_eq!(seen(&answer), (400, r#"{"error":"not a WebSocket handshake"}"#), "{headers:?}");
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
    assert_eq!(test.server.ask("POST", "/ws", &HANDSHAKE).await.status(), 404);
}

#[tokio::test]
async fn the_handshake_follows_the_rfc_and_selects_an_offered_subprotocol() {
    let test = TestServer::start(DEV).await;
    for (offered, selected) in [
        (&[][..], None),
        (&["Sec-WebSocket-Protocol: chat"], Some("chat")),
        (&["Sec-WebSocket-Protocol: molecule-auth.61 ,chat, soap"], Some("chat")),
        (&["Sec-WebSocket-Protocol: molecule-auth.61", "Sec-WebSocket-Protocol: soap"], Some("soap")),
        (&["Sec-WebSocket-Protocol: molecule-auth.61"], Some("molecule-auth.61")),
        (&["Sec-WebSocket-Protocol: ,"], None),
    ] {
        let answer =
            test.handshake(&[offered, &["Sec-WebSocket-Extensions: permessage-deflate"]].concat()).await;
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.header("connection"), Some("Upgrade"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.header("sec-websocket-protocol"), selected, "{offered:?}");
        assert_eq!(answer.header("sec-websocket-extensions"), None);
    }
}

fn offering(bearer: &str) -> String {
    let hex: String = bearer.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("Sec-WebSocket-Protocol: molecule-auth.{hex}")
}

#[tokio::test]
async fn canvas_sockets_by_mode_and_token() {
    let open = (101, "");
    let foreign = (403, "");
    let required = (401, r#"{"error":"canvas auth required"}"#);
    let wrong = (401, r#"{"error":"invalid canvas auth token"}"#);
    let invalid = (401, r#"{"error":"invalid WebSocket credential"}"#);
    let with_any: &[&str] = &["--cors-origins", "*"];
    let (admin_any, fresh): (&[&str], &[&str]) = (&[ADMIN, with_any].concat(), &[]);
    let with_page: &[&str] = &["--ws-allow-origins", "http://localhost:3000, https://canvas.example"];
    let pages = ["--cors-origins", "http://localhost:3000,http://localhost:3001,https://canvas.example"];
    let (admin_page, dev_page): (&[&str], &[&str]) =
        (&[ADMIN, with_page, &pages].concat(), &[DEV, with_page].concat());
    let named = "Origin: http://localhost:3000";
    let (own, other) = ("Origin: https://own.localhost", "Origin: http://evil.example");
    let (good, bad) = ("Authorization: Bearer secret", "Authorization: Bearer wrong");
    let (good_offer, bad_offer) = (offering("secret"), offering("wrong"));
    let (good_offer, bad_offer) = (good_offer.as_str(), bad_offer.as_str());
    let no_hex = "Sec-WebSocket-Protocol: molecule-auth.7";
    for (flags, headers, expected) in [
        // Without an admin token, no credential is required.
        (DEV, &[][..], open),
        (fresh, &[], open),
        (DEV, &[named], open),
        (DEV, &[own], open),
        (DEV, &[other], foreign),
        (DEV, &["Origin: null"], foreign),
        (with_any, &[other], open),
        (DEV, &[bad], open),
        (DEV, &[bad_offer], open),
        (DEV, &[no_hex], invalid),
        (DEV, &[bad, good_offer], invalid),
        // With an admin token, an origin is no credential, whatever CORS allows …
        (ADMIN, &[], required),
        (ADMIN, &[named], required),
        (ADMIN, &[own], required),
        (ADMIN, &[other], foreign),
        // … except for pages whose origin the operator named.
        (admin_page, &[named], open),
        (admin_page, &["Origin: HTTPS://CANVAS.example:443"], open),
        (admin_page, &["Origin: http://localhost:3001"], required),
        (admin_page, &["Origin: https://localhost:3000"], foreign),
        (admin_page, &[own], required),
        (admin_page, &[], required),
        (admin_page, &["Referer: http://localhost:3000/"], required),
        (admin_page, &[named, bad], wrong),
        (dev_page, &[named], open),
        (admin_any, &[other], required),
        (admin_any, &[other, good], open),
        (ADMIN, &["Authorization: Basic secret"], required),
        // A credential must be valid, in the header and in the subprotocol.
        (ADMIN, &[good], open),
        (ADMIN, &[bad], wrong),
        (ADMIN, &[bad, named], wrong),
        (ADMIN, &[good_offer], open),
        (ADMIN, &[bad_offer], wrong),
        (ADMIN, &[bad_offer, named], wrong),
        (ADMIN, &[good, good_offer], open),
        (ADMIN, &[good, bad_offer], invalid),
        (ADMIN, &[good_offer, bad_offer], invalid),
        (ADMIN, &[good, no_hex], invalid),
        (ADMIN, &[no_hex, named], invalid),
        // An empty workspace id counts as none.
        (ADMIN, &["X-Workspace-ID: ", good], open),
    ] {
        let test = TestServer::start(flags).await;
        assert_eq!(seen(&test.handshake(headers).await), expected, "{flags:?} {headers:?}");
    }
}

#[tokio::test]
async fn canvases_may_use_organization_tokens_and_workspace_tokens_without_an_admin_token() {
    for (flags, by_workspace) in [(ADMIN, 401), (&[], 101)] {
        let test = TestServer::start(flags).await;
        let workspace = test.workspace("a", None).await;
        let (own, org) = (test.token(workspace).await, test.org_token().await);
        for (bearer, expected) in [(&own, by_workspace), (&org, 101), (&"wrong".to_owned(), 401)] {
            let by_header = test.handshake(&[&format!("Authorization: Bearer {bearer}")]).await;
            assert_eq!(by_header.status(), expected, "{flags:?}");
            assert_eq!(test.handshake(&[&offering(bearer)]).await.status(), expected, "{flags:?}");
        }
    }
}

#[tokio::test]
async fn agent_sockets_by_mode_and_token() {
    const MISSING: (u16, &str) = (401, r#"{"error":"missing workspace auth token"}"#);
    const INVALID: (u16, &str) = (401, r#"{"error":"invalid workspace auth token"}"#);
    const OPEN: (u16, &str) = (101, "");
    // After the first token of any workspace, the server is no fresh install.
    for (flags, without) in [(DEV, OPEN), (&[][..], MISSING), (ADMIN, MISSING)] {
        let test = TestServer::start(flags).await;
        let [never, own, other, revoked, removed] = [
            test.workspace("never", None).await,
            test.workspace("own", None).await,
            test.workspace("other", None).await,
            test.workspace("revoked", None).await,
            test.workspace("removed", None).await,
        ];
        let token = test.token(own).await;
        let (others, org, late) =
            (test.token(other).await, test.org_token().await, test.token(removed).await);
        let ended = test.app.fleet.credentials().issue(revoked, "test", false).await.expect("a token");
        test.app.fleet.credentials().revoke(Owner::Workspace(revoked), ended.row.id).await.expect("revoked");
        test.app.fleet.remove(removed, fleet::Removal::default()).await.expect("removed");

        let unknown = WorkspaceId::random();
        let admin = if flags == ADMIN { OPEN } else { INVALID };
        let text = |id: WorkspaceId| id.to_string();
        let plain = own.0.simple().to_string().to_uppercase();
        for (id, bearer, expected) in [
            (text(own), Some(token.as_str()), OPEN),
            (plain, Some(&token), OPEN),
            (text(own), None, MISSING),
            (text(own), Some("wrong"), INVALID),
            (text(own), Some(&others), INVALID),
            (text(own), Some(&org), OPEN),
            (text(own), Some("secret"), admin),
            (text(never), None, without),
            (text(never), Some("wrong"), if without == OPEN { OPEN } else { INVALID }),
            (text(revoked), None, MISSING),
            (text(revoked), Some(&ended.text), INVALID),
            (text(removed), None, MISSING),
            (text(removed), Some(&late), INVALID),
            (text(removed), Some(&org), INVALID),
            (text(unknown), None, MISSING),
            (text(unknown), Some(&org), INVALID),
            ("x".to_owned(), None, MISSING),
            ("x".to_owned(), Some(&token), INVALID),
            ("é".to_owned(), Some(&token), INVALID),
        ] {
            let mut headers = vec![format!("X-Workspace-ID: {id}")];
            headers.extend(bearer.map(|bearer| format!("Authorization: Bearer {bearer}")));
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            assert_eq!(seen(&test.handshake(&headers).await), expected, "{flags:?} {headers:?}");
        }
        // An agent's bearer must be in the header, and an allowed origin does not replace it.
        let agent = format!("X-Workspace-ID: {own}");
        assert_eq!(seen(&test.handshake(&[&agent, &offering(&token)]).await), MISSING);
        assert_eq!(seen(&test.handshake(&[&agent, "Origin: http://localhost:3000"]).await), MISSING);
    }
}

#[tokio::test]
async fn on_a_fresh_install_agents_need_no_token() {
    let test = TestServer::start(&[]).await;
    let agent = format!("X-Workspace-ID: {}", test.workspace("a", None).await);
    assert_eq!(test.handshake(&[&agent]).await.status(), 101);
    assert_eq!(test.handshake(&["X-Workspace-ID: x"]).await.status(), 401);
}

#[tokio::test]
async fn a_workspace_has_at_most_ten_sockets() {
    let test = TestServer::start(DEV).await;
    let (one, other) = (test.workspace("one", None).await, test.workspace("other", None).await);
    let [one, other] = [one, other].map(|id| format!("X-Workspace-ID: {id}"));
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(test.socket(&[&one]).await);
    }
    let refused = test.handshake(&[&one]).await;
    assert_eq!(seen(&refused), (503, r#"{"error":"too many WebSocket connections"}"#));
    assert_eq!(test.handshake(&[&other]).await.status(), 101);
    assert_eq!(test.handshake(&[]).await.status(), 101);
    open.pop();
    test.until(&[&one], 101).await;
}

#[tokio::test]
async fn a_process_has_a_limit_of_sockets() {
    assert_eq!((Limits::default().sockets, Limits::default().sockets_each), (1_000, 10));
    let test = TestServer::start_with(DEV, Limits { sockets: 2, ..patient() }).await;
    let _first = test.socket(&[]).await;
    let second = test.socket(&[]).await;
    assert_eq!(test.handshake(&[]).await.status(), 503);
    drop(second);
    test.until(&[], 101).await;
}

#[tokio::test]
async fn strangers_leave_room_for_callers_with_a_credential() {
    let limits = Limits { sockets: 3, sockets_of_strangers: 2, ..patient() };
    let test = TestServer::start_with(&[], limits).await;
    let bearer = format!("Authorization: Bearer {}", test.org_token().await);
    let _strangers = [test.socket(&[]).await, test.socket(&[]).await];
    for _ in 0..3 {
        let refused = test.handshake(&[]).await;
        assert_eq!(seen(&refused), (503, r#"{"error":"too many WebSocket connections"}"#));
    }
    let _proved = test.socket(&[&bearer]).await;
    assert_eq!(test.handshake(&[&bearer]).await.status(), 503, "all are taken");
    let limits = Limits::default();
    assert!(limits.sockets_of_strangers < limits.sockets - limits.sockets_of_admin);
}

#[tokio::test]
async fn sockets_are_kept_for_the_administrator() {
    let limits = Limits { sockets: 2, sockets_of_admin: 1, ..patient() };
    let test = TestServer::start_with(ADMIN, limits).await;
    let bearer = format!("Authorization: Bearer {}", test.org_token().await);
    let _others = test.socket(&[&bearer]).await;
    assert_eq!(test.handshake(&[&bearer]).await.status(), 503);
    let admin = test.socket(&["Authorization: Bearer secret"]).await;
    assert_eq!(test.handshake(&["Authorization: Bearer secret"]).await.status(), 503, "all are taken");
    drop(admin);
    test.until(&["Authorization: Bearer secret"], 101).await;
}

#[tokio::test]
async fn strangers_of_one_address_have_a_limit() {
    let limits = Limits { sockets_of_address: 1, ..patient() };
    let test = TestServer::start_with(&["--trusted-proxies", "127.0.0.1"], limits).await;
    for (one, same, another) in
        [("192.0.2.1", "192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")]
    {
        let [one, same, another] = [one, same, another].map(|client| format!("X-Forwarded-For: {client}"));
        let open = test.socket(&[&one]).await;
        let refused = test.handshake(&[&same]).await;
        let text = r#"{"error":"too many WebSocket connections from this address"}"#;
        assert_eq!(seen(&refused), (429, text), "{same}");
        let _others = (test.socket(&[&another]).await, test.socket(&[]).await, test.socket(&[]).await);
        let bearer = format!("Authorization: Bearer {}", test.org_token().await);
        let _proved = (test.socket(&[&one, &bearer]).await, test.socket(&[&one, &bearer]).await);
        drop(open);
        test.until(&[&one], 101).await;
    }
}
