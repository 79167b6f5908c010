//! TLS in front of a server that has none, as a reverse proxy does it.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::Certificate;

/// Takes TLS connections and passes their bytes on. Dropping the value stops it.
pub struct TlsProxy {
    pub address: SocketAddr,
    task: AbortHandle,
}

impl TlsProxy {
    /// In front of the server at `url`.
    pub async fn start(certificate: &Certificate, url: &str) -> Self {
        let acceptor = certificate.acceptor();
        let to: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that doesn't trust the certificate ends the handshake.
                    if let Ok(mut from) = acceptor.accept(socket).await
                        && let Ok(mut to) = TcpStream::connect(to).await
                    {
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        });
        Self { address, task: task.abort_handle() }
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
