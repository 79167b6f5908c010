//! The shared state of handlers, and the router over it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use axum::Router;
use catalog::Catalog;
use fleet::Fleet;
use http::Uri;
use messaging::Messaging;
use orgs::Orgs;
use tasks::BackgroundTasks;

use crate::access_rules::Access;
use crate::connection_limiter::ConnectionLimiter;
use crate::event_limits::Limits;
use crate::settings::AccessSettings;
use crate::socket_permits::canvas_sockets;
use crate::workspace_list::ListCache;
use httpd::cors::Cors;
use httpd::metrics::Metrics;
use httpd::rate_limit::RateLimits;
use httpd::settings::HttpSettings;
use httpd::shutdown::Shutdown;
use httpd::{middleware, with_fallback};

/// The shared state of handlers. Cheap to clone, as axum does several times per request: one shared pointer.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The fields of an [`App`].
#[derive(Clone)]
pub struct Parts {
    /// The access rules.
    pub access: Arc<Access>,
    /// The metrics of the server.
    pub metrics: Arc<Metrics>,
    /// The rate limits.
    pub limits: Arc<RateLimits>,
    /// The supervised background tasks.
    pub tasks: BackgroundTasks,
    /// The guests.
    pub catalog: Catalog,
    /// The server's address for agents outside of it, if the operator set one.
    pub external_url: Option<Uri>,
    /// Whether the route that issues tokens for tests exists.
    pub test_tokens: bool,
    /// The workspaces.
    pub fleet: Fleet,
    /// Organizations and their templates.
    pub orgs: Orgs,
    /// Messages between them.
    pub messaging: Messaging,
    /// The list of workspaces as clients read it.
    pub list: Arc<ListCache>,
    /// Open WebSockets, all and by workspace.
    pub sockets: ConnectionLimiter,
    /// Open event streams, by workspace.
    pub streams: ConnectionLimiter,
    /// Limits of both.
    pub event_limits: Limits,
    /// The allowed origins of web pages.
    pub cors: Arc<Cors>,
    /// The shutdown signal, for connections that stay open.
    pub shutdown: Shutdown,
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(access: &AccessSettings, http: HttpParts, services: Services, shutdown: Shutdown) -> Self {
        let HttpParts { metrics, limits, cors, external_url } = http;
        let Services { catalog, fleet, messaging, orgs, tasks } = services;
        let rules = Arc::new(Access::new(access, fleet.clone()));
        count_by_credential(&limits, &rules);
        Self(Arc::new(Parts {
            access: rules,
            metrics,
            limits,
            tasks,
            catalog,
            external_url,
            test_tokens: access.test_tokens(),
            orgs,
            messaging,
            fleet,
            list: Arc::default(),
            sockets: ConnectionLimiter::default(),
            streams: ConnectionLimiter::default(),
            event_limits: Limits::default(),
            cors,
            shutdown,
        }))
    }
}

/// Lets the rate limits tell the organization's own requests from those that only name it.
pub fn count_by_credential(limits: &RateLimits, access: &Arc<Access>) {
    // The limits may outlive the routes, which hold the fleet.
    let access = Arc::downgrade(access);
    limits
        .know_credentials(move |bearer| access.upgrade().is_some_and(|access| access.is_credential(bearer)));
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// For tuning before the router is made: a change reaches no clone made earlier.
impl DerefMut for App {
    fn deref_mut(&mut self) -> &mut Parts {
        Arc::make_mut(&mut self.0)
    }
}

/// What the middleware needs.
pub struct HttpParts {
    /// Counts requests.
    pub metrics: Arc<Metrics>,
    /// Limits the requests of each caller.
    pub limits: Arc<RateLimits>,
    /// Decides which web origins may call.
    pub cors: Arc<Cors>,
    /// The server's address for agents outside of it, if the operator set one.
    pub external_url: Option<Uri>,
}

/// The domain's services.
pub struct Services {
    /// The guests.
    pub catalog: Catalog,
    /// The workspaces.
    pub fleet: Fleet,
    /// Messages between them.
    pub messaging: Messaging,
    /// Organizations and their templates.
    pub orgs: Orgs,
    /// The background tasks.
    pub tasks: BackgroundTasks,
}

/// Adds the web canvas, whose sockets are counted with those of this server.
pub fn with_canvas(routes: Router<App>, app: &App, settings: &HttpSettings) -> Router<App> {
    with_fallback(routes, settings, canvas_sockets(&app.sockets, app.event_limits), &app.shutdown)
}

/// Every route of the server inside its layers.
pub fn router(app: App, settings: &HttpSettings) -> Router {
    let routes = with_canvas(crate::routes(&app), &app, settings);
    middleware(routes, settings, &app.cors, &app.metrics, &app.limits).with_state(app)
}
