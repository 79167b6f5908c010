//! How a failure of the domain becomes an answer: the only place that pairs its error texts with statuses.

use std::error::Error;

use catalog::CatalogError;
use fleet::{FleetError, rules::INVALID_FIELDS};
use http::StatusCode;
use httpd::error::ApiError;
use messaging::{ActivityError, DeliveryError, ReportError};
use orgs::ImportError;
use serde_json::{Value, json};
use types::WorkspaceId;
use wasm::LoadError;

/// How to set what an org template requires.
const SUGGESTION: &str = "set them as global secrets with POST /settings/secrets, then import again";

/// Turns an error of the domain into the answer of a route.
pub(crate) trait Refuse<T> {
    /// `failed` is the route's text for a database that failed.
    fn or_refuse(self, failed: &str) -> Result<T, ApiError>;
}

impl<T, E: Into<FleetError>> Refuse<T> for Result<T, E> {
    fn or_refuse(self, failed: &str) -> Result<T, ApiError> {
        self.map_err(|error| fleet_error(error.into(), failed))
    }
}

/// 500 with a fixed text. The cause goes to the log only.
fn failure(cause: &(dyn Error + 'static), text: &str) -> ApiError {
    tracing::error!(error = cause, "request failed");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Answers of the admin API: they say in full what a guest did wrong, but not what failed in the server.
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

/// Answers about workspaces. `failed` is the route's text for a database that failed.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub fn fleet_error(error: impl Into<FleetError>, failed: &str) -> ApiError {
    use FleetError as E;
    let error: FleetError = error.into();
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
        E::Seal { .. } => failure(&error, &text),
        E::Commit(_) | E::Store(_) => failure(&error, failed),
    }
}

/// Answers about new workspaces: clients know one text for all fields.
#[must_use]
pub fn creation_error(error: FleetError) -> ApiError {
    match error {
        FleetError::Field(_) => ApiError::bad_request(INVALID_FIELDS),
        error => fleet_error(error, "failed to create workspace"),
    }
}

/// Answers to registrations. Agents stop on the answer for a removed workspace.
#[must_use]
pub fn registration_error(error: FleetError) -> ApiError {
    match error {
        FleetError::NotFound => ApiError::unauthorized("invalid workspace auth token"),
        error => fleet_error(error, "registration failed"),
    }
}

/// Answers about activity that was not read.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub fn activity_error(error: ActivityError) -> ApiError {
    let text = error.to_string();
    match &error {
        ActivityError::CursorGone => ApiError::new(StatusCode::GONE, &text),
        ActivityError::UnknownSource => ApiError::bad_request(&text),
        ActivityError::Cursor(cause) | ActivityError::Read(cause) => failure(cause, &text),
    }
}

/// Answers about reports that were not stored.
#[must_use]
pub fn report_error(error: ReportError) -> ApiError {
    let text = error.to_string();
    match error {
        ReportError::UnknownType | ReportError::InvalidTarget => ApiError::bad_request(&text),
        ReportError::ForeignSource => ApiError::forbidden(&text),
        ReportError::Log(error) => fleet_error(error, "failed to log activity"),
    }
}

/// Answers about imports that were refused. Texts are fixed; what the author has to fix goes into `detail`.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub fn import_error(error: ImportError) -> ApiError {
    let text = error.to_string();
    match &error {
        ImportError::NotFound => ApiError::not_found(&text),
        ImportError::SettingsLookup(_) => failure(&error, &text),
        ImportError::MissingEnv { missing, required, template } => ApiError::with_body(
            StatusCode::PRECONDITION_FAILED,
            json!({
                "error": text,
                "missing_env": missing,
                "required_env": required,
                "suggestion": SUGGESTION,
                "template": template,
            }),
        ),
        _ => {
            let mut body = json!({ "error": text });
            if let (Some(detail), Some(fields)) = (error.detail(), body.as_object_mut()) {
                tracing::warn!(detail, "an org template was refused: {text}");
                fields.insert("detail".to_owned(), Value::from(detail));
            }
            ApiError::with_body(StatusCode::BAD_REQUEST, body)
        }
    }
}

/// Answers about messages that were not delivered.
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
        E::Lookup(_) | E::NotQueued(_) => failure(&error, &text),
    }
}

fn confirmation(children: &[(WorkspaceId, String)]) -> Value {
    let list: Vec<Value> = children.iter().map(|(id, name)| json!({ "id": id, "name": name })).collect();
    json!({
        "children": list,
        "children_count": children.len(),
        "message": "This workspace has sub-workspaces. Delete with ?confirm=true to cascade delete.",
        "status": "confirmation_required",
    })
}
