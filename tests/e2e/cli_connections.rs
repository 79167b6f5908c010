//! How commands reach a server: addresses, TLS, proxies, and what they say when they don't.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use support::{Authority, Database, Server, Start, TlsProxy, assert_output, free_port, program};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Proxies that no connection may use.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = program();
    command.args(arguments).env("ISOMER_URL", url);
    command
}

fn list(url: &str) -> Output {
    command(url, &["ws", "list"]).output().expect("it runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopback_addresses_are_reached_without_a_proxy() {
    let server = Server::start(Database::sqlite()).await;
    let port = server.url.rsplit(':').next().unwrap();
    for url in [server.url.clone(), format!("{}/", server.url), format!("127.0.0.1:{port}")] {
        let mut command = command(&url, &["ws", "list"]);
        command.envs(PROXIES.map(|name| (name, "http://127.0.0.1:1")));
        assert_output(&command.output().unwrap(), true, &["There are no workspaces"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_addresses_are_reached() {
    if TcpListener::bind("[::1]:0").is_err() {
        return; // This machine has no IPv6.
    }
    let server = Server::start(Start::from(Database::sqlite()).env("BIND_ADDR", "::1")).await;
    assert!(server.url.starts_with("http://[::1]:"), "{}", server.url);
    assert_output(&list(&server.url), true, &["There are no workspaces"]);
    assert_output(&list(server.url.trim_start_matches("http://")), true, &["There are no workspaces"]);
    let mut following = command(&server.url, &["events", "--follow", "--json"]);
    let mut following = following.stdout(Stdio::piped()).spawn().unwrap();
    server
        .until("it follows", async |server| server.metrics().await.contains("websocket_connections_active 1"))
        .await;
    server.workspace(serde_json::json!({ "name": "Six", "runtime": "mock" })).await;
    let mut line = String::new();
    BufReader::new(following.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("WORKSPACE_"), "{line}");
    following.kill().unwrap();
    following.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_one_organization_is_reached_by_its_id() {
    let server = Server::start(Start::from(Database::sqlite()).env("MOLECULE_ORG_ID", "org-1")).await;
    assert_output(&list(&server.url), false, &["--org-id"]);
    for (arguments, id) in [(&["ws", "list"][..], "org-1"), (&["ws", "list", "--org-id", "org-1"], "org-2")] {
        let output = command(&server.url, arguments).env("MOLECULE_ORG_ID", id).output().unwrap();
        assert_output(&output, true, &["There are no workspaces"]);
    }
    let mut following = command(&server.url, &["events", "--follow", "--json", "--org-id", "org-1"]);
    let mut following = following.stdout(Stdio::piped()).spawn().unwrap();
    server
        .until("it follows", async |server| server.metrics().await.contains("websocket_connections_active 1"))
        .await;
    following.kill().unwrap();
    following.wait().unwrap();
    let mut doctor = command(&server.url, &["doctor"]);
    let output = doctor.env("DATA_DIR", server.data.path()).env("MOLECULE_ORG_ID", "org-1").output().unwrap();
    assert_output(&output, false, &["ok    guests"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_with_https_are_reached_where_their_authority_is_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start(Database::sqlite()).await;
    let proxy = TlsProxy::start(&authority.issue(&["localhost", "127.0.0.1"]), &server.url).await;
    let url = format!("https://localhost:{}", proxy.address.port());
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right.pem", &authority.pem()), file("wrong.pem", &other.pem()));
    let trusting = |authority: &str, arguments: &[&str]| {
        command(&url, arguments).env("ISOMER_CA_FILE", authority).output().expect("it runs")
    };
    assert_output(
        &trusting(&right, &["ws", "create", "Safe", "--runtime", "mock"]),
        true,
        &["Safe is online"],
    );
    assert_output(&trusting(&right, &["ws", "list"]), true, &["Safe"]);
    // The system's list of authorities.
    let system = command(&url, &["ws", "list"]).env("SSL_CERT_FILE", &right).output().unwrap();
    assert_output(&system, true, &["Safe"]);
    let mut following = command(&url, &["events", "--follow", "--since", "0", "--json"]);
    let mut following = following.env("ISOMER_CA_FILE", &right).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(following.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("WORKSPACE_"), "{line}");
    following.kill().unwrap();
    following.wait().unwrap();

    let distrusted = ["can't be trusted", "UnknownIssuer", "ISOMER_CA_FILE"];
    assert_output(&trusting(&wrong, &["ws", "list"]), false, &distrusted);
    assert_output(&list(&url), false, &distrusted);
    assert_output(&trusting("/no/such/file", &["ws", "list"]), false, &["/no/such/file", "No such file"]);
    let empty = file("empty.pem", "nothing");
    assert_output(&trusting(&empty, &["ws", "list"]), false, &["has no certificates in PEM format"]);
    assert_output(
        &trusting("/dev/zero", &["ws", "list"]),
        false,
        &["/dev/zero", "it is a device, not a regular file"],
    );
    let fifo = files.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    let fifo = fifo.display().to_string();
    assert_output(&trusting(&fifo, &["ws", "list"]), false, &[&fifo, "it is a FIFO, not a regular file"]);
    let system = command(&url, &["ws", "list"]).env("SSL_CERT_FILE", &fifo).output().unwrap();
    assert_output(&system, false, &["SSL_CERT_FILE", "it is a FIFO"]);
    assert_output(&trusting(&right, &["guest", "push", "x", &fifo]), false, &["it is a FIFO"]);
    assert_output(&trusting(&right, &["guest", "check", "/dev/zero"]), false, &["it is a device"]);
    // TLS is asked for where there is none.
    let plain = server.url.replace("http://", "https://");
    assert_output(&list(&plain), false, &["doesn't speak TLS", "http:// instead of https://"]);
}

#[test]
fn servers_that_cannot_be_reached_are_named_with_the_reason() {
    let port = free_port();
    let absent = format!("localhost:{port}");
    assert_output(
        &list(&absent),
        false,
        &[&format!("the server at http://{absent} does not answer"), "isomer serve", "refused"],
    );
    assert_output(&list("http://no-such-host.invalid"), false, &["no-such-host.invalid", "does not answer"]);
    assert_output(&list("ftp://localhost"), false, &["ftp is neither http nor https"]);
    let secret = assert_output(&list("http://me:hunter2@localhost:1"), false, &["--token"]);
    assert!(!secret.contains("hunter2"), "{secret}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_no_json_is_no_success() {
    let pages = ["<html>Sign in</html>", "", "null", "5", "\"x\""];
    let commands =
        [&["ws", "list"][..], &["ws", "list", "--json"], &["guest", "list"], &["org", "templates"]];
    for (page, arguments) in pages.into_iter().flat_map(|page| commands.map(|command| (page, command))) {
        let router = axum::Router::new().fallback(move || async move { page });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let output = command(&url, arguments).output().unwrap();
        assert_output(&output, false, &["answered 200 OK, but not as Isomer does", "--server"]);
    }
}

/// The URL of a server that answers each connection with these bytes, and closes it.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                // What is not read of a request would reset the connection, and take the answer with it.
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(bytes).await;
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_speak_something_else_are_recognized() {
    let authority = Authority::new();
    let server = Server::start(Database::sqlite()).await;
    let proxy = TlsProxy::start(&authority.issue(&["localhost"]), &server.url).await;
    let with_tls = format!("http://localhost:{}", proxy.address.port());
    let no_http = ["doesn't speak HTTP", "whose URL begins with https://"];
    assert_output(&list(&with_tls), false, &no_http);
    for bytes in
        [&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], b"", b"\x15\x03\x01\x00\x02\x02\x16", b"\0\0\x18\x04\0\0\0\0\0"]
    {
        assert_output(&list(&answering(bytes).await), false, &no_http);
    }
    for page in [
        &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<h1>The plain HTTP request was sent to HTTPS port</h1>"[..],
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nYou're speaking plain HTTP to an SSL-enabled server port.",
    ] {
        assert_output(&list(&answering(page).await), false, &["wants TLS", "https:// instead of http://"]);
    }
    let cut = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[]").await;
    assert_output(&list(&cut), false, &["the answer of the server at", "broke off"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_events_ends_when_the_reader_of_the_output_is_gone() {
    let server = Server::start(Database::sqlite()).await;
    let mut following = command(&server.url, &["events", "--follow"]);
    let mut following = following.stdout(Stdio::piped()).spawn().unwrap();
    server
        .until("it follows", async |server| server.metrics().await.contains("websocket_connections_active 1"))
        .await;
    drop(following.stdout.take());
    // No event comes.
    let ended = tokio::task::spawn_blocking(move || following.wait().unwrap());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("it ends");
    assert!(ended.unwrap().success());
}

#[test]
fn an_admin_token_of_blanks_is_refused_where_the_server_would_be_open() {
    let data = tempfile::tempdir().unwrap();
    for name in ["production", "staging", ""] {
        let mut serve = program();
        serve.args(["serve", "--port", "0"]).env("DATA_DIR", data.path());
        let output = serve.env("ADMIN_TOKEN", " \t").env("MOLECULE_ENV", name).output().unwrap();
        assert_output(&output, false, &["ADMIN_TOKEN has blanks only"]);
    }
}
