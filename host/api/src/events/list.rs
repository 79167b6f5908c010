//! The newest events as a list, newest first.

use std::fmt::Write as _;

use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use chrono::SecondsFormat;
use events::Envelope;
use http::Uri;
use http::request::Parts;
use serde::Deserialize;
use serde_json::json;
use store::EventFilter;
use types::{EventId, WorkspaceId};

use super::without_urls::without_urls;
use crate::access::{AdminAuth, Caller};
use crate::app::App;
use crate::errors::Refuse as _;
use crate::extract::{given, path_param};
use crate::next_page::{self, PAGE_BYTES, link};
use httpd::error::ApiError;
use httpd::json::Json;
use httpd::parameters::Query;

const DEFAULT_PAGE: u64 = 100;
const MAX_PAGE: u64 = 500;

/// The filter of a list. A value that makes no sense counts as not given; an unknown `before` gives no events.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    limit: Option<String>,
    before: Option<String>,
    #[serde(rename = "type")]
    name: Option<String>,
}

pub(super) async fn all(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
    Query(page): Query<Page>,
    uri: Uri,
) -> Result<Response, ApiError> {
    answer(&app, &uri, page.filter(None), &caller).await
}

pub(super) async fn of_one(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
    EventsOf(workspace): EventsOf,
    Query(page): Query<Page>,
    uri: Uri,
) -> Result<Response, ApiError> {
    answer(&app, &uri, workspace.and_then(|id| page.filter(Some(id))), &caller).await
}

/// The workspace that a path names. Text that is no id is the id of no workspace: it has no events.
pub(super) struct EventsOf(Option<WorkspaceId>);

impl<S: Send + Sync> FromRequestParts<S> for EventsOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(WorkspaceId::parse(&path_param(parts, "workspaceId").await).ok()))
    }
}

impl Page {
    /// None if no event can match.
    fn filter(self, workspace: Option<WorkspaceId>) -> Option<EventFilter> {
        let before = self.before.as_deref().map(EventId::parse).transpose().ok()?;
        let limit = self.limit.and_then(|limit| limit.parse().ok());
        let limit = limit.filter(|limit| (1..=MAX_PAGE).contains(limit)).unwrap_or(DEFAULT_PAGE);
        Some(EventFilter { workspace, name: given(self.name), before, limit, bytes: Some(PAGE_BYTES) })
    }
}

async fn answer(
    app: &App,
    uri: &Uri,
    filter: Option<EventFilter>,
    caller: &Caller,
) -> Result<Response, ApiError> {
    let Some(filter) = filter else {
        return Ok(Json(json!([])).into_response());
    };
    let page = next_page::Page::begin().await?;
    let mut events = app.fleet.recent_events(&filter).await.or_refuse("query failed")?;
    if !caller.is_proved() {
        events = events.into_iter().map(|event| without_urls(&event).unwrap_or(event)).collect();
    }
    let (text, fitting) = text(&events, PAGE_BYTES);
    let last = events.get(fitting.saturating_sub(1)).filter(|_| fitting < events.len());
    let next = last.and_then(|last| link(uri, "before", &last.id().to_string()));
    Ok((next, page.end(caller, text.into()).await?).into_response())
}

/// Payloads are stored as JSON text and copied as they are. Returns how many events fit.
fn text(events: &[Envelope], bytes: usize) -> (String, usize) {
    let mut text = String::from("[");
    let mut fitting = 0;
    for event in events {
        if fitting > 0 && text.len() + event.payload().len() > bytes {
            break;
        }
        let comma = if fitting == 0 { "" } else { "," };
        let created_at = event.at().to_rfc3339_opts(SecondsFormat::Micros, true);
        let (name, workspace) = (json!(event.name()), json!(event.workspace_id()));
        let (id, payload, seq) = (event.id(), event.payload(), json!(event.seq()));
        // Writing to a `String` can't fail.
        let _ = write!(
            text,
            r#"{comma}{{"created_at":"{created_at}","event_type":{name},"id":"{id}","payload":{payload},"seq":{seq},"workspace_id":{workspace}}}"#
        );
        fitting += 1;
    }
    text.push(']');
    (text, fitting)
}

#[cfg(test)]
mod tests {
    use types::EventSeq;

    use super::*;

    #[test]
    fn elements_have_the_fields_and_order_of_the_contract() {
        let at = "2026-05-09T10:00:00.123456Z".parse().expect("a time");
        let (nil, payload) = (EventId::default(), r#"{"b": 1.0,"a":"é"}"#.to_owned());
        let about_one = Envelope::stored(
            nil,
            EventSeq(7),
            "WORKSPACE_ONLINE".to_owned(),
            Some(WorkspaceId::default()),
            at,
            payload,
        );
        let about_none = Envelope::stored(nil, EventSeq(6), "a\"b".to_owned(), None, at, "{}".to_owned());
        let id = "00000000-0000-0000-0000-000000000000";
        assert_eq!(
            text(&[about_one, about_none], usize::MAX).0,
            format!(
                r#"[{{"created_at":"2026-05-09T10:00:00.123456Z","event_type":"WORKSPACE_ONLINE","id":"{id}","payload":{{"b": 1.0,"a":"é"}},"seq":7,"workspace_id":"{id}"}},{{"created_at":"2026-05-09T10:00:00.123456Z","event_type":"a\"b","id":"{id}","payload":{{}},"seq":6,"workspace_id":null}}]"#
            )
        );
        assert_eq!(text(&[], 0), ("[]".to_owned(), 0));
    }
}
