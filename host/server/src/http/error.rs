//! How a failure becomes an answer: the only place that pairs error texts with statuses.
//!
//! A handler returns `Result<_, ApiError>`. What a client reads is the fixed text given here;
//! causes go to the log and never into a body.

use std::error::Error;

use axum::response::{IntoResponse, Response};
use catalog::CatalogError;
use fleet::FleetError;
use http::{StatusCode, header};
use messaging::DeliveryError;
use serde_json::{Value, json};
use uuid::Uuid;
use wasm::LoadError;

use super::json::Json;

/// An answer that is not a success: a status and a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    body: Value,
    /// Seconds after which it is worth trying again.
    retry_after: Option<u32>,
}

/// Seconds after which an agent that is busy is worth trying again.
const BUSY_SECONDS: u32 = 30;

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

    /// 400: what the client sent makes no sense.
    #[must_use]
    pub fn bad_request(text: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 400 for a body that is not the JSON the route wants.
    #[must_use]
    pub fn invalid_body() -> Self {
        Self::bad_request("invalid request body")
    }

    /// 401: no credential, or not a good one. The text never tells which tokens exist.
    #[must_use]
    pub fn unauthorized(text: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, text)
    }

    /// 403: known, and not allowed.
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

    /// 503: an agent is busy, and may have time again in half a minute.
    fn busy(text: &str, native_session: bool) -> Self {
        let mut body = json!({ "busy": true, "error": text, "retry_after": BUSY_SECONDS });
        if native_session && let Some(fields) = body.as_object_mut() {
            fields.insert("native_session".to_owned(), json!(true));
        }
        Self { retry_after: Some(BUSY_SECONDS), ..Self::with_body(StatusCode::SERVICE_UNAVAILABLE, body) }
    }

    /// 500: our fault. The cause is logged with everything behind it; the client learns nothing.
    #[must_use]
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = cause, "request failed");
        Self::opaque()
    }

    /// 500 for a failure that is already in the log.
    #[must_use]
    pub fn opaque() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }

    /// 503: the store cannot be reached. Clients know this answer by its `code`.
    #[must_use]
    pub fn platform_unavailable(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = cause, "the store failed");
        Self::with_body(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({
                "code": "platform_unavailable",
                "error": "platform datastore unavailable — retry shortly",
            }),
        )
    }
}

impl From<CatalogError> for ApiError {
    /// The admin API is the operator's: what a guest did wrong is told in full, what failed in the
    /// house is not.
    fn from(error: CatalogError) -> Self {
        use CatalogError as E;
        let text = error.to_string();
        match &error {
            E::NoGuest | E::NoRelease => Self::not_found(&text),
            E::BadName | E::AmbiguousRelease | E::Settings(_) | E::RowRefused { .. } | E::Function(_) => {
                Self::bad_request(&text)
            }
            E::OtherWorld { .. }
            | E::NameTaken { .. }
            | E::ReleaseActive
            | E::NothingEarlier
            | E::Superseded
            | E::BytesLost
            | E::NotInService => Self::conflict(&text),
            E::Unloadable(LoadError::TooLarge { .. }) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, &text),
            E::Unloadable(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, &text),
            E::Unfit { conformance, .. } => Self::with_body(
                StatusCode::UNPROCESSABLE_ENTITY,
                json!({ "error": text, "findings": conformance.findings }),
            ),
            E::Failed { failure, release, report } => Self::with_body(
                StatusCode::BAD_GATEWAY,
                json!({
                    "error": text,
                    "kind": failure.kind(),
                    "backtrace": failure.backtrace(),
                    "log": report.log,
                    "release": release,
                }),
            ),
            E::Store(cause) => Self::platform_unavailable(cause),
            E::Disk(_) | E::Crashed => Self::internal(&error),
        }
    }
}

/// What the fleet refused. `failed` is what clients of the route read where the database failed.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub fn refused(error: FleetError, failed: &str) -> ApiError {
    use FleetError as E;
    let text = error.to_string();
    match &error {
        E::NotFound | E::AlreadyPaused | E::NotPaused | E::NotHibernatable | E::NoToken => {
            ApiError::not_found(&text)
        }
        E::Field(_)
        | E::Directory(_)
        | E::Access(_)
        | E::Mode(_)
        | E::Secret(_)
        | E::Template(_)
        | E::Url(_)
        | E::NoUrl
        | E::NoParent => ApiError::bad_request(&text),
        E::Cycle | E::ParentPaused { .. } | E::NothingToHibernate { .. } | E::OtherHosting { .. } => {
            ApiError::conflict(&text)
        }
        E::NameTaken => {
            ApiError::with_body(StatusCode::CONFLICT, json!({ "code": "name_conflict", "error": text }))
        }
        E::Busy { active_tasks } => {
            ApiError::with_body(StatusCode::CONFLICT, json!({ "active_tasks": active_tasks, "error": text }))
        }
        E::HasChildren { children } => ApiError::with_body(StatusCode::CONFLICT, confirmation(children)),
        E::NotStopped { removed, failures } => {
            let ids: Vec<String> = failures.iter().map(ToString::to_string).collect();
            let text = format!("{text}: {}", ids.join(", "));
            let body = json!({ "error": text, "removed_count": removed, "stop_failures": failures.len() });
            ApiError::with_body(StatusCode::INTERNAL_SERVER_ERROR, body)
        }
        E::Unproven => ApiError::unauthorized(&text),
        E::TooManyTokens => ApiError::new(StatusCode::TOO_MANY_REQUESTS, &text),
        E::NoBackend | E::NotYet | E::Contended => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, &text),
        E::Seal { .. } => {
            tracing::error!(error = &error as &dyn Error, "request failed");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, &text)
        }
        E::Commit(_) | E::Store(_) => {
            tracing::error!(error = &error as &dyn Error, "request failed");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, failed)
        }
    }
}

impl From<DeliveryError> for ApiError {
    fn from(error: DeliveryError) -> Self {
        use DeliveryError as E;
        let text = error.to_string();
        match &error {
            E::NotFound => Self::not_found(&text),
            E::AccessDenied => Self::forbidden(&text),
            E::OverBudget => Self::new(StatusCode::PAYMENT_REQUIRED, &text),
            E::Malformed(malformed) => match malformed.hint() {
                Some(hint) => {
                    Self::with_body(StatusCode::BAD_REQUEST, json!({ "error": text, "hint": hint }))
                }
                None => Self::bad_request(&text),
            },
            E::NoUrl { status } => {
                Self::with_body(StatusCode::SERVICE_UNAVAILABLE, json!({ "error": text, "status": status }))
            }
            E::Waking => Self {
                retry_after: Some(E::WAKE_RETRY_SECONDS),
                ..Self::with_body(
                    StatusCode::SERVICE_UNAVAILABLE,
                    json!({ "error": text, "retry_after": E::WAKE_RETRY_SECONDS, "waking": true }),
                )
            },
            E::NotTranslatable(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, &text),
            E::NotRoutable | E::Unreachable => Self::new(StatusCode::BAD_GATEWAY, &text),
            E::BusyNativeQueue => Self::busy(&text, true),
            E::BusyAndNotQueued(cause) => {
                tracing::error!(error = cause as &dyn Error, "a message could not be queued");
                Self::busy(&text, false)
            }
            E::IncompleteResponse { delivered } => Self::with_body(
                StatusCode::BAD_GATEWAY,
                json!({ "delivery_confirmed": delivered, "error": text }),
            ),
            E::TooLarge => {
                Self::with_body(StatusCode::BAD_GATEWAY, json!({ "delivery_confirmed": true, "error": text }))
            }
            E::Refused { status, .. } => Self::new(*status, &text),
            E::Lookup(_) | E::NotQueued(_) => {
                tracing::error!(error = &error as &dyn Error, "request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, &text)
            }
        }
    }
}

fn confirmation(children: &[(Uuid, String)]) -> Value {
    let list: Vec<Value> = children.iter().map(|(id, name)| json!({ "id": id, "name": name })).collect();
    json!({
        "children": list,
        "children_count": children.len(),
        "message": "This workspace has sub-workspaces. Delete with ?confirm=true to cascade delete.",
        "status": "confirmation_required",
    })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
