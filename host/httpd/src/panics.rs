//! A panic ends one request with a 500 and nothing else.

use std::any::Any;

use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::security_headers;

/// The answer to a request whose handler panicked. The panic hook has logged where; this line, logged in
/// the request's span, says which request it was.
pub(crate) fn answer(panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    tracing::error!(panic = message, "request panicked");
    let mut response = ApiError::opaque().into_response();
    // For a panic of the middleware itself, which adds no header any more.
    security_headers::set(response.headers_mut());
    response
}
