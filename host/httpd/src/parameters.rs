//! What an address carries, with the server's own refusals: axum's are plain text.

use axum::extract::{FromRequestParts, Path, Query as AxumQuery};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The query of an address. One that makes no sense (a key twice, bad escapes) is refused with 400.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match AxumQuery::from_request_parts(parts, state).await {
            Ok(AxumQuery(query)) => Ok(Self(query)),
            Err(error) => {
                tracing::debug!(%error, "the query is not what the route wants");
                Err(ApiError::bad_request("invalid query"))
            }
        }
    }
}

/// The one part of a path that varies, as text. What isn't text is an id that nobody has.
#[derive(Debug, Clone)]
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(path.map_or_else(|_| "?".to_owned(), |Path(segment)| segment)))
    }
}
