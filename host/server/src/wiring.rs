//! The parts of a running server, put together from the settings.

use std::sync::Arc;

use api::app::{App, HttpParts, Services};
use catalog::Catalog;
use fleet::Fleet;
use httpd::Router;
use httpd::cors::Cors;
use httpd::metrics::Metrics;
use httpd::middleware;
use httpd::rate_limit::RateLimits;
use httpd::shutdown::Shutdown;
use messaging::Messaging;
use metrics_exporter_prometheus::BuildError;
use net::AgentAuthorities;
use tasks::BackgroundTasks;

use crate::settings::Settings;

/// What the middleware needs: no database, no guests.
///
/// # Errors
/// When the process has another metrics recorder.
pub fn http_parts(settings: &Settings) -> Result<HttpParts, BuildError> {
    let dev_mode = settings.access.dev_mode();
    Ok(HttpParts {
        metrics: Arc::new(Metrics::new()?),
        limits: Arc::new(RateLimits::new(&settings.http, dev_mode)),
        cors: Arc::new(Cors::new(&settings.http, dev_mode)),
        external_url: settings.http.external_platform_url.clone(),
    })
}

/// The routes that are answered before database and guests are open.
pub fn early_router(settings: &Settings, http: &HttpParts) -> Router {
    middleware(api::health::early_routes(), &settings.http, &http.cors, &http.metrics, &http.limits)
}

/// Puts the parts together, for a server that serves this number of connections.
#[must_use]
pub fn app(
    settings: &Settings,
    connections: u32,
    http: HttpParts,
    catalog: Catalog,
    fleet: Fleet,
    authorities: AgentAuthorities,
    shutdown: Shutdown,
) -> App {
    let services = Services {
        orgs: settings.orgs.open(&fleet, &catalog, settings.workspaces.configs_dir.as_deref()),
        messaging: Messaging::new(
            fleet.clone(),
            catalog.clone(),
            settings.delivery(connections),
            authorities,
        ),
        catalog,
        fleet,
        tasks: BackgroundTasks::default(),
    };
    let mut app = App::new(&settings.access, http, services, shutdown);
    app.event_limits = app.event_limits.within(connections);
    app
}
