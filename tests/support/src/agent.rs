//! An agent in the test's own process: it records the messages that it receives, and answers as the test
//! says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

/// How long a test waits for a message that must come.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// What an agent does with a message.
#[derive(Debug, Clone)]
pub enum Act {
    /// Answers with this status and body.
    Say(u16, String),
    /// Writes these bytes and hangs up.
    Write(Vec<u8>),
    /// Says nothing, and doesn't hang up either.
    Never,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Request line and headers.
    pub head: String,
    pub body: Value,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    received: Notify,
}

#[derive(Default)]
struct State {
    acts: VecDeque<Act>,
    heard: Vec<Heard>,
    connections: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }
}

/// A listening agent. Ends with the value.
pub struct Agent {
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Agent {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("localhost:0").await.expect("a free port");
        let url = format!("http://localhost:{}", listener.local_addr().expect("bound").port());
        let shared = Arc::<Shared>::default();
        let all = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                all.state().connections += 1;
                tokio::spawn(serve(socket, Arc::clone(&all)));
            }
        });
        Self { url, shared, task }
    }

    /// What it does with the next messages; with those after them, it answers well.
    pub fn acts(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.state().acts.extend(acts);
    }

    /// Everything that it heard, once that is this much.
    pub async fn heard(&self, count: usize) -> Vec<Heard> {
        let enough = async {
            loop {
                // Registered before the look, so that no message comes between both unnoticed.
                let received = self.shared.received.notified();
                let heard = self.shared.state().heard.clone();
                if heard.len() >= count {
                    return heard;
                }
                received.await;
            }
        };
        timeout(WAIT_TIMEOUT, enough).await.expect("it is called in time")
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

/// Hangs up without a word.
pub fn hang_up() -> Act {
    Act::Write(Vec::new())
}

/// What it answers when all is well: keys in an order of its own.
pub fn well(body: &Value) -> String {
    let text = &body["params"]["message"]["parts"][0]["text"];
    format!(
        r#"{{"jsonrpc":"2.0", "result":{{"role":"agent","parts":[{{"kind":"text","text":{text}}}]}},"id":{}}}"#,
        body["id"]
    )
}

async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut bytes = Vec::new();
    while let Some(heard) = message(&mut socket, &mut bytes).await {
        let act = {
            let mut state = shared.state();
            state.heard.push(heard.clone());
            shared.received.notify_waiters();
            state.acts.pop_front().unwrap_or_else(|| Act::Say(200, well(&heard.body)))
        };
        match act {
            Act::Say(status, body) => {
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = socket.write_all((head + &body).as_bytes()).await;
            }
            Act::Write(bytes) => {
                let _ = socket.write_all(&bytes).await;
                return;
            }
            Act::Never => std::future::pending().await,
        }
    }
}

async fn message(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Heard> {
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().ok()?;
            if bytes.len() >= end + 4 + length {
                let body = serde_json::from_slice(&bytes[end + 4..end + 4 + length]).unwrap_or(json!(null));
                bytes.drain(..end + 4 + length);
                return Some(Heard { head, body });
            }
        }
        if socket.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}
