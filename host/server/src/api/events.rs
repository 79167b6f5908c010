//! What happened, as it is stored: newest first, page by page.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::SecondsFormat;
use events::Envelope;
use http::header;
use serde::Deserialize;
use store::EventFilter;
use uuid::Uuid;

use crate::app::App;
use crate::http::access::admin;
use crate::http::error::{ApiError, refused};
use crate::http::routes::Register;

/// Events when nobody says how many, and at most.
const PAGE: u64 = 100;
const LARGEST_PAGE: u64 = 500;

/// `/events` and `/events/:workspaceId`.
pub fn routes(app: &App) -> Router<App> {
    let access = &app.access;
    Router::new()
        .endpoint("/events", admin(access, get(all)))
        .endpoint("/events/{workspaceId}", admin(access, get(of_one)))
}

#[derive(Deserialize)]
struct Page {
    limit: Option<String>,
    before: Option<String>,
    #[serde(rename = "type")]
    name: Option<String>,
}

async fn all(State(app): State<App>, Query(page): Query<Page>) -> Result<Response, ApiError> {
    list(&app, Ok(None), page).await
}

async fn of_one(
    State(app): State<App>,
    Path(workspace): Path<String>,
    Query(page): Query<Page>,
) -> Result<Response, ApiError> {
    list(&app, Uuid::parse_str(&workspace).map(Some), page).await
}

/// An id that is none names nothing, so nothing is found.
async fn list(app: &App, workspace: Parsed, page: Page) -> Result<Response, ApiError> {
    let found = match page.filter(workspace) {
        Ok(filter) => app.fleet.store().recent_events(&filter).await,
        Err(_) => Ok(Vec::new()),
    };
    let events = found.map_err(|error| refused(error.into(), "query failed"))?;
    Ok(([(header::CONTENT_TYPE, "application/json; charset=utf-8")], json(&events)).into_response())
}

type Parsed = Result<Option<Uuid>, uuid::Error>;

impl Page {
    fn filter(self, workspace: Parsed) -> Result<EventFilter, uuid::Error> {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let limit = self.limit.and_then(|limit| limit.parse().ok());
        Ok(EventFilter {
            workspace: workspace?,
            name: said(self.name),
            before: said(self.before).as_deref().map(Uuid::parse_str).transpose()?,
            limit: limit.filter(|limit| (1..=LARGEST_PAGE).contains(limit)).unwrap_or(PAGE),
        })
    }
}

/// Payloads are JSON already and come out byte for byte as they were told.
fn json(events: &[Envelope]) -> String {
    let size = |event: &Envelope| event.payload().len() + 256;
    let mut text = String::with_capacity(2 + events.iter().map(size).sum::<usize>());
    for event in events {
        text.push(if text.is_empty() { '[' } else { ',' });
        let at = event.at().to_rfc3339_opts(SecondsFormat::Micros, true);
        let name = serde_json::Value::from(event.name());
        let workspace = serde_json::json!(event.workspace_id());
        let (id, payload, seq) = (event.id(), event.payload(), event.seq().unwrap_or_default());
        // Writing to a `String` can't fail.
        let _ = write!(
            text,
            r#"{{"created_at":"{at}","event_type":{name},"id":"{id}","payload":{payload},"seq":{seq},"workspace_id":{workspace}}}"#
        );
    }
    text.push_str(if text.is_empty() { "[]" } else { "]" });
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
            json(&[about_one, about_none]),
            format!(
                r#"[{{"created_at":"2026-05-09T10:00:00.123456Z","event_type":"WORKSPACE_ONLINE","id":"{id}","payload":{{"b": 1.0,"a":"é"}},"seq":7,"workspace_id":"{id}"}},{{"created_at":"2026-05-09T10:00:00.123456Z","event_type":"a\"b","id":"{id}","payload":{{}},"seq":6,"workspace_id":null}}]"#
            )
        );
        assert_eq!(json(&[]), "[]");
    }
}
