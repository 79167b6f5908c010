//! A client that writes raw bytes and reads answers as they come.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long an answer may take. Long enough for a loaded machine.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the server may take to say that it refuses.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It takes further requests.
    Open,
    Closed,
    /// The server waits for more of a request, or doesn't answer.
    Silent,
}

/// A request that no attack contains, and the body of its answer.
const LAST: &[u8] = b"GET /buildinfo HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LAST_BODY: &str = r#"{"git_sha":"dev"}"#;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and header lines.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The text of a JSON error.
    pub(crate) fn error(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        json["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection and what was read of it.
pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    read: Vec<u8>,
}

impl From<TcpStream> for Raw {
    fn from(socket: TcpStream) -> Self {
        Self { socket, read: Vec::new() }
    }
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        assert!(address.ip().is_loopback(), "{address} is not of this machine");
        TcpStream::connect(address).await.expect("it listens").into()
    }

    /// Waits until the server closes.
    pub(crate) async fn end(&mut self) {
        while self.more().await {}
    }

    /// Bytes that were read, and of which nothing was made yet.
    pub(crate) fn buffered(&self) -> usize {
        self.read.len()
    }

    /// Writes what the other end takes: a server that has refused may have closed.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = timeout(WAIT_TIMEOUT, self.socket.write_all(bytes)).await;
    }

    /// The next answer; none where the server closes without one. The body of a stream of events is not read.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        timeout(WAIT_TIMEOUT, self.read_answer()).await.expect("an answer in time, or the end")
    }

    /// Every answer to what was written before, and how it ended. The answer to a request that is written now says
    /// that there are no others.
    pub(crate) async fn answers(&mut self) -> (Vec<Answer>, End) {
        let mut all = Vec::new();
        self.write(LAST).await;
        loop {
            match timeout(ANSWER_TIMEOUT, self.read_answer()).await {
                Err(_) => return (all, End::Silent),
                Ok(None) => return (all, End::Closed),
                Ok(Some(answer)) if answer.body == LAST_BODY => return (all, End::Open),
                Ok(Some(answer)) => all.push(answer),
            }
        }
    }

    /// Status line and header lines of the next answer.
    pub(crate) async fn head(&mut self) -> String {
        let head = timeout(WAIT_TIMEOUT, self.read_head()).await.expect("an answer in time");
        head.expect("an answer")
    }

    async fn read_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if !self.more().await {
                assert!(self.read.is_empty(), "half an answer: {}", String::from_utf8_lossy(&self.read));
                return None;
            }
        }
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        let head = self.read_head().await?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {head}"));
        let mut answer = Answer { status, head, body: String::new() };
        let stream = answer.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        while !stream && self.read.len() < length {
            assert!(self.more().await, "half a body: {}", answer.head);
        }
        if !stream {
            let body: Vec<u8> = self.read.drain(..length).collect();
            answer.body = String::from_utf8_lossy(&body).into_owned();
        }
        Some(answer)
    }

    async fn more(&mut self) -> bool {
        // A reset is an end, too: the server closes while the client still writes.
        self.socket.read_buf(&mut self.read).await.is_ok_and(|bytes| bytes > 0)
    }
}

/// The one answer to one request.
pub(crate) async fn ask(address: SocketAddr, request: &[u8]) -> Answer {
    let mut connection = Raw::connect(address).await;
    connection.write(request).await;
    let answer = connection.answer().await;
    answer.unwrap_or_else(|| panic!("closed without an answer: {}", String::from_utf8_lossy(request)))
}
