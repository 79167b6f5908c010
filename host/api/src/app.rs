//! What handlers have at hand, and the router over it.

use std::ops::{Deref, DerefMut};
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
use crate::workspaces::ListCache;
use httpd::cors::Cors;
use httpd::metrics::Metrics;
use httpd::middleware;
use httpd::rate_limit::RateLimits;
use httpd::settings::HttpSettings;
use httpd::shutdown::Shutdown;

/// What handlers have at hand. Cheap to clone, as axum does several times per request: one shared pointer.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The fields of an [`App`].
#[derive(Clone)]
pub struct Parts {
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
    /// The list of workspaces as clients read it.
    pub list: Arc<ListCache>,
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
    pub fn new(access: &AccessSettings, http: HttpParts, services: Services, shutdown: Shutdown) -> Self {
        let HttpParts { metrics, limits, cors } = http;
        let Services { catalog, fleet, messaging, orgs, tasks } = services;
        Self(Arc::new(Parts {
            access: Arc::new(Access::new(access, fleet.clone())),
            metrics,
            limits,
            tasks,
            catalog,
            external_url: access.external_platform_url.clone(),
            test_tokens: access.test_tokens(),
            orgs,
            messaging,
            fleet,
            list: Arc::default(),
            sockets: Seats::default(),
            streams: Seats::default(),
            event_limits: events::Limits::default(),
            cors,
            shutdown,
        }))
    }
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
