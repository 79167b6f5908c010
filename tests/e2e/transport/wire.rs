//! An in-process server per test, and a client that reads raw bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::app::{App, count_by_credential, with_canvas};
use axum::Router;
use catalog::{Catalog, Manifest};
use events::{Feed, Hub};
use fleet::{Fleet, FleetConfig, RuntimeTemplates};
use httpd::connection::Deadlines;
use httpd::middleware;
use httpd::rate_limit::{LimiterClock, RateLimits};
use httpd::serve::{Limits, serve};
use httpd::shutdown::Shutdown;
use isomer::settings::Settings;
use isomer::wiring;
use state::State;
use store::{Cipher, Store};
use support::Database;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use wasm::{AotCache, Sandbox};

/// How long a test waits for something that must happen. Long enough for a loaded machine.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections by which sockets, streams and calls are limited.
const CONNECTIONS: u32 = 10_000;

/// Limits that no test reaches by accident.
pub(crate) const PATIENT: Limits = Limits {
    max_connections: 100,
    connections_per_address: 100,
    max_head: 64 * 1024,
    deadlines: Deadlines {
        header: WAIT_TIMEOUT,
        idle: WAIT_TIMEOUT,
        linger: Duration::from_secs(1),
        body: WAIT_TIMEOUT,
        body_grace: WAIT_TIMEOUT,
        body_rate: 1,
    },
    drain: WAIT_TIMEOUT,
    start: WAIT_TIMEOUT,
};

/// A fleet without workspaces.
async fn fleet(catalog: Catalog, database: &Database) -> Fleet {
    let store = Store::connect(&database.url()).await.expect("a database");
    let (state, _) = State::open(store, Hub::default()).await.expect("a database");
    let config = FleetConfig {
        state,
        runtimes: Arc::new(catalog),
        backend: None,
        cipher: Cipher::new(None, None, false).expect("no key is needed"),
        templates: RuntimeTemplates::open(None),
        limits: fleet::Limits::default(),
        provision: fleet::ProvisionSettings::default(),
        saas: false,
        addresses: Default::default(),
        host_directories: Default::default(),
    };
    Fleet::open(config).await
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) done: JoinHandle<()>,
    _database: Database,
}

/// First-party guests, loaded once for all servers.
async fn catalog() -> Catalog {
    static CATALOG: OnceCell<Catalog> = OnceCell::const_new();
    let open = async || {
        // A static value is never dropped. The runner removes the directory with all others of the run.
        let directory = tempfile::tempdir().expect("a directory").keep();
        let cache = AotCache::open(support::compiled_guests()).expect("a cache");
        let sandbox = Sandbox::new(wasm::Limits::default(), Some(cache)).expect("an engine");
        let database = format!("sqlite:{}", directory.join("isomer.db").display());
        let store = Store::connect(&database).await.expect("a database");
        let components = directory.join("components");
        Catalog::open(sandbox, store, &components, Feed::default(), Manifest::default())
            .await
            .expect("guests")
    };
    CATALOG.get_or_init(open).await.clone()
}

impl Server {
    /// Starts a server with the routes of the product.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::with_routes(flags, api::routes).await
    }

    /// Starts a server with other routes in the middleware of the product.
    pub(crate) async fn with_routes(flags: &[&str], routes: impl FnOnce(&App) -> Router<App>) -> Self {
        Self::with_limits(flags, PATIENT, routes).await
    }

    pub(crate) async fn with_limits(
        flags: &[&str],
        limits: Limits,
        routes: impl FnOnce(&App) -> Router<App>,
    ) -> Self {
        Self::tuned(flags, limits, |_| {}, routes).await
    }

    /// Starts a server with another clock for its rate limits.
    pub(crate) async fn with_clock(
        clock: LimiterClock,
        flags: &[&str],
        limits: Limits,
        routes: impl FnOnce(&App) -> Router<App>,
    ) -> Self {
        let settings = Settings::from_flags(flags.iter().copied()).expect("valid flags");
        let tune = |app: &mut App| {
            app.limits = Arc::new(RateLimits::with_clock(&settings.http, settings.access.dev_mode(), &clock));
            count_by_credential(&app.limits, &app.access);
        };
        Self::tuned(flags, limits, tune, routes).await
    }

    /// Starts a server after `tune` has changed its state.
    pub(crate) async fn tuned(
        flags: &[&str],
        limits: Limits,
        tune: impl FnOnce(&mut App),
        routes: impl FnOnce(&App) -> Router<App>,
    ) -> Self {
        let settings = Settings::from_flags(flags.iter().copied()).expect("valid flags");
        let http = wiring::http_parts(&settings).expect("the only recorder");
        let shutdown = Shutdown::default();
        let catalog = catalog().await;
        let database = Database::sqlite();
        let fleet = fleet(catalog.clone(), &database).await;
        let mut app =
            wiring::app(&settings, CONNECTIONS, http, catalog, fleet, Default::default(), shutdown.clone());
        tune(&mut app);
        let routes = with_canvas(routes(&app), &app, &settings.http);
        let router = middleware(routes, &settings.http, &app.cors, &app.metrics, &app.limits).with_state(app);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let proxies = settings.http.trusted_proxies.clone();
        let done = tokio::spawn(serve(listener, router, limits, proxies, shutdown.clone()));
        Self { address, shutdown, done, _database: database }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Sends one request on a new connection. `headers` are lines without line ends.
    pub(crate) async fn ask(&self, method: &str, target: &str, headers: &[&str]) -> Answer {
        self.send(method, target, headers, "").await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[]).await
    }

    pub(crate) async fn send(&self, method: &str, target: &str, headers: &[&str], body: &str) -> Answer {
        let mut client = self.connect().await;
        client.write(&request(method, target, headers, body)).await;
        client.answer_to(method).await
    }
}

/// A request as bytes.
pub(crate) fn request(method: &str, target: &str, headers: &[&str], body: &str) -> String {
    let mut lines = vec![format!("{method} {target} HTTP/1.1"), "Host: own.localhost".to_owned()];
    lines.extend(headers.iter().map(ToString::to_string));
    if !body.is_empty() {
        lines.push(format!("Content-Length: {}", body.len()));
    }
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("connected"))
    }

    /// Connects from another address of this machine.
    pub(crate) async fn connect_from(from: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this machine");
        Self(socket.connect(address).await.expect("connected"))
    }

    pub(crate) async fn write(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.expect("written");
    }

    /// The next answer, with a body of `Content-Length` bytes.
    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head().await;
        let mut answer = Answer { head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |l| l.parse().expect("a number"));
        if method != "HEAD" {
            answer.body = self.exactly(length).await;
        }
        answer
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    async fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &self.exactly(1).await;
        }
        head
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        let read = tokio::time::timeout(WAIT_TIMEOUT, self.0.read_exact(&mut bytes)).await;
        read.expect("in time").expect("an answer");
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// Reads until the server closes. A reset fails the test.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        let read = tokio::time::timeout(WAIT_TIMEOUT, self.0.read_to_string(&mut rest)).await;
        read.expect("in time").expect("a clean end");
        rest
    }
}

/// A raw answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status line and headers, as sent.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        let status = self.head.split(' ').nth(1).expect("a status line");
        status.parse().expect("a status")
    }

    /// All values of a header, whose name is case-insensitive.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }
}
