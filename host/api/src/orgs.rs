//! Org templates, and their import. Class `admin` throughout.

use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{StatusCode, header};
use orgs::limits::{BODY_BYTES, UPLOAD_BYTES};
use orgs::{
    Action, Import, ImportError, ImportPermit, Imported, ImportedWorkspace, JsonError, Mode, TemplateSource,
    TemplateSummary,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::access::AdminAuth;
use crate::app::App;
use crate::errors::import_error;
use crate::extract::{flag, optional_flag};
use httpd::body::{self, BodyError};
use httpd::error::ApiError;
use httpd::json::Json;
use httpd::parameters::Query;
use httpd::router_ext::RouterExt;
use httpd::run_to_completion::run_to_completion;

/// Media type of a template directory in the body.
const TAR: &str = "application/x-tar";

/// `/org/templates` and `/org/import`.
pub fn routes(_: &App) -> Router<App> {
    Router::new().endpoint("/org/templates", get(templates)).endpoint("/org/import", post(import))
}

// === Listing ===

#[derive(Deserialize)]
struct TemplatesQuery {
    include_broken: Option<String>,
}

async fn templates(
    State(app): State<App>,
    _: AdminAuth,
    Query(query): Query<TemplatesQuery>,
) -> Result<Json<Vec<TemplateSummary>>, ApiError> {
    let include_broken = flag("include_broken", query.include_broken.as_deref())?;
    app.orgs.templates(include_broken).await.map(Json).map_err(import_error)
}

// === Importing ===

#[derive(Deserialize)]
struct ImportQuery {
    mode: Option<String>,
    dry_run: Option<String>,
}

async fn import(
    State(app): State<App>,
    _: AdminAuth,
    ImportRequest { import, permit }: ImportRequest,
) -> Result<Response, ApiError> {
    let (dry_run, reconciles) = (import.dry_run, import.mode == Some(Mode::Reconcile));
    let orgs = app.orgs.clone();
    // The permit is dropped when the answer is made.
    let (imported, _permit) = run_to_completion(async move {
        orgs.import(import, &permit).await.map(|imported| (imported, permit)).map_err(import_error)
    })
    .await?;
    Ok(if dry_run { Json(dry_run_plan(&imported)).into_response() } else { answer(&imported, reconciles) })
}

fn answer(imported: &Imported, reconciles: bool) -> Response {
    let is_partial = imported.error.is_some();
    let status = if is_partial { StatusCode::MULTI_STATUS } else { StatusCode::CREATED };
    (status, Json(done(imported, reconciles))).into_response()
}

/// An import as a request asks for it: a tar archive or JSON, with options in the query or in the JSON.
struct ImportRequest {
    import: Import,
    permit: ImportPermit,
}

impl FromRequest<App> for ImportRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let Query(query) = Query::<ImportQuery>::from_request_parts(&mut parts, app).await?;
        let media = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media = media.unwrap_or_default().split(';').next().unwrap_or_default();
        let is_archive = media.trim().eq_ignore_ascii_case(TAR);
        let most = if is_archive { UPLOAD_BYTES } else { BODY_BYTES };
        let read = body::read(Request::from_parts(parts, body), most).await;
        let read = read.map_err(|error| match error {
            BodyError::TooLarge if !is_archive => ApiError::invalid_body(),
            error => error.into(),
        })?;
        let permit = app.orgs.import_permit().await.map_err(import_error)?;
        let import = if is_archive { of_archive(read, query) } else { of_json(&read, query) }?;
        Ok(Self { import, permit })
    }
}

fn of_archive(archive: Bytes, query: ImportQuery) -> Result<Import, ApiError> {
    let (mode, dry_run) = options(query, None, None)?;
    Ok(Import { source: TemplateSource::Archive(archive), mode, dry_run })
}

/// Mode and `dry_run`, each from the query, the body, or both if they agree.
fn options(
    query: ImportQuery,
    mode: Option<String>,
    dry_run: Option<bool>,
) -> Result<(Option<Mode>, bool), ApiError> {
    let bad_request = |text: &str| ApiError::new(StatusCode::BAD_REQUEST, text);
    let mode = agreed(query.mode, mode).ok_or_else(|| bad_request("mode differs between query and body"))?;
    let mode = match mode.as_deref() {
        None | Some("") => None,
        Some("merge") => Some(Mode::Merge),
        Some("reconcile") => Some(Mode::Reconcile),
        Some(_) => return Err(bad_request("mode must be 'merge' or 'reconcile'")),
    };
    let in_query = optional_flag("dry_run", query.dry_run.as_deref())?;
    let dry_run =
        agreed(in_query, dry_run).ok_or_else(|| bad_request("dry_run differs between query and body"))?;
    Ok((mode, dry_run.unwrap_or(false)))
}

/// None if both are given and differ.
fn agreed<T: PartialEq>(query: Option<T>, body: Option<T>) -> Option<Option<T>> {
    match (query, body) {
        (Some(query), Some(body)) if query != body => None,
        (query, body) => Some(query.or(body)),
    }
}

#[derive(Deserialize)]
struct ImportBody {
    dir: Option<String>,
    template: Option<Map<String, Value>>,
    mode: Option<String>,
    dry_run: Option<bool>,
}

fn of_json(body: &Bytes, query: ImportQuery) -> Result<Import, ApiError> {
    let body: ImportBody = orgs::from_json(body).map_err(|error| match error {
        JsonError::TooDeep => import_error(ImportError::Nesting(error)),
        JsonError::Invalid(error) => {
            tracing::debug!(%error, "the body is not what the route wants");
            ApiError::invalid_body()
        }
    })?;
    let source = match (body.dir.filter(|dir| !dir.is_empty()), body.template) {
        (Some(dir), _) => TemplateSource::Directory(dir),
        (None, Some(template)) => TemplateSource::Inline(Value::Object(template)),
        (None, None) => return Err(import_error(ImportError::MissingSource)),
    };
    let (mode, dry_run) = options(query, body.mode, body.dry_run)?;
    Ok(Import { source, mode, dry_run })
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
        add("mode", json!("reconcile"));
        add("reconcile_removed_count", json!(imported.removed.len()));
    }
    if let Some(error) = &imported.error {
        add("error", json!(error));
    }
    if let Some(detail) = &imported.detail {
        add("detail", json!(detail));
    }
    if !imported.warnings.is_empty() {
        add("warnings", json!(imported.warnings));
    }
    body
}

fn entry(workspace: &ImportedWorkspace) -> Value {
    let mut entry = json!({ "id": workspace.id, "name": workspace.name, "tier": workspace.tier });
    if let Some(fields) = entry.as_object_mut() {
        if workspace.action == Action::Keep {
            fields.insert("skipped".to_owned(), json!(true));
        }
        if !workspace.channels.is_empty() {
            fields.insert("channels".to_owned(), json!(workspace.channels));
        }
        if !workspace.channels_skipped.is_empty() {
            fields.insert("channels_skipped".to_owned(), json!(workspace.channels_skipped));
        }
    }
    entry
}

/// The answer to a dry run: each workspace with its path and action.
fn dry_run_plan(imported: &Imported) -> Value {
    let path = |workspace: &ImportedWorkspace| {
        let mut path = vec![workspace.name.as_str()];
        let mut parent = workspace.parent;
        while let Some(above) = parent.and_then(|parent| imported.workspaces.get(parent)) {
            path.push(&above.name);
            parent = above.parent;
        }
        path.reverse();
        json!(path)
    };
    let nodes = imported.workspaces.iter().map(|workspace| {
        let is_there = workspace.action == Action::Keep;
        json!({
            "action": if is_there { "keep" } else { "create" },
            "id": is_there.then_some(workspace.id),
            "path": path(workspace),
            "runtime": workspace.runtime,
            "tier": workspace.tier,
        })
    });
    let removed = imported.removed.iter().map(|removed| {
        let path: Vec<&str> = removed.ancestors.iter().chain([&removed.name]).map(String::as_str).collect();
        json!({ "action": "remove", "id": removed.id, "path": path })
    });
    json!({
        "detail": imported.detail,
        "dry_run": true,
        "error": imported.error,
        "missing_env": imported.missing_env,
        "mode": Mode::word(imported.mode),
        "nodes": nodes.chain(removed).collect::<Vec<_>>(),
        "org": imported.org,
        "warnings": imported.warnings,
    })
}
