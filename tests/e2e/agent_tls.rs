//! Agents with https.

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use support::{Agent, Database, Server, Start, on_both_databases, program};

async fn send(server: &Server, id: &str) -> support::Answer {
    let part = json!({ "kind": "text", "text": "hello" });
    let body = json!({ "method": "message/send", "params": { "message": { "parts": [part] } } });
    server.post(&format!("/workspaces/{id}/a2a"), body).await
}

/// A server that trusts this authority.
async fn start(database: Database, authority: &str) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, authority).unwrap();
    // Certificates are read at the start.
    Server::start(Start::from(database).env("AGENT_CA_FILE", file.to_str().unwrap())).await
}

on_both_databases! {
    async fn agents_with_https_are_called(database: Database) {
        let (agent, authority) = Agent::start_with_tls("localhost").await;
        let server = start(database, &authority).await;
        let id = server.agent_at(&agent.url).await;
        for _ in 0..2 {
            let answer = send(&server, &id).await.ok();
            assert_eq!(answer["result"]["parts"][0]["text"], "hello");
        }
        assert_eq!((agent.received(2).await.len(), agent.connections()), (2, 1));
    }

    async fn an_address_is_verified_like_a_name(database: Database) {
        let (agent, authority) = Agent::start_with_tls("127.0.0.1").await;
        let server = start(database, &authority).await;
        let id = server.agent_at(&agent.url.replace("localhost", "127.0.0.1")).await;
        send(&server, &id).await.ok();
        let id = server.agent_at(&agent.url).await;
        assert_eq!(send(&server, &id).await.error(502), "failed to reach workspace agent");
    }

    async fn certificates_are_verified(database: Database) {
        let (unknown, _) = Agent::start_with_tls("localhost").await;
        let (other_name, authority) = Agent::start_with_tls("agent.example").await;
        let server = start(database, &authority).await;
        for (agent, reason) in [(unknown, "UnknownIssuer"), (other_name, "not valid for name \"localhost\"")] {
            let id = server.agent_at(&agent.url).await;
            let answer = send(&server, &id).await;
            assert_eq!(answer.error(502), "failed to reach workspace agent");
            let detail = answer.json["detail"].as_str().unwrap();
            assert!(detail.starts_with("its certificate can't be verified: ") && detail.contains(reason), "{detail}");
            assert!(answer.json["hint"].as_str().unwrap().contains("AGENT_CA_FILE"));
            let explained = server.get(&format!("/workspaces/{id}/explain")).await.ok();
            assert_eq!(explained["delivery_problem"]["error"], detail);
            assert_eq!(server.ended_row(&id, 1).await["error_detail"], detail);
            assert_eq!(agent.received(0).await.len(), 0);
        }
    }

    async fn plain_http_at_an_https_url_is_unreachable(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url.replace("http://", "https://")).await;
        let path = format!("/workspaces/{id}/a2a");
        let body = json!({ "method": "message/send" });
        let answer = server.with(&[("X-Timeout", "1")], reqwest::Method::POST, &path, Some(body)).await;
        assert_eq!(answer.error(502), "failed to reach workspace agent");
    }

    async fn a_tls_connection_that_an_agent_refuses_is_explained(database: Database) {
        let (agent, authority) = Agent::start_with_client_certificates("localhost").await;
        let server = start(database, &authority).await;
        // A server that has no TLS and takes the handshake for a bad request.
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plain_url = format!("https://{}", plain.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = plain.accept().await {
                let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
                let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
            }
        });
        for (url, reason, hint) in [
            (&agent.url, "it refuses the TLS connection: CertificateRequired", "wants a client certificate"),
            (&plain_url, "it doesn't answer with TLS", "register its URL with http://"),
        ] {
            let id = server.agent_at(url).await;
            let answer = send(&server, &id).await;
            assert_eq!(answer.error(502), "failed to reach workspace agent");
            assert_eq!(answer.json["detail"], reason);
            assert!(answer.json["hint"].as_str().unwrap().contains(hint), "{}", answer.json);
            let explained = server.get(&format!("/workspaces/{id}/explain")).await.ok();
            assert_eq!(explained["delivery_problem"]["error"], reason);
            assert_eq!(server.ended_row(&id, 1).await["error_detail"], reason);
        }
        assert_eq!(agent.received(0).await.len(), 0);
    }
}

#[test]
fn a_file_without_certificates_is_refused_at_start() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    for file in [file, data.path().join("missing.pem")] {
        let output = program()
            .args(["serve", "--port", "0"])
            .env("DATA_DIR", data.path().join("data"))
            .env("AGENT_CA_FILE", &file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("AGENT_CA_FILE"), "{text}");
    }
}
