//! The HTTP client for agents: pooled connections, capped bodies, bounds of time.
//!
//! Redirects are not followed. A failure says whether the agent may have begun to work on the message:
//! only then may the message count as delivered, or be queued for later.
//!
//! Agents close idle connections when they like. A message that is written to such a connection at that
//! moment is lost: where the end comes at once, without a byte of a response, and on a connection that served
//! a response before, the message is sent once more, on a new connection.

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{CaptureConnection, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    addresses::AgentAddresses,
    agent_url::{self, UrlError},
    connector::{ConnectError, Connector},
    limits::{IDLE_CLOSE_WINDOW, MAX_BODY_BYTES, MAX_INFORMATIONAL, POOL_IDLE_TIMEOUT},
    patience::{CallLimits, Expired, Watch},
    socket::Usage,
    tls::{AgentAuthorities, Tls, TlsError},
};

/// A client for all agents. Cheap to clone.
#[derive(Clone)]
pub struct AgentClient {
    addresses: AgentAddresses,
    pooled: Client<Connector, Full<Bytes>>,
    /// Opens a connection for each request.
    unpooled: Client<Connector, Full<Bytes>>,
    header_timeout: Duration,
}

/// A request to an agent.
#[derive(Debug, Clone)]
pub struct AgentRequest {
    /// JSON.
    pub body: Bytes,
    /// Headers besides those of every request.
    pub headers: HeaderMap,
}

/// The head of an agent's response.
#[derive(Debug)]
pub struct AgentResponse {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Time from the request to the response headers.
    pub elapsed: Duration,
    /// The body, still to be read.
    pub body: AgentBody,
}

/// The body of a response, bounded by the limits of its call.
#[derive(Debug)]
pub struct AgentBody {
    incoming: Incoming,
    watch: Watch,
}

/// Why a body is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection ended first.
    #[error("the answer broke off")]
    Incomplete,
    /// A bound of the call was exceeded first.
    #[error("the answer was not finished: {0}")]
    Expired(Expired),
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
    /// There is no secure connection.
    #[error("{detail}")]
    Tls {
        /// Why.
        detail: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The request never reached the agent.
    #[error("it can't be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The request was sent: the agent may work on it.
    #[error("no answer came")]
    NoResponse(#[source] Box<dyn Error + Send + Sync>),
    /// The request was sent, and what came back is no HTTP.
    #[error("its answer is no HTTP")]
    InvalidResponse(#[source] Box<dyn Error + Send + Sync>),
    /// The request was sent, and heads came back that announce an answer, but no answer.
    #[error("it answered with nothing but statuses below 200")]
    NoFinalResponse,
}

impl CallError {
    /// What to do about it, where the text doesn't say so.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Url(error) => error.hint(),
            Self::Tls { hint, .. } => Some(hint),
            Self::Unreachable(_) | Self::NoResponse(_) | Self::InvalidResponse(_) | Self::NoFinalResponse => {
                None
            }
        }
    }
}

impl AgentClient {
    /// A client that connects to these addresses, trusts these authorities besides the system's, and waits up
    /// to `header_timeout` for response headers.
    #[must_use]
    pub fn new(addresses: AgentAddresses, authorities: AgentAuthorities, header_timeout: Duration) -> Self {
        let connector = Connector { addresses: addresses.clone(), tls: Arc::new(Tls::new(authorities)) };
        let pooled = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .build(connector.clone());
        let unpooled = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { addresses, pooled, unpooled, header_timeout }
    }

    /// Sends JSON and waits for the head of the response, within `limits`, which also bound its body.
    ///
    /// # Errors
    /// If no response headers came.
    pub async fn post(
        &self,
        url: &str,
        message: &AgentRequest,
        limits: CallLimits,
    ) -> Result<AgentResponse, CallError> {
        let uri = self.request_uri(url).map_err(CallError::Url)?;
        let sent = Instant::now();
        let mut watch = Watch::start(limits, self.header_timeout);
        let response = match exchange(&self.pooled, &uri, message, &mut watch).await {
            Err(failure) if failure.met_closing_connection && sent.elapsed() < IDLE_CLOSE_WINDOW => {
                tracing::debug!(%uri, "an agent closed an idle connection: the message is sent on a new one");
                exchange(&self.unpooled, &uri, message, &mut watch).await
            }
            answered => answered,
        };
        let response = response.map_err(|failure| failure.error)?;
        watch.headers_arrived();
        let (head, incoming) = response.into_parts();
        let elapsed = sent.elapsed();
        let body = AgentBody { incoming, watch };
        Ok(AgentResponse { status: head.status, headers: head.headers, elapsed, body })
    }

    /// The URL as it is called: without user name and password, which rows from earlier versions may have.
    fn request_uri(&self, url: &str) -> Result<Uri, UrlError> {
        let mut url = agent_url::parse(url)?;
        self.addresses.check_url(&url)?;
        // Neither can fail for a URL with a host.
        let _ = (url.set_username(""), url.set_password(None));
        url.as_str().parse().map_err(|_| UrlError::Malformed)
    }
}

impl AgentBody {
    /// The whole body, at most 10 MiB.
    ///
    /// # Errors
    /// If it broke off, took too long, or is larger.
    pub async fn collect(mut self) -> Result<Bytes, BodyError> {
        let mut bytes = BytesMut::new();
        while let Some(data) = self.data().await? {
            if bytes.len() + data.len() > MAX_BODY_BYTES {
                return Err(BodyError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    }

    /// The next piece of a stream, which is a sign of life of the agent; `None` at its end.
    ///
    /// # Errors
    /// If it broke off or took too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let data = self.data().await?;
        self.watch.heard();
        Ok(data)
    }

    /// Ends when a bound of the call is exceeded, for what its caller does between two chunks.
    pub async fn expired(&mut self) -> BodyError {
        BodyError::Expired(self.watch.expired().await)
    }

    async fn data(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.incoming.frame() => frame,
                expired = self.watch.expired() => return Err(BodyError::Expired(expired)),
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| {
                tracing::debug!(%error, "an agent's response broke off");
                BodyError::Incomplete
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// Heads with statuses below 200, which announce a response.
#[derive(Debug, Default)]
struct Announced {
    heads: AtomicUsize,
    too_many: Notify,
}

impl Announced {
    fn count(&self) {
        if self.heads.fetch_add(1, Ordering::Relaxed) == MAX_INFORMATIONAL {
            self.too_many.notify_one();
        }
    }

    fn is_any(&self) -> bool {
        self.heads.load(Ordering::Relaxed) > 0
    }
}

/// Why an exchange brought no response.
struct Failure {
    error: CallError,
    /// The connection had been used before, and ended before a byte of a response.
    met_closing_connection: bool,
}

async fn exchange(
    client: &Client<Connector, Full<Bytes>>,
    uri: &Uri,
    message: &AgentRequest,
    watch: &mut Watch,
) -> Result<Response<Incoming>, Failure> {
    let mut request = Request::new(Full::new(message.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = message.headers.clone();
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let connection = capture_connection(&mut request);
    let announced = Arc::<Announced>::default();
    let counter = Arc::clone(&announced);
    hyper::ext::on_informational(&mut request, move |_| counter.count());
    let answered = tokio::select! {
        biased;
        answered = client.request(request) => answered,
        expired = watch.expired() => {
            // Without a connection there was nothing that the agent could work on.
            let sent = connection.connection_metadata().is_some();
            let error = if sent { CallError::NoResponse } else { CallError::Unreachable }(expired.into());
            return Err(Failure { error, met_closing_connection: false });
        }
        () = announced.too_many.notified() => {
            return Err(Failure { error: CallError::NoFinalResponse, met_closing_connection: false });
        }
    };
    match answered {
        Ok(response) => {
            if let Some(usage) = response.extensions().get::<Usage>() {
                usage.set_answered();
            }
            Ok(response)
        }
        Err(error) => {
            let met_closing_connection =
                is_disconnect(&error) && usage(&connection).is_some_and(|usage| usage.is_reused_and_silent());
            let error = match is_disconnect(&error) && announced.is_any() {
                true => CallError::NoFinalResponse,
                false => call_error(error),
            };
            Err(Failure { error, met_closing_connection })
        }
    }
}

fn usage(connection: &CaptureConnection) -> Option<Usage> {
    let mut extras = Extensions::new();
    connection.connection_metadata().as_ref()?.get_extras(&mut extras);
    extras.remove()
}

// === Classifying failures ===

fn call_error(error: hyper_util::client::legacy::Error) -> CallError {
    match find_cause::<ConnectError>(&error) {
        Some(ConnectError::Url(error)) => return CallError::Url(error.clone()),
        Some(ConnectError::Tls(error)) => {
            if let Some(explained) = explained(error) {
                return explained;
            }
        }
        _ => {}
    }
    if error.is_connect() {
        return CallError::Unreachable(error.into());
    }
    if find_cause::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse) {
        return CallError::InvalidResponse(error.into());
    }
    match tls_error(&error) {
        // After the handshake, an agent says so that it wants a certificate, for instance.
        Some(&rustls::Error::AlertReceived(alert)) => {
            return explained(&TlsError::Refused(alert))
                .unwrap_or_else(|| CallError::Unreachable(error.into()));
        }
        Some(_) => return CallError::InvalidResponse(error.into()),
        None => {}
    }
    // There was a connection.
    let sent = is_disconnect(&error) || is_timeout(&error) || find_cause::<io::Error>(&error).is_some();
    if sent { CallError::NoResponse(error.into()) } else { CallError::Unreachable(error.into()) }
}

/// A failure of TLS for which there is a remedy.
fn explained(error: &TlsError) -> Option<CallError> {
    Some(CallError::Tls { detail: error.to_string(), hint: error.hint()? })
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

/// Errors of I/O don't name their causes as such.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    find_cause::<io::Error>(error)?.get_ref()?.downcast_ref()
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
        let client = AgentClient::new(AgentAddresses::default(), AgentAuthorities::default(), Duration::MAX);
        let request_uri = |url| client.request_uri(url);
        assert_eq!(request_uri("http://me:hush@a.example:81/p?q=1#f").unwrap(), "http://a.example:81/p?q=1");
        assert_eq!(request_uri("http://0x7f.1:81").unwrap(), "http://127.0.0.1:81/");
        assert_eq!(request_uri("ftp://a.example").unwrap_err(), UrlError::Scheme("ftp".to_owned()));
    }
}
