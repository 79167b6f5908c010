//! Ports for servers that must restart on the same one. All other servers listen on port 0.

use std::{
    net::{TcpListener, TcpStream},
    process::Child,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long a program may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Below the range from which Linux takes ports for outgoing connections and for port 0 (32768 and up), so that
/// a port stays free while its server is down.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port of 127.0.0.1 on which no program listens. Each call of a process returns another.
///
/// # Panics
/// When all are in use.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin at different places.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below a port number");
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port is free")
}

/// Waits until a child listens on a port of 127.0.0.1, and returns a connection. `log` explains a failure.
///
/// # Panics
/// When the child ends first, or takes too long.
pub fn until_listening(child: &mut Child, port: u16, log: impl Fn() -> String) -> TcpStream {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Ok(socket) = TcpStream::connect(("127.0.0.1", port)) {
            return socket;
        }
        let ended = child.try_wait().expect("it is a child");
        assert!(
            ended.is_none() && Instant::now() < deadline,
            "port {port} stays closed: {ended:?} {}",
            log()
        );
        thread::sleep(Duration::from_micros(200));
    }
}
