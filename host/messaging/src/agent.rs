//! Calls agents over HTTP.
//!
//! A connection is opened only to an address that an agent may have, and the very address that was looked
//! at is the one that is called; a pooled connection leads where it led before. Redirects are not
//! followed. What matters of a failure is whether the agent may have begun to work: only then may the
//! message be called delivered, or kept for later.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use fleet::agent_url::{AgentUrl, Reach, UrlError};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tower_service::Service;

use crate::limits::{CONNECT, KEEP_ALIVE, Limits, REPLY_BYTES};

/// A client for all agents. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    client: Client<Connector, Full<Bytes>>,
    limits: Arc<Limits>,
}

/// What an agent answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Time until the answer began.
    pub(crate) took: Duration,
    pub(crate) body: Result<Bytes, Cut>,
}

/// Why an answer has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    #[error("the answer broke off")]
    Broken,
    #[error("the answer is too large")]
    TooLarge,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// It can't be called where it says it is.
    #[error("its URL can't be used")]
    Url(#[source] UrlError),
    /// It never heard of the message.
    #[error("it can't be reached")]
    Unreached(#[source] Box<dyn Error + Send + Sync>),
    /// It may work on it.
    #[error("no answer came")]
    Unanswered(#[source] Box<dyn Error + Send + Sync>),
}

/// The time is over.
#[derive(Debug, thiserror::Error)]
#[error("timed out")]
struct TimedOut;

impl Agents {
    pub(crate) fn new(limits: Limits) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP_ALIVE)
            .build(Connector { reach: limits.reach });
        Self { client, limits: Arc::new(limits) }
    }

    /// Sends a message and waits for the answer, until `deadline` at most.
    pub(crate) async fn call(
        &self,
        url: &str,
        message: Bytes,
        deadline: Option<Instant>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri(url).map_err(NoAnswer::Url)?;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let asked = Instant::now();
        let begun = asked + self.limits.header_timeout;
        let begun = deadline.map_or(begun, |deadline| deadline.min(begun));
        let response = timeout_at(begun, self.client.request(request)).await;
        let response = response.map_err(|_| NoAnswer::Unanswered(TimedOut.into()))?.map_err(failure)?;
        let (status, took) = (response.status(), asked.elapsed());
        let body = whole(response.into_body());
        let body = match deadline {
            Some(deadline) => timeout_at(deadline, body).await.unwrap_or(Err(Cut::Broken)),
            None => body.await,
        };
        Ok(Answer { status, took, body })
    }
}

/// The URL as it is called: without a name and a password, which agents are not sent.
fn uri(url: &str) -> Result<Uri, UrlError> {
    let mut url = AgentUrl::parse(url)?;
    // Neither can fail for a URL with a host.
    let _ = (url.set_username(""), url.set_password(None));
    url.as_str().parse().map_err(|_| UrlError::Malformed)
}

async fn whole(mut body: Incoming) -> Result<Bytes, Cut> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "an agent's answer broke off");
            Cut::Broken
        })?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > REPLY_BYTES {
                return Err(Cut::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

fn failure(error: hyper_util::client::legacy::Error) -> NoAnswer {
    if let Some(ConnectError::Url(error)) = find::<ConnectError>(&error) {
        return NoAnswer::Url(error.clone());
    }
    let began = !error.is_connect() && (broke_off(&error) || timed_out(&error));
    if began { NoAnswer::Unanswered(error.into()) } else { NoAnswer::Unreached(error.into()) }
}

/// Did the connection end before an answer?
fn broke_off(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind as K;
    let by_hyper = find::<hyper::Error>(error)
        .is_some_and(|error| error.is_incomplete_message() || error.is_canceled() || error.is_closed());
    by_hyper
        || find::<io::Error>(error).is_some_and(|error| {
            matches!(
                error.kind(),
                K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof
            )
        })
}

fn timed_out(error: &(dyn Error + 'static)) -> bool {
    find::<hyper::Error>(error).is_some_and(hyper::Error::is_timeout)
        || find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// The cause of this type, if there is one.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        at = error.source();
    }
    None
}

// === Connections ===

/// Opens connections to agents.
#[derive(Debug, Clone, Copy)]
struct Connector {
    reach: Reach,
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("its address may not be called")]
    Url(#[source] UrlError),
    #[error("https isn't spoken to agents yet")]
    Tls,
    #[error("no connection in time")]
    TimedOut,
    #[error("no connection")]
    Io(#[source] io::Error),
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let url = AgentUrl::parse(&uri.to_string()).map_err(ConnectError::Url)?;
        let addresses = AgentUrl::addresses(&url, self.reach).await.map_err(ConnectError::Url)?;
        if url.scheme() != "http" {
            return Err(ConnectError::Tls);
        }
        let opened = timeout(CONNECT, open(&addresses)).await;
        let socket = opened.map_err(|_| ConnectError::TimedOut)?.map_err(ConnectError::Io)?;
        // A message is written at once; waiting for more of it would only hold it up.
        socket.set_nodelay(true).map_err(ConnectError::Io)?;
        Ok(TokioIo::new(socket))
    }
}

async fn open(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    TcpStream::connect(addresses).await
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.connect(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_called_without_their_secrets() {
        assert_eq!(uri("http://me:hush@a.example:81/p?q=1#f").unwrap(), "http://a.example:81/p?q=1");
        assert_eq!(uri("http://0x7f.1:81").unwrap(), "http://127.0.0.1:81/");
        assert_eq!(uri("ftp://a.example").unwrap_err(), UrlError::Scheme("ftp".to_owned()));
    }
}
