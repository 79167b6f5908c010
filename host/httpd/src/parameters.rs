//! Parameters from the query. Refusals are JSON, where those of axum are plain text.

use axum::extract::{FromRequestParts, Query as AxumQuery};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The query string. A malformed one (a repeated key, bad escapes) is refused with 400.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match AxumQuery::from_request_parts(parts, state).await {
            Ok(AxumQuery(query)) => Ok(Self(query)),
            Err(error) => {
                tracing::debug!(%error, "the query does not match what the route expects");
                Err(ApiError::bad_request("invalid query"))
            }
        }
    }
}
