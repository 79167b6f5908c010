//! An answer that is not a success: a status and a JSON body.
//!
//! Causes go to the log and never into a body.

use std::error::Error;
use std::mem;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use types::clip;

use super::rendered_json::RenderedJson;

/// An answer that is not a success: a status and a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    body: Value,
    /// When it is worth trying again: seconds, or a date.
    retry_after: Option<HeaderValue>,
}

/// Bytes of a text in a body at most.
const TEXT_BYTES: usize = 8 << 10;

/// Seconds after which an agent that is busy is worth trying again.
const BUSY_SECONDS: u32 = 30;

/// Seconds after which the store is worth another try: longer than a connection to it is waited for.
const DATASTORE_RETRY_SECONDS: u32 = 5;

impl ApiError {
    /// Body `{"error":"<text>"}` with any status.
    #[must_use]
    pub fn new(status: StatusCode, text: &str) -> Self {
        Self::with_body(status, json!({ "error": text }))
    }

    /// A body with more than an error text. It should have an `error` field all the same.
    #[must_use]
    pub const fn with_body(status: StatusCode, body: Value) -> Self {
        Self { status, body, retry_after: None }
    }

    /// 400: the request is malformed.
    #[must_use]
    pub fn bad_request(text: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 400 for a body that is not the JSON the route wants.
    #[must_use]
    pub fn invalid_body() -> Self {
        Self::bad_request("invalid request body")
    }

    /// 401: no credential, or not a valid one. The text never reveals which tokens exist.
    #[must_use]
    pub fn unauthorized(text: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, text)
    }

    /// 403: the caller is known, and not allowed.
    #[must_use]
    pub fn forbidden(text: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 404 with a JSON body, for a known route whose subject does not exist.
    #[must_use]
    pub fn not_found(text: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 409: the subject is in a state that does not allow this.
    #[must_use]
    pub fn conflict(text: &str) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }

    /// 413: the body is larger than the route's limit.
    #[must_use]
    pub fn body_too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large")
    }

    /// 503: an agent is busy; the client may try again in half a minute.
    #[must_use]
    pub fn busy(text: &str, native_session: bool) -> Self {
        let mut body = json!({ "busy": true, "error": text, "retry_after": BUSY_SECONDS });
        if native_session && let Some(fields) = body.as_object_mut() {
            fields.insert("native_session".to_owned(), json!(true));
        }
        Self {
            retry_after: Some(BUSY_SECONDS.into()),
            ..Self::with_body(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }

    /// The same, with the seconds after which, or the date when, the request is worth sending again.
    #[must_use]
    pub fn with_retry_after(self, when: impl Into<HeaderValue>) -> Self {
        Self { retry_after: Some(when.into()), ..self }
    }

    /// 500: a fault of the server. The cause is logged with its causes; the client does not see it.
    #[must_use]
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = cause, "request failed");
        Self::opaque()
    }

    /// 500 for a failure that is already in the log.
    #[must_use]
    pub(crate) fn opaque() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }

    /// 503: the store cannot be reached. Clients know this answer by its `code`.
    #[must_use]
    pub fn platform_unavailable(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = cause, "the store failed");
        Self::unavailable()
    }

    /// The same answer while there is no store yet: the server starts.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::with_body(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({
                "code": "platform_unavailable",
                "error": "platform datastore unavailable — retry shortly",
            }),
        )
        .with_retry_after(DATASTORE_RETRY_SECONDS)
    }

    /// 503: the store did not say whether it made the change. Without a time for another try, which could make a second
    /// workspace or token.
    #[must_use]
    pub fn outcome_unknown(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = cause, "the store did not confirm a change");
        Self::with_body(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({
                "code": "platform_unavailable",
                "error": "the platform datastore did not confirm the change, which may have been made — look before you \
                          send it again",
            }),
        )
    }
}

fn clip_text(value: &mut Value) {
    if let Value::String(text) = value
        && text.len() > TEXT_BYTES
    {
        *text = clip(mem::take(text), TEXT_BYTES);
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = self.body;
        // Texts repeat what was sent, which may have megabytes.
        body.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(clip_text);
        // A `Value` always has a JSON form.
        let body = wire_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, RenderedJson(body.into())).into_response();
        if let Some(when) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, when);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn texts_of_a_body_are_clipped() {
        let long = "ä".repeat(15 << 20);
        let error =
            ApiError::with_body(StatusCode::BAD_REQUEST, json!({ "error": long, "hint": long, "count": 1 }));
        let body = axum::body::to_bytes(error.into_response().into_body(), usize::MAX).await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        for field in ["error", "hint"] {
            let text = body[field].as_str().expect("a text");
            assert!(text.len() <= TEXT_BYTES && text.ends_with("ä…"), "{}", text.len());
        }
        assert_eq!(body["count"], 1);
    }

    #[test]
    fn a_cause_never_reaches_the_body() {
        let cause = std::io::Error::other("password=hunter2");
        let internal = ApiError::internal(&cause);
        assert_eq!(internal.body.to_string(), r#"{"error":"internal error"}"#);
        let store = ApiError::platform_unavailable(&cause);
        assert_eq!(store.status, 503);
        assert_eq!(
            store.body.to_string(),
            r#"{"code":"platform_unavailable","error":"platform datastore unavailable — retry shortly"}"#
        );
    }
}
