//! How a failure of the domain becomes an answer: the only place that pairs its error texts with statuses.

use std::error::Error;

use catalog::CatalogError;
use fleet::FleetError;
use http::StatusCode;
use httpd::error::ApiError;
use messaging::DeliveryError;
use serde_json::{Value, json};
use uuid::Uuid;
use wasm::LoadError;

/// An answer for what the catalog refused. The admin API is the operator's: what a guest did wrong is told in
/// full, what failed in the server is not.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub fn catalog_error(error: CatalogError) -> ApiError {
    use CatalogError as E;
    let text = error.to_string();
    match &error {
        E::NoGuest | E::NoRelease => ApiError::not_found(&text),
        E::BadName | E::AmbiguousRelease | E::Settings(_) | E::RowRefused { .. } | E::Function(_) => {
            ApiError::bad_request(&text)
        }
        E::OtherWorld { .. }
        | E::NameTaken { .. }
        | E::ReleaseActive
        | E::NoPreviousRelease
        | E::Superseded
        | E::ComponentMissing
        | E::NotInService => ApiError::conflict(&text),
        E::Unloadable(LoadError::TooLarge { .. }) => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, &text),
        E::Unloadable(_) => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, &text),
        E::Unfit { conformance, .. } => ApiError::with_body(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({ "error": text, "findings": conformance.findings }),
        ),
        E::Failed { failure, release, report } => ApiError::with_body(
            StatusCode::BAD_GATEWAY,
            json!({
                "error": text,
                "kind": failure.kind(),
                "backtrace": failure.backtrace(),
                "log": report.log,
                "release": release,
            }),
        ),
        E::Store(cause) => ApiError::platform_unavailable(cause),
        E::Commit(cause) => ApiError::platform_unavailable(cause),
        E::Disk(_) | E::Crashed => ApiError::internal(&error),
    }
}

/// An answer for what the fleet refused. `failed` is the error text of the route for a database that failed.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub fn fleet_error(error: FleetError, failed: &str) -> ApiError {
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

/// An answer for a message that was not delivered.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub fn delivery_error(error: DeliveryError) -> ApiError {
    use DeliveryError as E;
    let text = error.to_string();
    match &error {
        E::NotFound => ApiError::not_found(&text),
        E::AccessDenied => ApiError::forbidden(&text),
        E::OverBudget => ApiError::new(StatusCode::PAYMENT_REQUIRED, &text),
        E::Malformed(malformed) => match malformed.hint() {
            Some(hint) => {
                ApiError::with_body(StatusCode::BAD_REQUEST, json!({ "error": text, "hint": hint }))
            }
            None => ApiError::bad_request(&text),
        },
        E::NoUrl { status } => {
            ApiError::with_body(StatusCode::SERVICE_UNAVAILABLE, json!({ "error": text, "status": status }))
        }
        E::Waking => ApiError::with_body(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "error": text, "retry_after": E::WAKE_RETRY_SECONDS, "waking": true }),
        )
        .with_retry_after(E::WAKE_RETRY_SECONDS),
        E::NotTranslatable(_) => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, &text),
        E::NotRoutable | E::Unreachable => ApiError::new(StatusCode::BAD_GATEWAY, &text),
        E::BusyNativeQueue => ApiError::busy(&text, true),
        E::BusyAndNotQueued(cause) => {
            tracing::error!(error = cause as &dyn Error, "a message could not be queued");
            ApiError::busy(&text, false)
        }
        E::IncompleteResponse { delivered } => ApiError::with_body(
            StatusCode::BAD_GATEWAY,
            json!({ "delivery_confirmed": delivered, "error": text }),
        ),
        E::TooLarge => {
            ApiError::with_body(StatusCode::BAD_GATEWAY, json!({ "delivery_confirmed": true, "error": text }))
        }
        E::Refused { status, .. } => ApiError::new(*status, &text),
        E::Lookup(_) | E::NotQueued(_) => {
            tracing::error!(error = &error as &dyn Error, "request failed");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, &text)
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
