//! An HTTP agent in the test's process: it records messages, and answers them with the reactions that the test
//! queues.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::Authority;

/// How long a test waits for a message that must come.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// The reaction of an agent to a message.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// Answers with this status and body.
    Respond(u16, String),
    /// Writes these bytes and closes the connection.
    WriteAndClose(Vec<u8>),
    /// Keeps the connection open without an answer.
    Stall,
    /// Writes these bytes.
    Write(Vec<u8>),
    /// Writes these bytes and then nothing more, and keeps the connection open.
    WriteAndStall(Vec<u8>),
    /// Resets the connection without an answer.
    Reset,
    /// Writes what the test sends, and closes the connection when the test drops its end. See [`feed`].
    Feed(Feed),
    /// Waits for a permit, then gives a [`success_reply`].
    Hold(Arc<Semaphore>),
}

/// The agent's end of a [`feed`].
#[derive(Debug, Clone)]
pub struct Feed(Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>>);

#[derive(Debug, Clone)]
pub struct ReceivedMessage {
    /// Request line and headers, in lower case.
    pub head: String,
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    arrival: Notify,
}

#[derive(Default)]
struct State {
    reactions: VecDeque<Reaction>,
    messages: Vec<ReceivedMessage>,
    connections: usize,
    closed: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }
}

/// A listening agent. Dropping the value stops it.
pub struct Agent {
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Agent {
    pub async fn start() -> Self {
        Self::listen("http", 0, None).await
    }

    /// Starts an agent at the address that another one had.
    pub async fn start_again(url: &str) -> Self {
        let (_, port) = url.rsplit_once(':').expect("a port");
        Self::listen("http", port.parse().expect("a number"), None).await
    }

    /// An agent with TLS: a certificate for this name, and for no other, signed by an authority of its own.
    /// Returns the authority's certificate, too.
    pub async fn start_with_tls(name: &str) -> (Self, String) {
        let authority = Authority::new();
        let acceptor = authority.issue(&[name]).acceptor();
        (Self::listen("https", 0, Some(acceptor)).await, authority.pem())
    }

    /// The same, for clients with a certificate of that authority.
    pub async fn start_with_client_certificates(name: &str) -> (Self, String) {
        let authority = Authority::new();
        let acceptor = authority.issue(&[name]).acceptor_of_clients(&authority);
        (Self::listen("https", 0, Some(acceptor)).await, authority.pem())
    }

    async fn listen(scheme: &str, port: u16, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("localhost", port)).await.expect("a free port");
        let url = format!("{scheme}://localhost:{}", listener.local_addr().expect("bound").port());
        let shared = Arc::<Shared>::default();
        let all = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                all.state().connections += 1;
                let (shared, tls) = (Arc::clone(&all), tls.clone());
                // Aborted with the agent.
                connections.spawn(async move {
                    match tls {
                        None => serve(socket, Arc::clone(&shared)).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, Arc::clone(&shared)).await;
                            }
                        }
                    }
                    shared.state().closed += 1;
                    shared.arrival.notify_waiters();
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { url, shared, task }
    }

    /// Stops the agent. Its port is free when this returns.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Queues reactions to the next messages. Later messages get a [`success_reply`].
    pub fn react(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.shared.state().reactions.extend(reactions);
    }

    /// Waits until this many messages have arrived, and returns all of them.
    pub async fn received(&self, count: usize) -> Vec<ReceivedMessage> {
        self.until("messages", |state| (state.messages.len() >= count).then(|| state.messages.clone())).await
    }

    /// Waits until this many connections have ended.
    pub async fn closed(&self, count: usize) {
        self.until("ends of connections", |state| (state.closed >= count).then_some(())).await;
    }

    async fn until<T>(&self, what: &str, found: impl Fn(&State) -> Option<T>) -> T {
        let waiting = async {
            loop {
                // Registered before the state is read: a change in between must wake this loop.
                let change = self.shared.arrival.notified();
                let now = found(&self.shared.state());
                if let Some(now) = now {
                    return now;
                }
                change.await;
            }
        };
        timeout(WAIT_TIMEOUT, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A reaction that writes what is sent to the other end, when it is sent.
pub fn feed() -> (mpsc::UnboundedSender<Vec<u8>>, Reaction) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Reaction::Feed(Feed(Arc::new(tokio::sync::Mutex::new(receiver)))))
}

/// An answer with this status and these header lines, without a body.
pub fn head(status: u16, headers: &[&str]) -> Reaction {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let text = format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: 0\r\n\r\n");
    Reaction::Write(text.into_bytes())
}

/// An address at which connections are neither accepted nor refused.
pub struct Unanswering {
    pub url: String,
    _listener: std::os::fd::OwnedFd,
    _waiting: Vec<std::net::TcpStream>,
}

impl Unanswering {
    pub fn start() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        bind(&listener, &any).expect("a free port");
        listen(&listener, 0).expect("it listens");
        let address = getsockname(&listener).expect("bound");
        let address: std::net::SocketAddr = address.try_into().expect("an address");
        // The queue of connections to be accepted holds a few; then the next ones wait.
        let mut waiting = Vec::new();
        while let Ok(socket) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            waiting.push(socket);
        }
        Self { url: format!("http://localhost:{}", address.port()), _listener: listener, _waiting: waiting }
    }
}

/// Closes the connection without an answer. On a connection that was used before, the message is sent again.
pub fn hang_up() -> Reaction {
    Reaction::WriteAndClose(Vec::new())
}

/// Closes the connection at the begin of an answer: the agent has the message, and is busy to its sender.
pub fn break_off() -> Reaction {
    Reaction::WriteAndClose(b"HTTP/1.1 20".to_vec())
}

/// A JSON-RPC result. Its keys are not in alphabetical order, so that tests notice a rewritten body.
pub fn success_reply(body: &Value) -> String {
    let text = &body["params"]["message"]["parts"][0]["text"];
    format!(
        r#"{{"jsonrpc":"2.0", "result":{{"role":"agent","parts":[{{"kind":"text","text":{text}}}]}},"id":{}}}"#,
        body["id"]
    )
}

async fn serve(mut socket: impl Connection, shared: Arc<Shared>) {
    let mut bytes = Vec::new();
    while let Some(message) = read_message(&mut socket, &mut bytes).await {
        let reaction = {
            let mut state = shared.state();
            state.messages.push(message.clone());
            shared.arrival.notify_waiters();
            state
                .reactions
                .pop_front()
                .unwrap_or_else(|| Reaction::Respond(200, success_reply(&message.body)))
        };
        match reaction {
            Reaction::Respond(status, body) => {
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = socket.write_all((head + &body).as_bytes()).await;
            }
            Reaction::WriteAndClose(bytes) => {
                let _ = socket.write_all(&bytes).await;
                return;
            }
            Reaction::Stall => std::future::pending().await,
            Reaction::Write(bytes) => {
                let _ = socket.write_all(&bytes).await;
            }
            Reaction::WriteAndStall(bytes) => {
                let _ = socket.write_all(&bytes).await;
                std::future::pending::<()>().await;
            }
            Reaction::Reset => {
                socket.reset_on_close();
                return;
            }
            Reaction::Feed(Feed(receiver)) => {
                let mut receiver = receiver.lock().await;
                while let Some(bytes) = receiver.recv().await {
                    let _ = socket.write_all(&bytes).await;
                }
                return;
            }
            Reaction::Hold(permits) => {
                permits.acquire().await.expect("not closed").forget();
                let body = success_reply(&message.body);
                let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = socket.write_all((head + &body).as_bytes()).await;
            }
        }
    }
}

/// A connection, plain or with TLS.
trait Connection: AsyncRead + AsyncWrite + Unpin {
    /// The end of the connection resets it.
    fn reset_on_close(&self);
}

impl Connection for TcpStream {
    fn reset_on_close(&self) {
        rustix::net::sockopt::set_socket_linger(self, Some(Duration::ZERO)).expect("a socket");
    }
}

impl Connection for TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

async fn read_message(socket: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Option<ReceivedMessage> {
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().ok()?;
            if bytes.len() >= end + 4 + length {
                let text = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
                let body = serde_json::from_str(&text).unwrap_or(json!(null));
                bytes.drain(..end + 4 + length);
                return Some(ReceivedMessage { head, body, text });
            }
        }
        if socket.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}
