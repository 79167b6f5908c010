//! The routes, one module per resource. A handler extracts, calls one function of the domain and renders.
//!
//! [`access`] holds the extractors of the access rules (`access_rules`), [`errors`] turns failures into answers,
//! [`app`] is the shared state of handlers. Handlers never call the store.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

use axum::Router;

use crate::app::App;

pub mod a2a;
pub mod access;
mod access_rules;
pub mod activity;
pub mod app;
mod card_urls;
mod connection_limiter;
pub mod errors;
mod event_limits;
pub mod events;
pub mod extract;
pub mod guests;
pub mod health;
pub mod liveness;
mod next_page;
pub mod orgs;
pub mod queue;
pub mod registry;
pub mod settings;
mod socket_permits;
pub mod tokens;
mod workspace_list;
mod workspace_view;
pub mod workspaces;

/// The routes of all resources.
pub fn routes(app: &App) -> Router<App> {
    health::routes()
        .merge(a2a::routes(app))
        .merge(activity::routes(app))
        .merge(events::routes(app))
        .merge(guests::routes(app))
        .merge(liveness::routes())
        .merge(orgs::routes(app))
        .merge(queue::routes(app))
        .merge(registry::routes(app))
        .merge(tokens::routes(app))
        .merge(workspaces::routes(app))
}
