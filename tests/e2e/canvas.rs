//! `CANVAS_PROXY_URL`: paths that no route has are the web canvas'.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, WebSocketUpgrade, ws::Message},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Database, Server, Signal, Start, free_port};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// A canvas that shows what it was asked.
struct Canvas {
    url: String,
    /// Ends the answer to `/slow`.
    more: mpsc::Sender<Bytes>,
}

impl Canvas {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (more, chunks) = mpsc::channel::<Bytes>(1);
        let chunks = std::sync::Mutex::new(Some(chunks));
        let slow = move || {
            let chunks = chunks.lock().unwrap().take().expect("asked once");
            let chunks = futures::stream::unfold(chunks, async |mut chunks| {
                let chunk = chunks.recv().await?;
                Some((Ok::<_, std::io::Error>(chunk), chunks))
            });
            async { Body::from_stream(chunks) }
        };
        let slow = std::sync::Arc::new(slow);
        let socket = async |upgrade: WebSocketUpgrade| {
            upgrade.on_upgrade(async |mut socket| {
                while let Some(Ok(Message::Text(text))) = socket.recv().await {
                    let _ = socket.send(Message::Text(text)).await;
                }
            })
        };
        // It does not notice that its client is gone.
        let held = async |upgrade: WebSocketUpgrade| {
            upgrade.on_upgrade(async |socket| {
                let _socket = socket;
                std::future::pending::<()>().await;
            })
        };
        let routes = Router::new()
            .route("/slow", get(move || slow()))
            .route("/socket", any(socket))
            .route("/held", any(held))
            .route("/framed", get(async || ([("Content-Security-Policy", "own")], "framed")))
            .fallback(show);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, more }
    }
}

async fn show(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let headers: Value =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let shown = json!({
        "method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers, "bytes": body.len(),
    });
    ([("Connection", "X-Hop"), ("X-Hop", "1"), ("Set-Cookie", "theme=dark")], axum::Json(shown))
        .into_response()
}

async fn behind(canvas: &str) -> Server {
    Server::start(Start::from(Database::sqlite()).env("CANVAS_PROXY_URL", canvas)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_paths_are_pages_of_the_canvas() {
    let canvas = Canvas::start().await;
    let server = behind(&format!("{}/ignored", canvas.url)).await;
    let client = reqwest::Client::new();
    let request = client.post(format!("{}/orgs?x=%20y", server.url)).body(vec![b'x'; 3 << 20]);
    let headers = [
        ("Authorization", "Bearer t"),
        ("Cookie", "c=1"),
        ("X-Own", "kept"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
    ];
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self' 'unsafe-inline'"), "{policy}");
    assert_eq!(answer.headers()["set-cookie"], "theme=dark");
    assert!(answer.headers().get("x-hop").is_none());
    let shown: Value = answer.json().await.unwrap();
    assert_eq!(shown["method"], "POST");
    assert_eq!(shown["target"], "/orgs?x=%20y");
    assert_eq!(shown["bytes"], 3 << 20);
    assert_eq!(shown["headers"]["host"], canvas.url.trim_start_matches("http://"));
    assert_eq!(shown["headers"]["x-own"], "kept");
    for gone in ["authorization", "cookie", "x-hop"] {
        assert_eq!(shown["headers"][gone], Value::Null, "{gone}");
    }
    let framed = client.get(format!("{}/framed", server.url)).send().await.unwrap();
    assert_eq!(framed.headers()["content-security-policy"], "own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_of_the_api_are_not_the_canvas() {
    let canvas = Canvas::start().await;
    let server = behind(&canvas.url).await;
    for path in ["/workspaces/x/nothing", "/admin/nothing", "/org/nothing", "/orgs/x/nothing", "/webhooks/x"]
    {
        assert_eq!(server.get(path).await.error(404), "not found", "{path}");
    }
    assert_eq!(server.get("/health").await.ok()["status"], "ok");
    assert_eq!(server.get("/workspaces").await.ok(), json!([]));
    let page = server.request(Method::PUT, "/does-not-exist", None).await.ok();
    assert_eq!(page["method"], "PUT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_the_canvas_are_streamed() {
    let canvas = Canvas::start().await;
    let server = behind(&canvas.url).await;
    canvas.more.send(Bytes::from_static(b"first")).await.unwrap();
    let mut answer = reqwest::get(format!("{}/slow", server.url)).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
    canvas.more.send(Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "second");
    drop(canvas.more);
    assert_eq!(answer.chunk().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_are_passed_on() {
    let canvas = Canvas::start().await;
    let server = behind(&canvas.url).await;
    let url = format!("{}/socket", server.url.replace("http", "ws"));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for text in ["one", "two"] {
        socket.send(text.into()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), text);
    }
    // A route that upgrades nothing answers as usual.
    let refused =
        tokio_tungstenite::connect_async(format!("{}/page", server.url.replace("http", "ws"))).await;
    assert!(refused.unwrap_err().to_string().contains("200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_of_the_canvas_have_the_limits_of_other_sockets() {
    let canvas = Canvas::start().await;
    // Eight sockets, four for clients that proved nothing, of which one address may have two.
    let start = Start::from(Database::sqlite()).env("CANVAS_PROXY_URL", &canvas.url);
    let server = Server::start(start.env("TRUSTED_PROXIES", "127.0.0.1").env("MAX_CONNECTIONS", "16")).await;
    let open = async |client: &str| {
        let mut request =
            format!("{}/socket", server.url.replace("http", "ws")).into_client_request().unwrap();
        request.headers_mut().insert("X-Forwarded-For", client.parse().unwrap());
        tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
    };
    let refused = async |client: &str| open(client).await.unwrap_err().to_string();
    let mut held = vec![open("192.0.2.1").await.unwrap(), open("192.0.2.1").await.unwrap()];
    assert!(refused("192.0.2.1").await.contains("429"));
    held.push(open("192.0.2.2").await.unwrap());
    held.push(open("192.0.2.3").await.unwrap());
    assert!(refused("192.0.2.4").await.contains("503"));
    // They are counted with the sockets of the server.
    let _socket = support::Socket::canvas(&server).await;
    drop(held);
    server.until("they are given back", async |_| open("192.0.2.4").await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_that_the_canvas_does_not_close_ends_with_its_client() {
    let canvas = Canvas::start().await;
    // Eight sockets, four for clients that proved nothing.
    let start = Start::from(Database::sqlite()).env("CANVAS_PROXY_URL", &canvas.url);
    let server = Server::start(start.env("MAX_CONNECTIONS", "16").env("MOLECULE_ENV", "staging")).await;
    let url = format!("{}/held", server.url.replace("http", "ws"));
    let open = async || tokio_tungstenite::connect_async(&url).await.map(|(socket, _)| socket);
    let mut held = Vec::new();
    while let Ok(socket) = open().await {
        held.push(socket);
    }
    assert!(!held.is_empty());
    drop(held);
    server.until("they are given back", async |_| open().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_websockets_of_the_canvas() {
    let canvas = Canvas::start().await;
    let server = behind(&canvas.url).await;
    let url = format!("{}/socket", server.url.replace("http", "ws"));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket.send("one".into()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), "one");
    server.signal(Signal::TERM);
    let (_server, log) = server.wait_and_restart().await;
    assert!(!log.contains("open requests did not end in time"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canvas_that_leads_back_here_is_508() {
    let canvas = Canvas::start().await;
    let server = behind(&canvas.url).await;
    let client = reqwest::Client::new();
    let page = |via: &'static str| client.get(format!("{}/page", server.url)).header("Via", via).send();
    let back = page("1.0 proxy, 1.1 isomer").await.unwrap();
    assert_eq!(back.status(), 508);
    assert_eq!(back.text().await.unwrap(), "CANVAS_PROXY_URL leads back to this server");
    let shown: Value = page("1.1 proxy").await.unwrap().json().await.unwrap();
    assert_eq!(shown["headers"]["via"], "1.1 isomer", "appended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canvas_that_is_away_is_502() {
    let server = behind(&format!("http://127.0.0.1:{}", free_port())).await;
    let answer = reqwest::get(format!("{}/", server.url)).await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.text().await.unwrap(), "canvas unavailable");
    server.until_logged("CANVAS_PROXY_URL").await;
    assert_eq!(server.get("/health").await.ok()["status"], "ok");
}
