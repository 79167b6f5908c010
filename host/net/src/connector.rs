//! Opens connections to agents, and only to addresses that agents may have.
//!
//! The address that is checked is the very one that is connected to: the name is looked up once, here. A
//! pooled connection leads where it led when it was opened.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;

use crate::{
    agent_url::{self, UrlError},
    limits::CONNECT_TIMEOUT,
    policy::AddressPolicy,
};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Connector {
    pub(crate) policy: AddressPolicy,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
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
        let url = agent_url::parse(&uri.to_string()).map_err(ConnectError::Url)?;
        let addresses = agent_url::resolve(&url, self.policy).await.map_err(ConnectError::Url)?;
        if url.scheme() != "http" {
            return Err(ConnectError::Tls);
        }
        let opened = timeout(CONNECT_TIMEOUT, TcpStream::connect(addresses.as_slice())).await;
        let socket = opened.map_err(|_| ConnectError::TimedOut)?.map_err(ConnectError::Io)?;
        // A message is written at once; Nagle's algorithm would only delay it.
        socket.set_nodelay(true).map_err(ConnectError::Io)?;
        Ok(TokioIo::new(socket))
    }
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
