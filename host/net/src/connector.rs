//! Opens connections to agents, and only to addresses that agents may have.
//!
//! The address that is checked is the very one that is connected to: the name is looked up once, here. A
//! pooled connection leads where it led when it was opened.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;

use crate::{
    addresses::AgentAddresses,
    agent_url::{self, UrlError},
    limits::CONNECT_TIMEOUT,
    socket::{self, AgentSocket},
    tls::{Tls, TlsError},
};

#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) addresses: AgentAddresses,
    pub(crate) tls: Arc<Tls>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("its address may not be called")]
    Url(#[source] UrlError),
    #[error(transparent)]
    Tls(TlsError),
    #[error("no connection in time")]
    TimedOut,
    #[error("no connection")]
    Io(#[source] io::Error),
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<AgentSocket>, ConnectError> {
        let url = agent_url::parse(&uri.to_string()).map_err(ConnectError::Url)?;
        let addresses = self.addresses.resolve(&url).await.map_err(ConnectError::Url)?;
        let opened = timeout(CONNECT_TIMEOUT, TcpStream::connect(addresses.as_slice())).await;
        let socket = opened.map_err(|_| ConnectError::TimedOut)?.map_err(ConnectError::Io)?;
        socket::configure(&socket).map_err(ConnectError::Io)?;
        let socket = if url.scheme() == "https" {
            AgentSocket::tls(self.tls.handshake(&url, socket).await.map_err(ConnectError::Tls)?)
        } else {
            AgentSocket::plain(socket)
        };
        Ok(TokioIo::new(socket))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<AgentSocket>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
