//! A connection to an agent, plain or with TLS, that remembers whether it served a response before and
//! whether the present request got a byte of one. By that a message that met a closing idle connection is
//! told from one that an agent began to work on.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES};

/// The history of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    /// A response came over it.
    answered: AtomicBool,
    /// Bytes came since the present request.
    heard: AtomicBool,
}

impl Usage {
    pub(crate) fn set_answered(&self) {
        self.0.answered.store(true, Ordering::Relaxed);
    }

    /// Whether the connection had served a response, and then nothing came for the present request.
    pub(crate) fn is_reused_and_silent(&self) -> bool {
        self.0.answered.load(Ordering::Relaxed) && !self.0.heard.load(Ordering::Relaxed)
    }
}

/// A connection to an agent.
#[derive(Debug)]
pub(crate) struct AgentSocket {
    stream: Stream,
    usage: Usage,
    /// The last operation was a read. A write after it begins the next request.
    reading: bool,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AgentSocket {
    pub(crate) fn plain(socket: TcpStream) -> Self {
        Self { stream: Stream::Plain(socket), usage: Usage::default(), reading: false }
    }

    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), usage: Usage::default(), reading: false }
    }

    fn wrote(&mut self) {
        if std::mem::take(&mut self.reading) {
            self.usage.0.heard.store(false, Ordering::Relaxed);
        }
    }
}

/// Options of a socket to an agent.
pub(crate) fn configure(socket: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    // A message is written at once; Nagle's algorithm would only delay it.
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    Ok(())
}

impl Connection for AgentSocket {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.usage.clone())
    }
}

impl AsyncRead for AgentSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if buffer.filled().len() > before {
            self.reading = true;
            self.usage.0.heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for AgentSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wrote();
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wrote();
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn sockets_probe_a_silent_agent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        configure(&socket).unwrap();
        assert!(socket.nodelay().unwrap() && sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), KEEPALIVE_IDLE);
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), KEEPALIVE_PROBES);
    }
}
