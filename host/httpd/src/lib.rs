//! The HTTP server without any route: connection loop, middleware, rate limiter, JSON in and out,
//! WebSocket plumbing, drain. It knows no type of the domain.
//!
//! [`middleware`](mod@middleware) is the one place that fixes the order of what happens to each request.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod answer_room;
mod background;
pub mod body;
pub mod body_budget;
mod canvas;
pub mod capacity;
pub mod client_ip;
pub mod connection;
mod connection_table;
pub mod cors;
pub mod error;
mod head_check;
mod head_scan;
pub mod headers;
mod host_guard;
pub mod json;
pub mod metrics;
pub mod middleware;
pub mod origin;
pub mod origin_list;
pub mod panics;
pub mod parameters;
pub mod public_url;
pub mod rate_limit;
mod rendered_json;
mod request_body;
pub(crate) mod request_log;
mod requests;
pub mod router_ext;
pub mod run_to_completion;
pub(crate) mod security_headers;
pub mod serve;
pub mod settings;
pub mod shutdown;
pub mod tenant;
pub mod websocket;

/// The type of routers, for the wiring, which names no crate of the framework.
pub use axum::Router;

pub use background::background_tasks;
pub use canvas::CanvasSockets;
pub use client_ip::ClientIp;
pub use middleware::{middleware, with_fallback};

/// Largest JSON body a route accepts, in bytes, unless it says otherwise with its own
/// [`BodyLimit`](body::BodyLimit).
pub const JSON_BODY_LIMIT: usize = 1024 * 1024;
