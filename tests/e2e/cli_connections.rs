//! How commands reach a server: addresses, TLS, proxies, and what they say when they don't.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use support::{Authority, Database, Server, Start, TlsProxy, assert_output, free_port, program};

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
    let page = axum::Router::new().fallback(|| async { "<html>Sign in</html>" });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, page).await });
    for arguments in
        [&["ws", "list"][..], &["ws", "list", "--json"], &["guest", "list"], &["org", "templates"]]
    {
        let output = command(&url, arguments).output().unwrap();
        assert_output(&output, false, &["answered 200 OK, but not with JSON", "--server"]);
    }
}
