//! `isomer serve`: from settings to a server that listens, and back to a process that ends.

use std::cell::Cell;
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use catalog::{Catalog, CatalogError, GuestWatcher, Manifest, WatchError};
use events::{Feed, Hub};
use fleet::{Fleet, FleetConfig, HostDirectories, RuntimeTemplates};
use messaging::Messaging;
use metrics_exporter_prometheus::BuildError;
use net::AuthoritiesError;
use state::State;
use store::{
    Cipher, CipherError, DataDir, DataDirError, DatabaseLock, DatabaseLockError, DatabaseUrl,
    DatabaseUrlError, Store, StoreError,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wasm::{AotCache, Compiler, Sandbox, SandboxError};

use crate::background;
use crate::logging::LogFormat;
use crate::settings::{Settings, is_blank};
use crate::settings_check;
use crate::wiring;
use api::app::router;
use api::health::EARLY;
use api::settings::Secret;
use httpd::body_budget;
use httpd::capacity::{Capacity, raise_open_files};
use httpd::serve::{self, Limits, Routes};
use httpd::shutdown::Shutdown;

/// How long the last writes and closing the database may take after the last request.
const LAST_WRITES: Duration = Duration::from_secs(15);
/// The part of the time to drain that is left for storing what deliveries ended with: at most this, and a quarter.
const LAST_OUTCOMES: Duration = Duration::from_secs(5);
/// How long the answers may take to requests that wait for a server whose start failed or was stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No address could be listened on.
    #[error("cannot listen on {host} port {port} (see BIND_ADDR and PORT)")]
    Listen {
        /// The host tried last.
        host: String,
        /// The port.
        port: u16,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The token is a typing error or an empty substitution, and without one the server would be open.
    #[error(
        "ADMIN_TOKEN has blanks only: set it to a long random text, or leave it out to run a server that every client \
         controls"
    )]
    BlankAdminToken,
    /// The data directory can't be used, or is another server's.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database is another server's, or can't be this one's alone.
    #[error(transparent)]
    DatabaseLock(#[from] DatabaseLockError),
    /// The database can't be used.
    #[error("cannot open the database (see DATABASE_URL and DATA_DIR)")]
    Store(#[from] StoreError),
    /// The database's URL can't be used.
    #[error(transparent)]
    DatabaseUrl(#[from] DatabaseUrlError),
    /// The sandbox of guests could not be set up.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The guests could not be read.
    #[error("cannot read the guests")]
    Catalog(#[from] CatalogError),
    /// The directory of guests can't be watched.
    #[error(transparent)]
    GuestsDir(#[from] WatchError),
    /// The metrics recorder could not be installed.
    #[error("cannot set up metrics")]
    Metrics(#[from] BuildError),
    /// Secrets could not be sealed.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// Certificates of agents' authorities can't be read.
    #[error(transparent)]
    Authorities(#[from] AuthoritiesError),
    /// The web canvas would be this server.
    #[error(
        "CANVAS_PROXY_URL is this server's own address: give the address of the web canvas, or leave it out"
    )]
    OwnCanvas,
    /// The operating system refused signal handlers.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
}

/// Runs the server until a signal ends it. The running program must be `isomer`: it compiles guests in
/// processes of its own program.
///
/// It listens as soon as the settings are checked: `/health` is answered while the database and the guests are
/// opened, other requests wait until that is done. A first signal stops the server in order, also during the
/// start; a second one ends all waiting.
///
/// # Errors
/// When it cannot start.
pub async fn serve(settings: &Settings) -> Result<(), StartError> {
    let shutdown = Shutdown::default();
    shutdown.on_signals().map_err(StartError::Signals)?;
    check(settings)?;
    for sentence in settings_check::without_effect(settings, &set_variables()) {
        tracing::warn!("{sentence}");
    }
    let open_files = raise_open_files();
    let capacity = Capacity::new(&settings.http, open_files);
    if let Some(hint) = capacity.hint(&settings.http, open_files) {
        tracing::warn!("{hint}");
    }
    body_budget::set(settings.http.request_body_bytes());
    let http = wiring::http_parts(settings)?;
    // Of two servers with one data directory the second must not listen, not even for a moment.
    let data_dir = DataDir::open(&settings.storage.data_dir)?;
    let cipher = cipher(settings)?;
    let authorities = settings.messages.authorities()?;
    let database = database_url(settings, &data_dir)?;
    // Held until the server has ended.
    let _database_lock = DatabaseLock::take(&database)?;
    let watcher = settings.guests.guests_dir.as_deref().map(GuestWatcher::watch).transpose()?;
    let (listener, address) = listen(settings).await?;
    let routes = Routes::starting(&EARLY, wiring::early_router(settings, &http));
    let drain = Duration::from_secs(settings.http.drain_seconds.get().into());
    let limits = Limits {
        max_connections: capacity.connections,
        connections_per_address: capacity.per_address,
        drain,
        ..Limits::default()
    };
    let proxies = settings.http.trusted_proxies.clone();
    let serving = tokio::spawn(serve::serve(listener, routes.clone(), limits, proxies, shutdown.clone()));

    let opened = tokio::select! {
        opened = open(settings, &data_dir, &database, cipher, address) => opened.map(Some),
        () = shutdown.draining() => Ok(None),
    };
    let Opened { store, catalog, fleet, written } = match opened {
        Ok(Some(opened)) => opened,
        Ok(None) => {
            abandon(&routes, &shutdown, serving).await;
            tracing::info!("stopped before the start was done");
            return Ok(());
        }
        Err(error) => {
            abandon(&routes, &shutdown, serving).await;
            return Err(error);
        }
    };
    let connections = capacity.connections;
    let (guests, workspaces) = (catalog.clone(), fleet.clone());
    let app = wiring::app(settings, connections, http, guests, workspaces, authorities, shutdown.clone());
    let tasks = app.tasks.clone();
    background::start(&app, settings, watcher);
    tokio::spawn(stop_compiling(catalog.clone(), shutdown.clone()));
    let delivering = tokio::spawn(stop_deliveries(app.messaging.clone(), drain, shutdown.clone()));
    routes.ready(router(app, &settings.http));
    // The routes hold the fleet, and the writer ends with its last clone.
    drop(routes);
    announce(settings, &data_dir, address);
    if let Err(error) = serving.await {
        tracing::error!(error = &error as &dyn std::error::Error, "the connection loop panicked");
        shutdown.end();
    }

    if let Err(error) = delivering.await {
        tracing::error!(error = &error as &dyn std::error::Error, "the end of deliveries panicked");
    }

    let stored = Cell::new(false);
    let closing = async {
        tasks.shutdown().await;
        catalog.store_counters().await;
        fleet.close().await;
        if let Err(error) = written.await {
            tracing::error!(error = &error as &dyn std::error::Error, "the writer panicked");
        }
        stored.set(true);
        if let Err(error) = store.close().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the database was not closed in order");
        }
    };
    tokio::select! {
        closed = timeout(LAST_WRITES, closing) => match closed {
            Ok(()) => {}
            Err(_) if stored.get() => tracing::warn!("the database was not closed in time; nothing is lost"),
            Err(_) => tracing::warn!(
                "the last writes were not stored in time: activity and heartbeats of the last seconds may be lost"
            ),
        },
        () = shutdown.forced() => {}
    }
    tracing::info!("stopped");
    Ok(())
}

/// Refuses settings with which the server does not start, as far as they say so by themselves.
pub(crate) fn check(settings: &Settings) -> Result<(), StartError> {
    let is_typed = |token: OsString| !token.is_empty() && is_blank(&token);
    if env::var_os("ADMIN_TOKEN").is_some_and(is_typed) && !settings.access.development() {
        return Err(StartError::BlankAdminToken);
    }
    if settings.http.canvas_is_own() {
        return Err(StartError::OwnCanvas);
    }
    Ok(())
}

/// Variables that have a value. A blank one counts as unset.
pub(crate) fn set_variables() -> Vec<String> {
    let set = env::vars_os().filter(|(_, value)| !is_blank(value));
    set.filter_map(|(name, _)| name.into_string().ok()).collect()
}

/// Once the server drains, ends deliveries in time for their outcomes to be stored, and for their senders to be
/// answered.
async fn stop_deliveries(messaging: Messaging, drain: Duration, shutdown: Shutdown) {
    shutdown.draining().await;
    let last = LAST_OUTCOMES.min(drain / 4);
    tokio::select! {
        _ = messaging.stop(drain - last, last) => {}
        () = shutdown.forced() => {}
    }
}

/// Once the server drains, ends compilations: they may take longer than it waits.
async fn stop_compiling(catalog: Catalog, shutdown: Shutdown) {
    shutdown.draining().await;
    catalog.stop_compiling();
}

/// What depends on the database.
struct Opened {
    store: Store,
    catalog: Catalog,
    fleet: Fleet,
    /// Ends when the last write is stored.
    written: JoinHandle<()>,
}

async fn open(
    settings: &Settings,
    data_dir: &DataDir,
    database: &DatabaseUrl,
    cipher: Cipher,
    address: SocketAddr,
) -> Result<Opened, StartError> {
    let store = Store::open(database).await?;
    let catalog = open_catalog(settings, data_dir, store.clone()).await?;
    let (state, written) =
        State::open_with(store.clone(), Hub::default(), settings.storage.behind_bytes()).await?;
    let own = [data_dir.path().to_owned()].into_iter().chain(database.files());
    let host_directories = HostDirectories::new(own.chain(settings.directories()));
    let fleet = open_fleet(settings, state, catalog.clone(), cipher, address, host_directories).await;
    Ok(Opened { store, catalog, fleet, written })
}

/// Ends a server whose routes will not be ready: requests that wait for them are answered with 503.
async fn abandon(routes: &Routes, shutdown: &Shutdown, serving: JoinHandle<()>) {
    routes.abandon();
    shutdown.drain();
    if timeout(LAST_ANSWERS, serving).await.is_err() {
        tracing::warn!("open requests did not end in time");
    }
}

fn cipher(settings: &Settings) -> Result<Cipher, CipherError> {
    let key = settings.storage.secrets_encryption_key.as_ref().map(Secret::expose);
    let previous = settings.storage.secrets_encryption_key_previous.as_ref().map(Secret::expose);
    Cipher::new(key, previous, settings.access.production())
}

fn database_url(settings: &Settings, data_dir: &DataDir) -> Result<DatabaseUrl, DatabaseUrlError> {
    match &settings.storage.database_url {
        Some(url) => DatabaseUrl::parse(url.expose()),
        None => DatabaseUrl::parse(&data_dir.database_url()),
    }
}

async fn open_catalog(settings: &Settings, data_dir: &DataDir, store: Store) -> Result<Catalog, StartError> {
    let compiled = settings.guests.guest_cache_dir.clone().unwrap_or_else(|| data_dir.compiled());
    let cache = AotCache::open_or_read(compiled)?;
    let compiler = Compiler::this_program(settings.guests.compile_limits());
    let sandbox = Sandbox::with_compiler(wasm::Limits::default(), Some(cache), compiler)?;
    let manifest = Manifest::load(settings.guests.workspace_manifest_path.as_deref());
    Ok(Catalog::open(sandbox, store, &data_dir.components(), Feed::default(), manifest).await?)
}

async fn open_fleet(
    settings: &Settings,
    state: State,
    catalog: Catalog,
    cipher: Cipher,
    address: SocketAddr,
    host_directories: HostDirectories,
) -> Fleet {
    let config = FleetConfig {
        state,
        runtimes: Arc::new(catalog),
        backend: None,
        cipher,
        templates: RuntimeTemplates::open(settings.workspaces.runtime_templates()),
        limits: settings.workspaces.limits(),
        provision: settings.provision(),
        saas: settings.saas(),
        addresses: settings.addresses(address),
        host_directories,
    };
    Fleet::open(config).await
}

/// Listens on the first host that works.
async fn listen(settings: &Settings) -> Result<(TcpListener, SocketAddr), StartError> {
    let port = settings.http.port;
    let mut failure =
        StartError::Listen { host: String::new(), port, source: io::ErrorKind::AddrNotAvailable.into() };
    for host in settings.http.listen_hosts(settings.access.dev_mode()) {
        let bound = TcpListener::bind((host, port)).await;
        match bound.and_then(|listener| listener.local_addr().map(|address| (listener, address))) {
            Ok(listening) => return Ok(listening),
            Err(source) => {
                let host = host.to_owned();
                failure = StartError::Listen { host, port, source };
            }
        }
    }
    Err(failure)
}

/// Prints where the server listens and what to try. With JSON logs that is one log line, so that only JSON
/// leaves the process.
fn announce(settings: &Settings, data_dir: &DataDir, address: SocketAddr) {
    let mode = if settings.access.dev_mode() { "development" } else { "production" };
    let data_dir = data_dir.path().display();
    if settings.logging.log_format == LogFormat::Json {
        tracing::info!(%address, %data_dir, mode, "listening");
    } else {
        let has_token = settings.access.admin_token.is_some();
        print(welcome(address, &data_dir.to_string(), mode, has_token));
    }
    if let Some(open) = settings.access.open_routes() {
        tracing::warn!("{open}");
    }
}

/// Prints to standard output, whose reader may be gone (`println!` would panic) or stall: a thread of its own
/// waits for it.
fn print(text: String) {
    let printing = move || match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tracing::warn!(%error, "standard output can't be written");
        }
        _ => {}
    };
    if let Err(error) = thread::Builder::new().name("welcome".to_owned()).spawn(printing) {
        tracing::warn!(%error, "no thread can be started to print where the server listens");
    }
}

fn welcome(address: SocketAddr, data_dir: &str, mode: &str, has_token: bool) -> String {
    let everywhere = address.ip().is_unspecified();
    let url =
        if everywhere { format!("http://localhost:{}", address.port()) } else { format!("http://{address}") };
    let reach = if everywhere { " (all interfaces)" } else { "" };
    let token = if has_token { " -H \"Authorization: Bearer $ADMIN_TOKEN\"" } else { "" };
    let commands = if has_token { " (commands read the token from ADMIN_TOKEN)" } else { "" };
    format!(
        "Isomer is listening on {url}{reach}
  data  {data_dir}
  mode  {mode}
Try{commands}:
  curl {url}/health
  curl{token} {url}/workspaces
  isomer ws create hello --runtime mock --server {url}
  isomer events --follow --server {url}
  isomer guest list --server {url}
  isomer guest new my-agent"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_welcome_gives_addresses_that_work_in_a_terminal() {
        let all = welcome("[::]:8080".parse().expect("valid"), "./data", "production", true);
        assert!(all.contains("http://localhost:8080 (all interfaces)"), "{all}");
        assert!(all.contains("curl http://localhost:8080/health"), "{all}");
        let listed = "curl -H \"Authorization: Bearer $ADMIN_TOKEN\" http://localhost:8080/workspaces";
        assert!(all.contains(listed), "{all}");
        let local = welcome("127.0.0.1:81".parse().expect("valid"), "./data", "development", false);
        assert!(local.contains("http://127.0.0.1:81\n"), "{local}");
    }
}
