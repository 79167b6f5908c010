//! Wiring: the parts of a running server and the router over them.

use std::sync::Arc;

use axum::Router;
use catalog::Catalog;
use fleet::Fleet;
use http::Uri;
use messaging::Messaging;
use orgs::Orgs;
use tasks::BackgroundTasks;

use crate::api;
use crate::api::events::{self, Seats};
use crate::http::access::Access;
use crate::http::cors::Cors;
use crate::http::metrics::Metrics;
use crate::http::rate_limit::RateLimits;
use crate::http::shell;
use crate::http::shutdown::Shutdown;
use crate::settings::Settings;

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
        settings: &Settings,
        metrics: Arc<Metrics>,
        catalog: Catalog,
        fleet: Fleet,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            access: Arc::new(Access::new(settings, fleet.clone())),
            metrics,
            limits: Arc::new(RateLimits::new(settings)),
            tasks: BackgroundTasks::default(),
            catalog: catalog.clone(),
            external_url: settings.external_platform_url.clone(),
            test_tokens: settings.test_tokens(),
            orgs: orgs(settings, &fleet, &catalog),
            messaging: Messaging::new(fleet.clone(), catalog, settings.delivery()),
            fleet,
            sockets: Seats::default(),
            streams: Seats::default(),
            event_limits: events::Limits::default(),
            cors: Arc::new(Cors::new(settings)),
            shutdown,
        }
    }
}

fn orgs(settings: &Settings, fleet: &Fleet, catalog: &Catalog) -> Orgs {
    let nodes = settings.org_import_max_workspaces.get();
    let limits =
        orgs::Limits { nodes: usize::try_from(nodes).unwrap_or(usize::MAX), ..orgs::Limits::default() };
    let (templates, personas) = (settings.org_templates(), &settings.molecule_persona_root);
    Orgs::new(fleet.clone(), catalog.clone(), &templates, personas, limits)
}

/// Every route of the server inside its layers.
pub fn router(app: App, settings: &Settings) -> Router {
    shell(api::routes(&app), settings, &app.metrics, &app.limits).with_state(app)
}
