//! An HTTP agent in the test's process: it records messages, and answers them with the reactions that the test
//! queues.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

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
    /// Waits for a permit, then gives a [`success_reply`].
    Hold(Arc<Semaphore>),
}

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
        Self::listen(0).await
    }

    /// Starts an agent at the address that another one had.
    pub async fn start_again(url: &str) -> Self {
        let (_, port) = url.rsplit_once(':').expect("a port");
        Self::listen(port.parse().expect("a number")).await
    }

    async fn listen(port: u16) -> Self {
        let listener = TcpListener::bind(("localhost", port)).await.expect("a free port");
        let url = format!("http://localhost:{}", listener.local_addr().expect("bound").port());
        let shared = Arc::<Shared>::default();
        let all = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                all.state().connections += 1;
                // Aborted with the agent.
                connections.spawn(serve(socket, Arc::clone(&all)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { url, shared, task }
    }

    /// Queues reactions to the next messages. Later messages get a [`success_reply`].
    pub fn react(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.shared.state().reactions.extend(reactions);
    }

    /// Waits until this many messages have arrived, and returns all of them.
    pub async fn received(&self, count: usize) -> Vec<ReceivedMessage> {
        let enough = async {
            loop {
                // Registered before the count is read: a message that arrives in between must wake this loop.
                let arrival = self.shared.arrival.notified();
                let messages = self.shared.state().messages.clone();
                if messages.len() >= count {
                    return messages;
                }
                arrival.await;
            }
        };
        timeout(WAIT_TIMEOUT, enough).await.expect("the messages arrive in time")
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

/// Closes the connection without an answer.
pub fn hang_up() -> Reaction {
    Reaction::WriteAndClose(Vec::new())
}

/// A JSON-RPC result. Its keys are not in alphabetical order, so that tests notice a rewritten body.
pub fn success_reply(body: &Value) -> String {
    let text = &body["params"]["message"]["parts"][0]["text"];
    format!(
        r#"{{"jsonrpc":"2.0", "result":{{"role":"agent","parts":[{{"kind":"text","text":{text}}}]}},"id":{}}}"#,
        body["id"]
    )
}

async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
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
            Reaction::Hold(permits) => {
                permits.acquire().await.expect("not closed").forget();
                let body = success_reply(&message.body);
                let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = socket.write_all((head + &body).as_bytes()).await;
            }
        }
    }
}

async fn read_message(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<ReceivedMessage> {
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
