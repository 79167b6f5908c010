//! A panic ends one request with a 500 and nothing else.

use std::any::Any;

use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use super::error::ApiError;
use super::security_headers;

/// Turns a panic of what it wraps into an answer.
pub fn guard() -> CatchPanicLayer<fn(Box<dyn Any + Send>) -> Response> {
    CatchPanicLayer::custom(answer as fn(_) -> _)
}

/// The panic hook has logged where it happened; here the log line gets the request's span.
// The signature is tower-http's.
#[allow(clippy::needless_pass_by_value)]
fn answer(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    tracing::error!(panic = message, "request panicked");
    let mut response = ApiError::opaque().into_response();
    // Where this guard is the outermost layer, nobody else adds them.
    security_headers::set(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use axum::extract::Request;
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn the_outermost_guard_answers_with_security_headers() {
        async fn explode(_: Request) -> Result<Response, Infallible> {
            panic!("boom")
        }
        let service = ServiceBuilder::new().layer(guard()).service(service_fn(explode));
        let response = service.oneshot(Request::new(Body::empty())).await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["x-frame-options"], "DENY");
    }
}
