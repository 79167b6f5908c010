//! JSON answers whose text is already rendered. Both [`Json`](crate::json::Json) and
//! [`ApiError`](crate::error::ApiError) become one.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};

/// JSON that is already bytes in the form of [`wire_json::to_vec`]: rendered once and answered often.
#[derive(Debug, Clone)]
pub struct RenderedJson(pub Bytes);

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

impl IntoResponse for RenderedJson {
    fn into_response(self) -> Response {
        let mut response = Response::new(axum::body::Body::from(self.0));
        response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
        response
    }
}
