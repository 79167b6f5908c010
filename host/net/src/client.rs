//! The HTTP client for agents: pooled connections, capped bodies, deadlines.
//!
//! Redirects are not followed. A failure says whether the agent may have begun to work on the message:
//! only then may the message count as delivered, or be queued for later.

use std::{error::Error, io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    agent_url::{self, UrlError},
    connector::{ConnectError, Connector},
    limits::{IDLE_TIMEOUT, MAX_BODY_BYTES},
    policy::AddressPolicy,
};

/// A client for all agents. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentClient {
    client: Client<Connector, Full<Bytes>>,
    header_timeout: Duration,
}

/// An agent's response, as far as it came.
#[derive(Debug)]
pub struct AgentResponse {
    /// Status code.
    pub status: StatusCode,
    /// Time from the request to the response headers.
    pub elapsed: Duration,
    /// The whole body, at most 10 MiB.
    pub body: Result<Bytes, BodyError>,
}

/// Why a body is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection or the deadline ended first.
    #[error("the answer broke off")]
    Incomplete,
    /// The body exceeds the cap.
    #[error("the answer is too large")]
    TooLarge,
}

/// Why there is no response. The texts become details of activity rows.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The agent's URL may not be called.
    #[error("its URL can't be used")]
    Url(#[source] UrlError),
    /// The request never reached the agent.
    #[error("it can't be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The request was sent: the agent may work on it.
    #[error("no answer came")]
    NoResponse(#[source] Box<dyn Error + Send + Sync>),
    /// The request was sent, and what came back is no HTTP.
    #[error("its answer is no HTTP")]
    InvalidResponse(#[source] Box<dyn Error + Send + Sync>),
}

#[derive(Debug, thiserror::Error)]
#[error("timed out")]
struct TimedOut;

impl AgentClient {
    /// A client that connects to addresses of this policy and waits up to `header_timeout` for response
    /// headers.
    #[must_use]
    pub fn new(policy: AddressPolicy, header_timeout: Duration) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(Connector { policy });
        Self { client, header_timeout }
    }

    /// Sends JSON and waits for the response, until `deadline` at most.
    ///
    /// # Errors
    /// If no response headers came.
    pub async fn post(
        &self,
        url: &str,
        json: Bytes,
        deadline: Option<Instant>,
    ) -> Result<AgentResponse, CallError> {
        let mut request = Request::new(Full::new(json));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = request_uri(url).map_err(CallError::Url)?;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let sent = Instant::now();
        let header_deadline = sent + self.header_timeout;
        let header_deadline = deadline.map_or(header_deadline, |deadline| deadline.min(header_deadline));
        let response = timeout_at(header_deadline, self.client.request(request)).await;
        let response = response.map_err(|_| CallError::NoResponse(TimedOut.into()))?.map_err(call_error)?;
        let (status, elapsed) = (response.status(), sent.elapsed());
        let body = read_body(response.into_body());
        let body = match deadline {
            Some(deadline) => timeout_at(deadline, body).await.unwrap_or(Err(BodyError::Incomplete)),
            None => body.await,
        };
        Ok(AgentResponse { status, elapsed, body })
    }
}

/// The URL as it is called: without user name and password, which agents are not sent.
fn request_uri(url: &str) -> Result<Uri, UrlError> {
    let mut url = agent_url::parse(url)?;
    // Neither can fail for a URL with a host.
    let _ = (url.set_username(""), url.set_password(None));
    url.as_str().parse().map_err(|_| UrlError::Malformed)
}

async fn read_body(mut body: Incoming) -> Result<Bytes, BodyError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "an agent's response broke off");
            BodyError::Incomplete
        })?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > MAX_BODY_BYTES {
                return Err(BodyError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

// === Classifying failures ===

fn call_error(error: hyper_util::client::legacy::Error) -> CallError {
    if let Some(ConnectError::Url(error)) = find_cause::<ConnectError>(&error) {
        return CallError::Url(error.clone());
    }
    if error.is_connect() {
        return CallError::Unreachable(error.into());
    }
    if find_cause::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse) {
        return CallError::InvalidResponse(error.into());
    }
    let sent = is_disconnect(&error) || is_timeout(&error);
    if sent { CallError::NoResponse(error.into()) } else { CallError::Unreachable(error.into()) }
}

/// The connection ended before a response.
fn is_disconnect(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind as K;
    let by_hyper = find_cause::<hyper::Error>(error)
        .is_some_and(|error| error.is_incomplete_message() || error.is_canceled() || error.is_closed());
    by_hyper
        || find_cause::<io::Error>(error).is_some_and(|error| {
            matches!(
                error.kind(),
                K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof
            )
        })
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    find_cause::<hyper::Error>(error).is_some_and(hyper::Error::is_timeout)
        || find_cause::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// The first error of this type in the chain of causes.
fn find_cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        at = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_called_without_credentials() {
        assert_eq!(request_uri("http://me:hush@a.example:81/p?q=1#f").unwrap(), "http://a.example:81/p?q=1");
        assert_eq!(request_uri("http://0x7f.1:81").unwrap(), "http://127.0.0.1:81/");
        assert_eq!(request_uri("ftp://a.example").unwrap_err(), UrlError::Scheme("ftp".to_owned()));
    }
}
