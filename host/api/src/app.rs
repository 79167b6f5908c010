//! What handlers have at hand, and the router over it.

use std::sync::Arc;

use axum::Router;
use catalog::Catalog;
use fleet::Fleet;
use http::Uri;
use messaging::Messaging;
use orgs::Orgs;
use tasks::BackgroundTasks;

use crate::access::Access;
use crate::events::{self, Seats};
use crate::settings::AccessSettings;
use httpd::cors::Cors;
use httpd::metrics::Metrics;
use httpd::middleware;
use httpd::rate_limit::RateLimits;
use httpd::settings::HttpSettings;
use httpd::shutdown::Shutdown;

/// What handlers have at hand. Cheap to clone: every field is shared.
#[derive(Clone)]
pub struct App {
    /// Decides who may call what.
    pub access: Arc<Access>,
    /// Counts what happens.
    pub metrics: Arc<Metrics>,
    /// Says how many requests are too many.
    pub limits: Arc<RateLimits>,
    /// Supervises what runs in the background.
    pub tasks: BackgroundTasks,
    /// The guests.
    pub catalog: Catalog,
    /// This server's address as somebody outside reaches it, where it is set.
    pub external_url: Option<Uri>,
    /// Does the route that hands out tokens for tests exist?
    pub test_tokens: bool,
    /// The workspaces.
    pub fleet: Fleet,
    /// Organisations and their templates.
    pub orgs: Orgs,
    /// Messages between them.
    pub messaging: Messaging,
    /// Open WebSockets, all and by workspace.
    pub sockets: Seats,
    /// Open event streams, by workspace.
    pub streams: Seats,
    /// Limits of both.
    pub event_limits: events::Limits,
    /// Which web pages are ours.
    pub cors: Arc<Cors>,
    /// When it all ends: what stays open for long listens to it.
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
            sockets: Seats::default(),
            streams: Seats::default(),
            event_limits: events::Limits::default(),
            cors: Arc::new(Cors::new(http)),
            shutdown,
        }
    }
}

/// What the routes call.
pub struct Services {
    /// The guests.
    pub catalog: Catalog,
    /// The workspaces.
    pub fleet: Fleet,
    /// Messages between them.
    pub messaging: Messaging,
    /// Organizations and their templates.
    pub orgs: Orgs,
    /// What goes on in the background.
    pub tasks: BackgroundTasks,
}

/// Every route of the server inside its layers.
pub fn router(app: App, settings: &HttpSettings) -> Router {
    middleware(crate::routes(&app), settings, &app.cors, &app.metrics, &app.limits).with_state(app)
}
