//! How a failure of the domain becomes an answer: the only place that pairs its error texts with statuses.

use std::error::Error;

use catalog::{CatalogError, NoAnswer, UndecidedRuntime, Verdict};
use credentials::{TICKET_LIFE, TicketError, TokenError};
use fleet::{
    CreateError, EditError, HibernateError, LifecycleError, RegisterError, RemoveError, WorkspaceError,
    rules::{INVALID_FIELDS, InvalidMode, SecretError},
};
use http::StatusCode;
use httpd::error::ApiError;
use messaging::{ActivityError, DeliveryError, LogError, ReportError};
use orgs::ImportError;
use serde_json::{Value, json};
use store::{CommitError, StoreError};
use types::WorkspaceId;
use wasm::{FailureKind, LoadError};

/// How to set what an org template requires.
const SUGGESTION: &str = "set them as global secrets with POST /settings/secrets, then import again";

/// Seconds after which the compiler of guests is worth trying again.
const COMPILER_RETRY_SECONDS: u32 = 30;

/// After how many seconds an import is worth trying again, where others are under way.
const IMPORT_RETRY_SECONDS: u32 = 10;

/// Seconds after which a guest is worth calling again: calls take two at most.
const GUEST_RETRY_SECONDS: u32 = 3;

/// Turns an error of the domain into the answer of a route.
pub(crate) trait Refuse<T> {
    /// `failed` is the route's text for a database that failed.
    fn or_refuse(self, failed: &str) -> Result<T, ApiError>;
}

impl<T, E: Refusal> Refuse<T> for Result<T, E> {
    fn or_refuse(self, failed: &str) -> Result<T, ApiError> {
        self.map_err(|error| error.refusal(failed))
    }
}

/// An error of an operation on workspaces.
pub(crate) trait Refusal: Error + Sized + 'static {
    /// Its answer. `failed` is the route's text for a database that failed.
    fn refusal(self, failed: &str) -> ApiError;
}

/// 503 where the database is busy, locked or away; else 500 with a fixed text. The cause goes to the log only.
fn failure(cause: &(dyn Error + 'static), text: &str) -> ApiError {
    match outage(cause) {
        Some(Outage::OutcomeUnknown) => return ApiError::outcome_unknown(cause),
        Some(Outage::NotDone) => return ApiError::platform_unavailable(cause),
        None => {}
    }
    tracing::error!(error = cause, "request failed");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// What failed for the state of the database.
enum Outage {
    /// It was not done.
    NotDone,
    /// It may have been done.
    OutcomeUnknown,
}

fn outage(cause: &(dyn Error + 'static)) -> Option<Outage> {
    let mut next = Some(cause);
    while let Some(cause) = next {
        if matches!(cause.downcast_ref(), Some(CommitError::OutcomeUnknown)) {
            return Some(Outage::OutcomeUnknown);
        }
        let is_outage = cause.downcast_ref().is_some_and(CommitError::is_outage)
            || cause.downcast_ref().is_some_and(StoreError::is_outage);
        if is_outage {
            return Some(Outage::NotDone);
        }
        next = cause.source();
    }
    None
}

/// Answers of the admin API: they say in full what a guest did wrong, but not what failed in the server.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub(crate) fn catalog_error(error: CatalogError) -> ApiError {
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
        | E::FirstParty(_)
        | E::AnswersForFallback
        | E::InUse { .. }
        | E::OtherRuntimes
        | E::NoPreviousRelease
        | E::Superseded
        | E::ComponentMissing
        | E::NotInService => ApiError::conflict(&text),
        E::Unloadable(LoadError::TooComplex { .. }) => ApiError::with_body(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({
                "error": text,
                "findings": [{ "probe": "size", "verdict": Verdict::Failed, "detail": text }],
            }),
        ),
        E::Unloadable(LoadError::TooLarge { .. }) => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, &text),
        E::Unloadable(_) => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, &text),
        E::Unfit { conformance, .. } => ApiError::with_body(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({ "error": text, "findings": conformance.findings }),
        ),
        E::ProbesTimedOut { .. } => ApiError::with_body(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "error": text, "kind": FailureKind::Timeout }),
        )
        .with_retry_after(GUEST_RETRY_SECONDS),
        E::Failed { failure, .. } if failure.kind() == FailureKind::Busy => ApiError::with_body(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "error": text, "kind": failure.kind() }),
        )
        .with_retry_after(GUEST_RETRY_SECONDS),
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
        E::CompilerBusy | E::Stopping | E::NoCompiler(_) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, &text).with_retry_after(COMPILER_RETRY_SECONDS)
        }
        E::Disk(_) | E::Crashed => ApiError::internal(&error),
    }
}

// === Workspaces ===

impl Refusal for StoreError {
    fn refusal(self, failed: &str) -> ApiError {
        failure(&self, failed)
    }
}

impl Refusal for WorkspaceError {
    fn refusal(self, failed: &str) -> ApiError {
        let text = self.to_string();
        match &self {
            Self::NotFound => ApiError::not_found(&text),
            Self::NameTaken => {
                ApiError::with_body(StatusCode::CONFLICT, json!({ "code": "name_conflict", "error": text }))
            }
            Self::Contended => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, &text).with_retry_after(1_u32),
            Self::Commit(_) | Self::Store(_) => failure(&self, failed),
        }
    }
}

/// Clients know one text for all fields of a new workspace.
impl Refusal for CreateError {
    fn refusal(self, failed: &str) -> ApiError {
        match self {
            Self::Field(_) => ApiError::bad_request(INVALID_FIELDS),
            Self::Directory(_) | Self::Access(_) | Self::Mode(_) | Self::Template(_) | Self::NoParent => {
                ApiError::bad_request(&self.to_string())
            }
            Self::Secret { key, error } => {
                let reserved =
                    "only the platform sets this variable, because programs find or load code by it";
                let hint = (error == SecretError::Reserved).then_some(reserved);
                explained(StatusCode::BAD_REQUEST, &error.to_string(), Some(&key), hint)
            }
            Self::Url(error) => explained(StatusCode::BAD_REQUEST, &error.to_string(), None, error.hint()),
            Self::Seal(error) => failure(&error, &error.to_string()),
            Self::Undecided(error) => undecided(&error),
            Self::Workspace(error) => error.refusal(failed),
        }
    }
}

impl Refusal for EditError {
    fn refusal(self, failed: &str) -> ApiError {
        match self {
            Self::Field(_) | Self::Directory(_) | Self::NoParent => ApiError::bad_request(&self.to_string()),
            Self::Cycle | Self::OtherHosting { .. } => ApiError::conflict(&self.to_string()),
            Self::Undecided(error) => undecided(&error),
            Self::Workspace(error) => error.refusal(failed),
        }
    }
}

impl Refusal for LifecycleError {
    fn refusal(self, failed: &str) -> ApiError {
        match self {
            Self::AlreadyPaused | Self::NotPaused => ApiError::not_found(&self.to_string()),
            Self::ParentPaused { .. } => ApiError::conflict(&self.to_string()),
            Self::NoBackend => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, &self.to_string()),
            Self::Workspace(error) => error.refusal(failed),
        }
    }
}

impl Refusal for HibernateError {
    fn refusal(self, failed: &str) -> ApiError {
        let text = self.to_string();
        match self {
            Self::NotHibernatable => ApiError::not_found(&text),
            Self::NoContainer { .. } => ApiError::conflict(&text),
            Self::Busy { active_tasks } => ApiError::with_body(
                StatusCode::CONFLICT,
                json!({ "active_tasks": active_tasks, "error": text }),
            ),
            Self::NotYet => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, &text),
            Self::Workspace(error) => error.refusal(failed),
        }
    }
}

impl Refusal for RemoveError {
    fn refusal(self, failed: &str) -> ApiError {
        let text = self.to_string();
        match self {
            Self::HasChildren { children } => {
                ApiError::with_body(StatusCode::CONFLICT, confirmation(&children))
            }
            Self::NotStopped { removed, failures } => {
                let ids: Vec<String> = failures.iter().map(ToString::to_string).collect();
                let text = format!("{text}: {}", ids.join(", "));
                let body =
                    json!({ "error": text, "removed_count": removed, "stop_failures": failures.len() });
                ApiError::with_body(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
            Self::Workspace(error) => error.refusal(failed),
        }
    }
}

/// Agents stop on the answer for a removed workspace.
impl Refusal for RegisterError {
    fn refusal(self, failed: &str) -> ApiError {
        match self {
            Self::Workspace(WorkspaceError::NotFound) => {
                ApiError::unauthorized("invalid workspace auth token")
            }
            Self::Unproven => ApiError::unauthorized(&self.to_string()),
            Self::Synthetic { .. } => ApiError::conflict(&self.to_string()),
            Self::NoUrl => ApiError::bad_request(&self.to_string()),
            Self::Url(error) => explained(StatusCode::BAD_REQUEST, &error.to_string(), None, error.hint()),
            Self::Workspace(error) => error.refusal(failed),
        }
    }
}

impl Refusal for InvalidMode {
    fn refusal(self, _: &str) -> ApiError {
        ApiError::bad_request(&self.to_string())
    }
}

impl Refusal for TokenError {
    fn refusal(self, failed: &str) -> ApiError {
        let text = self.to_string();
        match &self {
            Self::NoWorkspace | Self::NotFound => ApiError::not_found(&text),
            Self::TooMany => ApiError::new(StatusCode::TOO_MANY_REQUESTS, &text),
            Self::TooManyThisHour { wait_seconds } => ApiError::with_body(
                StatusCode::TOO_MANY_REQUESTS,
                json!({ "error": text, "retry_after": wait_seconds }),
            )
            .with_retry_after(*wait_seconds),
            Self::Commit(_) | Self::Store(_) => failure(&self, failed),
        }
    }
}

impl Refusal for TicketError {
    fn refusal(self, _: &str) -> ApiError {
        match &self {
            Self::TooMany => ApiError::new(StatusCode::TOO_MANY_REQUESTS, &self.to_string())
                .with_retry_after(TICKET_LIFE.as_secs()),
            Self::Store(error) => ApiError::platform_unavailable(error),
        }
    }
}

// === Messages ===

/// Answers about activity that was not read.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub(crate) fn activity_error(error: ActivityError) -> ApiError {
    let text = error.to_string();
    match &error {
        ActivityError::CursorGone => ApiError::new(StatusCode::GONE, &text),
        ActivityError::UnknownSource => ApiError::bad_request(&text),
        ActivityError::Cursor(cause) | ActivityError::Read(cause) => failure(cause, &text),
    }
}

/// Answers about reports that were not stored.
#[must_use]
pub(crate) fn report_error(error: ReportError) -> ApiError {
    let text = error.to_string();
    match error {
        ReportError::UnknownType | ReportError::InvalidTarget => ApiError::bad_request(&text),
        ReportError::ForeignSource => ApiError::forbidden(&text),
        ReportError::Log(LogError::NotFound) => ApiError::not_found(&text),
        ReportError::Log(error) => failure(&error, "failed to log activity"),
    }
}

/// Answers about imports that were refused. Texts are fixed; what the author has to fix goes into `detail`.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub(crate) fn import_error(error: ImportError) -> ApiError {
    let text = error.to_string();
    match &error {
        ImportError::NotFound { .. } => {
            explained(StatusCode::NOT_FOUND, &text, error.detail().as_deref(), None)
        }
        ImportError::SettingsLookup(_) => failure(&error, &text),
        ImportError::Undecided(error) => undecided(error),
        ImportError::Unresolved(why) if why.is_transient() => {
            explained(StatusCode::SERVICE_UNAVAILABLE, &text, Some(&why.to_string()), None)
                .with_retry_after(no_answer_retry_seconds(why))
        }
        ImportError::Busy => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, &text).with_retry_after(IMPORT_RETRY_SECONDS)
        }
        ImportError::MissingEnv { missing, required, template, detail } => {
            let mut body = json!({
                "error": text,
                "missing_env": missing,
                "required_env": required,
                "suggestion": SUGGESTION,
                "template": template,
            });
            if let (Some(detail), Some(fields)) = (detail, body.as_object_mut()) {
                fields.insert("detail".to_owned(), json!(detail));
            }
            ApiError::with_body(StatusCode::PRECONDITION_FAILED, body)
        }
        _ => {
            let detail = error.detail();
            if let Some(detail) = &detail {
                tracing::warn!(detail, "an org template was refused: {text}");
            }
            explained(StatusCode::BAD_REQUEST, &text, detail.as_deref(), None)
        }
    }
}

fn undecided(error: &UndecidedRuntime) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        .with_retry_after(COMPILER_RETRY_SECONDS)
}

fn no_answer_retry_seconds(why: &NoAnswer) -> u32 {
    match why {
        NoAnswer::Busy { .. } => GUEST_RETRY_SECONDS,
        _ => COMPILER_RETRY_SECONDS,
    }
}

/// Answers about messages that were not delivered, for senders who may know where agents are reached.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub(crate) fn delivery_error(error: DeliveryError) -> ApiError {
    undelivered(&error, error.detail().as_deref(), error.hint())
}

/// The same for senders who may not know it.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
pub(crate) fn delivery_error_without_addresses(error: DeliveryError) -> ApiError {
    let hint = error.hint().filter(|_| matches!(error, DeliveryError::Malformed(_)));
    undelivered(&error, error.detail_without_addresses().as_deref(), hint)
}

fn undelivered(error: &DeliveryError, detail: Option<&str>, hint: Option<&str>) -> ApiError {
    use DeliveryError as E;
    let text = error.to_string();
    match error {
        E::NotFound => ApiError::not_found(&text),
        E::AccessDenied => ApiError::forbidden(&text),
        E::OverBudget => ApiError::new(StatusCode::PAYMENT_REQUIRED, &text),
        E::Malformed(_) => explained(StatusCode::BAD_REQUEST, &text, None, hint),
        E::NoUrl { status } => {
            ApiError::with_body(StatusCode::SERVICE_UNAVAILABLE, json!({ "error": text, "status": status }))
        }
        E::Waking => ApiError::with_body(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "error": text, "retry_after": E::WAKE_RETRY_SECONDS, "waking": true }),
        )
        .with_retry_after(E::WAKE_RETRY_SECONDS),
        E::NotTranslatable(_) => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, &text),
        E::SameUnderWay => ApiError::busy(&text, false),
        E::OutcomeUnknown => ApiError::conflict(&text),
        E::NotRoutable(_) | E::Insecure { .. } | E::InvalidResponse { .. } => {
            explained(StatusCode::BAD_GATEWAY, &text, detail, hint)
        }
        E::Unreachable => ApiError::new(StatusCode::BAD_GATEWAY, &text),
        E::Loop { hops } => {
            ApiError::with_body(StatusCode::LOOP_DETECTED, json!({ "error": text, "hops": hops }))
        }
        E::BusyNativeQueue => ApiError::busy(&text, true),
        E::TooManyCalls | E::QueueFull(_) => ApiError::busy(&text, false),
        E::BusyAndNotQueued(cause) => {
            tracing::error!(error = cause as &dyn Error, "a message could not be queued");
            ApiError::busy(&text, false)
        }
        E::IncompleteResponse { delivered } | E::TooLarge { delivered } => ApiError::with_body(
            StatusCode::BAD_GATEWAY,
            json!({ "delivery_confirmed": delivered, "error": text }),
        ),
        E::Refused { status, retry_after, .. } => {
            let refusal = explained(*status, &text, detail, None);
            match retry_after {
                Some(value) => refusal.with_retry_after(value.clone()),
                None => refusal,
            }
        }
        E::Lookup(_) | E::NotQueued(_) => failure(error, &text),
    }
}

/// An error with what is wrong and what to do, where that is known. Clients compare the text of `error`.
fn explained(status: StatusCode, error: &str, detail: Option<&str>, hint: Option<&str>) -> ApiError {
    let mut body = json!({ "error": error });
    if let Some(body) = body.as_object_mut() {
        body.extend(detail.map(|detail| ("detail".to_owned(), Value::from(detail))));
        body.extend(hint.map(|hint| ("hint".to_owned(), Value::from(hint))));
    }
    ApiError::with_body(status, body)
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

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use http::header::RETRY_AFTER;

    use super::*;

    /// The status, and whether the answer says when to try again.
    fn answer(refusal: ApiError) -> (StatusCode, bool) {
        let response = refusal.into_response();
        (response.status(), response.headers().contains_key(RETRY_AFTER))
    }

    #[test]
    fn a_database_that_is_busy_or_away_is_503_whatever_was_asked_of_it() {
        let away = || StoreError::NoConnection;
        let commit = || CommitError::Store(StoreError::Timeout);
        let workspace = || WorkspaceError::Store(away());
        for (what, refused) in [
            ("read", away().refusal("")),
            ("workspace", workspace().refusal("")),
            ("change", WorkspaceError::Commit(commit()).refusal("")),
            ("stop", WorkspaceError::Commit(CommitError::Stopping).refusal("")),
            ("create", CreateError::Workspace(workspace()).refusal("")),
            ("edit", EditError::Workspace(workspace()).refusal("")),
            ("lifecycle", LifecycleError::Workspace(workspace()).refusal("")),
            ("hibernate", HibernateError::Workspace(workspace()).refusal("")),
            ("remove", RemoveError::Workspace(workspace()).refusal("")),
            ("register", RegisterError::Workspace(workspace()).refusal("")),
            ("token", TokenError::Commit(commit()).refusal("")),
            ("tokens", TokenError::Store(away()).refusal("")),
            ("ticket", TicketError::Store(away()).refusal("")),
            ("cursor", activity_error(ActivityError::Cursor(away()))),
            ("activity", activity_error(ActivityError::Read(away()))),
            ("report", report_error(ReportError::Log(LogError::Commit(commit())))),
            ("import", import_error(ImportError::SettingsLookup(away()))),
            ("lookup", delivery_error(DeliveryError::Lookup(away()))),
            ("poll", delivery_error(DeliveryError::NotQueued(LogError::Commit(commit())))),
            ("guest", catalog_error(CatalogError::Store(away()))),
            ("guests", catalog_error(CatalogError::Commit(commit()))),
        ] {
            assert_eq!(answer(refused), (StatusCode::SERVICE_UNAVAILABLE, true), "{what}");
        }
        let unknown = WorkspaceError::Commit(CommitError::OutcomeUnknown).refusal("");
        assert_eq!(answer(unknown), (StatusCode::SERVICE_UNAVAILABLE, false));
        let other = WorkspaceError::Store(StoreError::Gone).refusal("query failed");
        assert_eq!(answer(other), (StatusCode::INTERNAL_SERVER_ERROR, false));
    }
}
