//! Org templates, and their import. Class `admin` throughout.

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use orgs::limits::{BODY_BYTES, UPLOAD_BYTES};
use orgs::{Fate, From, Import, ImportError, Imported, Listed, Placed, RECONCILE};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::access::admin;
use crate::app::App;
use httpd::error::ApiError;
use httpd::json::{Body, Json};
use httpd::parameters::Query;
use httpd::router_ext::RouterExt;
use httpd::run_to_completion::run_to_completion;

/// What a missing setting is answered with: where it can be set.
const SUGGESTION: &str = "set them as global secrets with POST /settings/secrets, then import again";

/// Media type of a template directory that is sent along.
const TAR: &str = "application/x-tar";

/// `/org/templates` and `/org/import`.
pub fn routes(app: &App) -> Router<App> {
    let access = &app.access;
    let upload = DefaultBodyLimit::max(UPLOAD_BYTES);
    Router::new()
        .endpoint("/org/templates", admin(access, get(templates)))
        .endpoint("/org/import", admin(access, post(import).layer(upload)))
}

// === Listing ===

#[derive(Deserialize)]
struct TemplatesQuery {
    include_broken: Option<String>,
}

async fn templates(State(app): State<App>, Query(query): Query<TemplatesQuery>) -> Json<Vec<Listed>> {
    Json(app.orgs.templates(query.include_broken.as_deref() == Some("true")).await)
}

// === Importing ===

#[derive(Deserialize)]
struct ImportQuery {
    mode: Option<String>,
    dry_run: Option<String>,
}

async fn import(
    State(app): State<App>,
    Query(query): Query<ImportQuery>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_archive = media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(TAR));
    let asked = if is_archive { of_archive(body, query) } else { of_json(&body)? };
    let (dry_run, reconciles) = (asked.dry_run, asked.mode == RECONCILE);
    let imported = run_to_completion(async move { app.orgs.import(asked).await.map_err(refusal) }).await?;
    Ok(if dry_run {
        Json(rehearsed(&imported)).into_response()
    } else {
        let partly = imported.error.is_some();
        let status = if partly { StatusCode::MULTI_STATUS } else { StatusCode::CREATED };
        (status, Json(done(&imported, reconciles))).into_response()
    })
}

fn of_archive(archive: Bytes, query: ImportQuery) -> Import {
    Import {
        from: From::Archive(archive),
        mode: query.mode.unwrap_or_default(),
        dry_run: query.dry_run.as_deref() == Some("true"),
    }
}

#[derive(Deserialize)]
struct ImportBody {
    dir: Option<String>,
    template: Option<Map<String, Value>>,
    mode: Option<String>,
    dry_run: Option<bool>,
}

fn of_json(body: &Bytes) -> Result<Import, ApiError> {
    if body.len() > BODY_BYTES {
        return Err(ApiError::invalid_body());
    }
    let body: ImportBody = serde_json::from_slice(body).map_err(|error| {
        tracing::debug!(%error, "the body is not what the route wants");
        ApiError::invalid_body()
    })?;
    let from = match (body.dir.filter(|dir| !dir.is_empty()), body.template) {
        (Some(dir), _) => From::Directory(dir),
        (None, Some(template)) => From::Inline(Value::Object(template)),
        (None, None) => return Err(refusal(ImportError::Nothing)),
    };
    Ok(Import { from, mode: body.mode.unwrap_or_default(), dry_run: body.dry_run.unwrap_or(false) })
}

/// Texts are fixed; what an author has to mend goes into `detail`.
#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
fn refusal(error: ImportError) -> ApiError {
    let text = error.to_string();
    match &error {
        ImportError::NotFound => ApiError::not_found(&text),
        ImportError::Settings(_) => {
            tracing::error!(error = &error as &dyn std::error::Error, "request failed");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, &text)
        }
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

fn done(imported: &Imported, reconciles: bool) -> Value {
    let workspaces: Vec<Value> = imported.workspaces.iter().map(entry).collect();
    let mut body = json!({
        "count": workspaces.len(),
        "org": imported.org,
        "workspaces": workspaces,
    });
    let mut add = |key: &str, value: Value| {
        if let Some(fields) = body.as_object_mut() {
            fields.insert(key.to_owned(), value);
        }
    };
    if reconciles {
        add("mode", json!(RECONCILE));
        add("reconcile_removed_count", json!(imported.removed.len()));
    }
    if let Some(error) = &imported.error {
        add("error", json!(error));
    }
    if !imported.warnings.is_empty() {
        add("warnings", json!(imported.warnings));
    }
    body
}

fn entry(placed: &Placed) -> Value {
    let mut entry = json!({ "id": placed.id, "name": placed.name, "tier": placed.tier });
    if let Some(fields) = entry.as_object_mut() {
        if placed.fate == Fate::Keep {
            fields.insert("skipped".to_owned(), json!(true));
        }
        if !placed.channels_skipped.is_empty() {
            fields.insert("channels_skipped".to_owned(), json!(placed.channels_skipped));
        }
    }
    entry
}

/// What would happen: each workspace with its place and its fate.
fn rehearsed(imported: &Imported) -> Value {
    let path = |placed: &Placed| {
        let mut path = vec![placed.name.as_str()];
        let mut parent = placed.parent;
        while let Some(above) = parent.and_then(|parent| imported.workspaces.get(parent)) {
            path.push(&above.name);
            parent = above.parent;
        }
        path.reverse();
        json!(path)
    };
    let placed = imported.workspaces.iter().map(|placed| {
        let is_there = placed.fate == Fate::Keep;
        json!({
            "action": if is_there { "keep" } else { "create" },
            "id": is_there.then_some(placed.id),
            "path": path(placed),
            "runtime": placed.runtime,
            "tier": placed.tier,
        })
    });
    let removed = imported.removed.iter().map(|removed| {
        let path: Vec<&str> = removed.above.iter().chain([&removed.name]).map(String::as_str).collect();
        json!({ "action": "remove", "id": removed.id, "path": path })
    });
    json!({
        "dry_run": true,
        "error": imported.error,
        "missing_env": imported.missing_env,
        "mode": imported.mode,
        "nodes": placed.chain(removed).collect::<Vec<_>>(),
        "org": imported.org,
        "warnings": imported.warnings,
    })
}
