//! The parts of a running server, put together from the settings.

use std::sync::Arc;

use api::app::{App, Services};
use catalog::Catalog;
use fleet::Fleet;
use httpd::metrics::Metrics;
use httpd::shutdown::Shutdown;
use messaging::Messaging;
use tasks::BackgroundTasks;

use crate::settings::Settings;

/// Puts the parts together.
#[must_use]
pub fn app(
    settings: &Settings,
    metrics: Arc<Metrics>,
    catalog: Catalog,
    fleet: Fleet,
    shutdown: Shutdown,
) -> App {
    let services = Services {
        orgs: settings.orgs.open(&fleet, &catalog, settings.workspaces.configs_dir.as_deref()),
        messaging: Messaging::new(fleet.clone(), catalog.clone(), settings.delivery()),
        catalog,
        fleet,
        tasks: BackgroundTasks::default(),
    };
    App::new(&settings.access, &settings.http, services, metrics, shutdown)
}
