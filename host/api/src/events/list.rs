//! The newest events as a list, newest first.

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::SecondsFormat;
use events::Envelope;
use http::header;
use serde::Deserialize;
use serde_json::json;
use store::EventFilter;
use uuid::Uuid;

use crate::app::App;
use crate::errors::fleet_error;
use httpd::error::ApiError;
use httpd::json::Json;
use httpd::parameters::{PathParam, Query};

/// Events that are listed when nobody says how many, and at most.
const PAGE: u64 = 100;
const LARGEST_PAGE: u64 = 500;

/// Which of the events. A value that makes no sense counts as not given, except an unknown `before`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    limit: Option<String>,
    before: Option<String>,
    #[serde(rename = "type")]
    name: Option<String>,
}

pub(super) async fn all(State(app): State<App>, Query(page): Query<Page>) -> Result<Response, ApiError> {
    answer(&app, page, None).await
}

pub(super) async fn of_one(
    State(app): State<App>,
    PathParam(workspace): PathParam,
    Query(page): Query<Page>,
) -> Result<Response, ApiError> {
    match Uuid::parse_str(&workspace) {
        Ok(id) => answer(&app, page, Some(id)).await,
        Err(_) => Ok(Json(json!([])).into_response()),
    }
}

async fn answer(app: &App, page: Page, workspace: Option<Uuid>) -> Result<Response, ApiError> {
    let before = match page.before.as_deref().map(Uuid::parse_str) {
        Some(Err(_)) => return Ok(Json(json!([])).into_response()),
        Some(Ok(id)) => Some(id),
        None => None,
    };
    let limit = page.limit.and_then(|limit| limit.parse().ok());
    let limit = limit.filter(|limit| (1..=LARGEST_PAGE).contains(limit)).unwrap_or(PAGE);
    let filter = EventFilter { workspace, name: page.name.filter(|name| !name.is_empty()), before, limit };
    let events = app.fleet.store().recent_events(&filter).await;
    let events = events.map_err(|error| fleet_error(error.into(), "query failed"))?;
    Ok(([(header::CONTENT_TYPE, "application/json; charset=utf-8")], text(&events)).into_response())
}

/// Payloads are JSON text already: they are passed on as they are stored.
fn text(events: &[Envelope]) -> String {
    let mut text = String::from("[");
    for (at, event) in events.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let created_at = event.at().to_rfc3339_opts(SecondsFormat::Micros, true);
        let (name, workspace) = (json!(event.name()), json!(event.workspace_id()));
        let (id, payload, seq) = (event.id(), event.payload(), json!(event.seq()));
        // Writing to a `String` can't fail.
        let _ = write!(
            text,
            r#"{comma}{{"created_at":"{created_at}","event_type":{name},"id":"{id}","payload":{payload},"seq":{seq},"workspace_id":{workspace}}}"#
        );
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_the_sheets_byte_for_byte() {
        let at = "2026-05-09T10:00:00.123456Z".parse().expect("a time");
        let (nil, payload) = (Uuid::nil(), r#"{"b": 1.0,"a":"é"}"#.to_owned());
        let about_one = Envelope::stored(nil, 7, "WORKSPACE_ONLINE".to_owned(), Some(nil), at, payload);
        let about_none = Envelope::stored(nil, 6, "a\"b".to_owned(), None, at, "{}".to_owned());
        let id = "00000000-0000-0000-0000-000000000000";
        assert_eq!(
            text(&[about_one, about_none]),
            format!(
                r#"[{{"created_at":"2026-05-09T10:00:00.123456Z","event_type":"WORKSPACE_ONLINE","id":"{id}","payload":{{"b": 1.0,"a":"é"}},"seq":7,"workspace_id":"{id}"}},{{"created_at":"2026-05-09T10:00:00.123456Z","event_type":"a\"b","id":"{id}","payload":{{}},"seq":6,"workspace_id":null}}]"#
            )
        );
        assert_eq!(text(&[]), "[]");
    }
}
