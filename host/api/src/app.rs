//! The shared state of handlers, and the router over it.

use std::sync::Arc;

use axum::Router;
use catalog::Catalog;
use fleet::Fleet;
use http::Uri;
use messaging::Messaging;
use orgs::Orgs;
use tasks::BackgroundTasks;

use crate::access::Access;
use crate::events::{self, ConnectionLimiter};
use crate::settings::AccessSettings;
use httpd::cors::Cors;
use httpd::metrics::Metrics;
use httpd::middleware;
use httpd::rate_limit::RateLimits;
use httpd::settings::HttpSettings;
use httpd::shutdown::Shutdown;

/// The shared state of handlers. Cheap to clone: every field is shared.
#[derive(Clone)]
pub struct App {
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
    /// Open WebSockets, all and by workspace.
    pub sockets: ConnectionLimiter,
    /// Open event streams, by workspace.
    pub streams: ConnectionLimiter,
    /// Limits of both.
    pub event_limits: events::Limits,
    /// The allowed origins of web pages.
    pub cors: Arc<Cors>,
    /// The shutdown signal, for connections that stay open.
    pub shutdown: Shutdown,
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        access: &AccessSettings,
        http: &HttpSettings,
        services: Services,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Self {
        let Services { catalog, fleet, messaging, orgs, tasks } = services;
        Self {
            access: Arc::new(Access::new(access, fleet.clone())),
            metrics,
            limits: Arc::new(RateLimits::new(http, access.dev_mode())),
            tasks,
            catalog,
            external_url: access.external_platform_url.clone(),
            test_tokens: access.test_tokens(),
            orgs,
            messaging,
            fleet,
            sockets: ConnectionLimiter::default(),
            streams: ConnectionLimiter::default(),
            event_limits: events::Limits::default(),
            cors: Arc::new(Cors::new(http)),
            shutdown,
        }
    }
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

/// Every route of the server inside its layers.
pub fn router(app: App, settings: &HttpSettings) -> Router {
    middleware(crate::routes(&app), settings, &app.cors, &app.metrics, &app.limits).with_state(app)
}
