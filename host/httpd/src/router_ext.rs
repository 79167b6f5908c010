//! How routes are registered, and the answers where no route matches.
//!
//! Three rules hold for every path, so they are applied here and not per route: a wrong method is
//! a plain 404 like an unknown path; HEAD is a wrong method unless the route is a [`probe`]; and
//! the path with a trailing slash redirects to the path without (after all guards, because the
//! redirect is an ordinary route).
//!
//! [`probe`]: RouterExt::probe

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use http::{HeaderValue, Method, StatusCode, header};

/// Registers routes under the three rules above.
pub trait RouterExt<S> {
    /// A path and its methods.
    #[must_use]
    fn endpoint(self, path: &str, methods: MethodRouter<S>) -> Self;

    /// A path for monitors: its `GET` answers `HEAD` too.
    #[must_use]
    fn probe(self, path: &str, methods: MethodRouter<S>) -> Self;
}

impl<S> RouterExt<S> for Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    fn endpoint(self, path: &str, methods: MethodRouter<S>) -> Self {
        self.probe(path, methods.head(not_found))
    }

    fn probe(self, path: &str, methods: MethodRouter<S>) -> Self {
        // `any` and not a fallback on `methods`: that would add an `Allow` header to the 404.
        let router = self.route(path, any(not_found).merge(methods));
        if path.contains(CATCH_ALL) {
            return router; // its own pattern takes the slash
        }
        router.route(&format!("{path}/"), any(drop_trailing_slash))
    }
}

/// Start of a last pattern part that matches any number of path segments.
const CATCH_ALL: &str = "{*";

/// Marks an answer that came from no route, for the `path` label of the request metrics.
#[derive(Debug, Clone, Copy)]
pub struct Unmatched;

/// The answer for unknown paths and wrong methods.
pub async fn not_found() -> Response {
    let mut response =
        (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/plain")], "404 page not found").into_response();
    response.extensions_mut().insert(Unmatched);
    response
}

/// Redirects to the same address without the slash at the end of the path.
async fn drop_trailing_slash(request: Request) -> Response {
    let uri = request.uri();
    let path = uri.path().trim_end_matches('/');
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let status = if *request.method() == Method::GET {
        StatusCode::MOVED_PERMANENTLY
    } else {
        StatusCode::TEMPORARY_REDIRECT
    };
    let Ok(target) = HeaderValue::try_from(target) else {
        return not_found().await;
    };
    let mut response = (status, [(header::LOCATION, target)]).into_response();
    response.extensions_mut().insert(Unmatched);
    response
}
