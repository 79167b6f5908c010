//! JSON in and out, the same for every route.
//!
//! Out: compact, keys of ad-hoc objects (`json!`) in alphabetical order, whole floats without
//! `.0`; clients compare these texts. In: the content type is not looked at, unknown fields are
//! ignored, text that was cut within a character is repaired ([`wire_json::from_slice`]), and every failure is
//! one of three fixed answers.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire_json::ReadError;

pub use super::body::Body;
use super::error::ApiError;
pub use super::rendered_json::RenderedJson;

/// A JSON body: the argument of a handler, or its answer.
///
/// As an argument it is refused as [`Body`] is, and with 400 when it is not a `T`.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Body(body) = Body::from_request(request, state).await?;
        read(&body, ApiError::invalid_body).map(Json)
    }
}

/// Reads a JSON body. `malformed` is the route's answer for one that does not have the form that is wanted.
///
/// # Errors
/// 400: that answer, or one that says that the body is nested too deeply.
pub fn read<T: DeserializeOwned>(body: &[u8], malformed: impl FnOnce() -> ApiError) -> Result<T, ApiError> {
    wire_json::from_slice(body).map_err(|error| match error {
        ReadError::TooDeep { .. } => ApiError::bad_request(&error.to_string()),
        ReadError::Malformed(error) => {
            tracing::debug!(%error, "the body does not match what the route expects");
            malformed()
        }
    })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match wire_json::to_vec(&self.0) {
            Ok(body) => RenderedJson(body.into()).into_response(),
            Err(error) => ApiError::internal(&error).into_response(),
        }
    }
}
