//! Arguments of handlers that several resources share: ids in paths, and validated bodies.
//!
//! Their refusals are the server's own JSON answers; axum's are plain text.

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;
use types::{TokenId, WorkspaceId};
use wire_json::Text;

use httpd::error::ApiError;
use httpd::json::{self, Body};

/// A parameter of the path. Escapes that are no UTF-8 give `?`, which is no id and no name.
pub(crate) async fn path_param(parts: &mut Parts, name: &str) -> String {
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    match &parameters {
        Ok(parameters) => parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map_or_else(String::new, |(_, text)| text.to_owned()),
        Err(_) => "?".to_owned(),
    }
}

/// The workspace that a path names by `id`: 400 for text that is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkspacePath(pub WorkspaceId);

impl<S: Send + Sync> FromRequestParts<S> for WorkspacePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let id = WorkspaceId::parse(&path_param(parts, "id").await);
        id.map(Self).map_err(|_| ApiError::bad_request("invalid workspace ID"))
    }
}

/// The token that a path names: 404 for text that is no id, as for an unknown token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenPath(pub TokenId);

impl<S: Send + Sync> FromRequestParts<S> for TokenPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let id = TokenId::parse(&path_param(parts, "token").await);
        id.map(Self).map_err(|_| ApiError::not_found("token not found or already revoked"))
    }
}

/// The guest that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for GuestName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(path_param(parts, "name").await))
    }
}

/// The release that a path names by its digest or the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReleaseDigest(pub String);

impl<S: Send + Sync> FromRequestParts<S> for ReleaseDigest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(path_param(parts, "digest").await))
    }
}

/// What a body holds, beyond its JSON form.
pub(crate) trait Validate: Sized {
    /// The JSON form.
    type Wire: DeserializeOwned;

    /// Checks what the JSON form can't say.
    ///
    /// # Errors
    /// The refusal of the route.
    fn validate(wire: Self::Wire) -> Result<Self, ApiError>;

    /// The refusal of a body that does not have the JSON form.
    fn malformed() -> ApiError {
        ApiError::invalid_body()
    }
}

/// A validated JSON body: 413 above the route's limit, 400 where it is malformed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValidJson<T>(pub T);

impl<T: Validate, S: Send + Sync> FromRequest<S> for ValidJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Body(body) = Body::from_request(request, state).await?;
        T::validate(json::read(&body, T::malformed)?).map(Self)
    }
}

/// Empty text counts as not given.
pub(crate) fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// The same for free text.
pub(crate) fn given_text(text: Option<Text>) -> Option<String> {
    given(text.map(String::from))
}

/// A parameter of the query that is `true` or `false`; `false` where it is not given. What an operator meant by
/// another value is not guessed: half of these parameters decide what is deleted.
pub(crate) fn flag(name: &str, text: Option<&str>) -> Result<bool, ApiError> {
    Ok(optional_flag(name, text)?.unwrap_or(false))
}

/// The same, where it matters whether it is given.
pub(crate) fn optional_flag(name: &str, text: Option<&str>) -> Result<Option<bool>, ApiError> {
    let flag = text.map(str::parse).transpose();
    flag.map_err(|_| ApiError::bad_request(&format!("{name} must be 'true' or 'false'")))
}
