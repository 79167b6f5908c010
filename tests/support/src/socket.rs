//! A WebSocket client, for canvas and agents.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _, http::HeaderValue},
};

use crate::Server;

/// How long a test waits for a frame that must come.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Opens a socket. The error is the status and the body of a refusal.
    pub async fn open(
        server: &Server,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, (u16, String)> {
        let url = format!("{}/ws{query}", server.url.replace("http:", "ws:"));
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header"));
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::Error::Http(answer)) => {
                let body = answer.body().clone().unwrap_or_default();
                Err((answer.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
            }
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub async fn canvas(server: &Server) -> Self {
        Self::open(server, "", &[]).await.expect("the socket is open")
    }

    /// The next text frame.
    pub async fn text(&mut self) -> String {
        loop {
            match self.message().await {
                Message::Text(text) => return text.to_string(),
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    pub async fn event(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("frames are JSON")
    }

    /// The next event of a message. What happened before the socket was opened may be published a moment later, where
    /// the server has to read it from the database.
    pub async fn message_event(&mut self) -> Value {
        loop {
            let event = self.event().await;
            if ["A2A_RESPONSE", "ACTIVITY_LOGGED"].iter().any(|name| event["event"] == *name) {
                return event;
            }
        }
    }

    /// Reads until the server closes, and returns its code.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(close) = self.message().await {
                return close.expect("a reason is given").code.into();
            }
        }
    }

    pub async fn send(&mut self, text: String) {
        self.0.send(Message::text(text)).await.expect("the socket is open");
    }

    async fn message(&mut self) -> Message {
        let message = timeout(WAIT_TIMEOUT, self.0.next()).await.expect("a message arrives in time");
        message.expect("the socket is open").expect("the connection works")
    }
}
