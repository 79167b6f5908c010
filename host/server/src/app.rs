//! Wiring: the parts of a running server and the router over them.

use std::sync::Arc;

use axum::Router;
use catalog::Catalog;

use crate::api;
use crate::http::access::Access;
use crate::http::metrics::Metrics;
use crate::http::rate_limit::RateLimits;
use crate::http::shell;
use crate::loops::Loops;
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
    /// What goes on in the background.
    pub loops: Loops,
    /// The guests.
    pub catalog: Catalog,
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(settings: &Settings, metrics: Arc<Metrics>, catalog: Catalog) -> Self {
        Self {
            access: Arc::new(Access::new(settings)),
            metrics,
            limits: Arc::new(RateLimits::new(settings)),
            loops: Loops::default(),
            catalog,
        }
    }
}

/// Every route of the server inside its layers.
pub fn router(app: App, settings: &Settings) -> Router {
    shell(api::routes(&app), settings, &app.metrics, &app.limits).with_state(app)
}
