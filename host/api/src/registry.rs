//! The registry that agents call: who they are, how they are, whom they may talk to. Each route judges
//! its callers itself, because the body says who they are.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use fleet::rules::DeliveryMode;
use fleet::{FleetError, Metadata, Registration, Report};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access::{Credentials, Proof};
use crate::app::App;
use crate::errors::fleet_error;
use httpd::error::ApiError;
use httpd::json::Json;
use httpd::router_ext::RouterExt;
use httpd::run_to_completion::run_to_completion;

/// Bytes of an agent's card at most.
const CARD_BYTES: usize = 64 * 1024;

/// Everything below `/registry` that is there so far.
pub fn routes(_: &App) -> Router<App> {
    Router::new()
        .endpoint("/registry/register", post(register))
        .endpoint("/registry/heartbeat", post(heartbeat))
        .endpoint("/registry/update-card", post(update_card))
        .endpoint("/registry/check-access", post(check_access))
}

type Answer = Result<Json<Value>, ApiError>;

#[derive(Deserialize)]
struct RegisterBody {
    id: String,
    #[serde(default)]
    url: Option<String>,
    agent_card: Value,
    #[serde(default)]
    delivery_mode: Option<String>,
}

async fn register(State(app): State<App>, headers: HeaderMap, Json(body): Json<RegisterBody>) -> Answer {
    let (id, card) = (parse(&body.id)?, card(body.agent_card)?);
    let mode = DeliveryMode::asked(body.delivery_mode.as_deref().unwrap_or_default());
    let mode = mode.map_err(|error| fleet_error(error.into(), ""))?;
    let credentials = Credentials::of(&headers);
    let proof = app.access.agent(id, &credentials).await?;
    let may_create = !app.access.has_admin_token() || proof == Proof::Admin;
    let known = app.fleet.directory().get(id).is_some();
    if !known && !may_create {
        return Err(ApiError::unauthorized("missing workspace auth token"));
    }
    let url = body.url.unwrap_or_default();
    let proved = proof != Proof::None;
    let registration = Registration { id, url, card, mode, may_create, proved };
    let failed = |error| match error {
        // Removed while it called: agents know that answer as the end.
        FleetError::NotFound => ApiError::unauthorized("invalid workspace auth token"),
        error => fleet_error(error, "registration failed"),
    };
    let fleet = app.fleet.clone();
    let registered =
        run_to_completion(async move { fleet.register(registration).await.map_err(failed) }).await?;
    let mut answer = json!({ "delivery_mode": registered.mode, "status": "registered" });
    // Who had nothing to show has something from now on.
    if proved || registered.token.is_some() {
        add(&mut answer, "platform_inbound_secret", app.fleet.inbound_secret(id).await);
    }
    add(&mut answer, "auth_token", registered.token.map(|token| token.text));
    Ok(Json(answer))
}

#[derive(Deserialize)]
struct HeartbeatBody {
    workspace_id: String,
    #[serde(default)]
    error_rate: Option<f64>,
    #[serde(default)]
    sample_error: Option<String>,
    #[serde(default)]
    active_tasks: Option<i32>,
    #[serde(default)]
    current_task: Option<String>,
    #[serde(default)]
    uptime_seconds: Option<i64>,
    #[serde(default)]
    monthly_spend: Option<i64>,
    #[serde(default)]
    runtime_state: Option<String>,
    #[serde(default)]
    runtime_metadata: Option<MetadataBody>,
}

#[derive(Deserialize)]
struct MetadataBody {
    #[serde(default)]
    capabilities: Option<BTreeMap<String, bool>>,
    #[serde(default)]
    idle_timeout_seconds: Option<f64>,
}

async fn heartbeat(State(app): State<App>, headers: HeaderMap, Json(body): Json<HeartbeatBody>) -> Answer {
    let id = parse(&body.workspace_id)?;
    let proof = app.access.agent(id, &Credentials::of(&headers)).await?;
    let metadata = body.runtime_metadata.map(|metadata| Metadata {
        capabilities: metadata.capabilities.unwrap_or_default(),
        // Whole seconds; the conversion keeps to the range of the type.
        idle_timeout_seconds: metadata.idle_timeout_seconds.filter(|s| *s > 0.0).map(|s| s as u64),
    });
    let report = Report {
        id,
        error_rate: body.error_rate.unwrap_or_default(),
        sample_error: body.sample_error.unwrap_or_default(),
        active_tasks: body.active_tasks.unwrap_or_default(),
        current_task: body.current_task.unwrap_or_default(),
        uptime_seconds: body.uptime_seconds.unwrap_or_default(),
        monthly_spend: body.monthly_spend.unwrap_or_default(),
        runtime_state: body.runtime_state,
        metadata,
    };
    let failed = |error| fleet_error(error, "failed to update");
    let fleet = app.fleet.clone();
    run_to_completion(async move { fleet.beat(report).await.map_err(failed) }).await?;
    let mut answer = json!({ "status": "ok" });
    if proof != Proof::None {
        add(&mut answer, "platform_inbound_secret", app.fleet.inbound_secret(id).await);
    }
    Ok(Json(answer))
}

#[derive(Deserialize)]
struct CardBody {
    workspace_id: String,
    agent_card: Value,
}

async fn update_card(State(app): State<App>, headers: HeaderMap, Json(body): Json<CardBody>) -> Answer {
    let (id, card) = (parse(&body.workspace_id)?, card(body.agent_card)?);
    let proof = app.access.agent(id, &Credentials::of(&headers)).await;
    // The web canvas edits cards on a developer's own machine: those of workspaces that are there.
    if !app.access.dev_mode() || app.fleet.directory().get(id).is_none() {
        proof?;
    }
    app.fleet.update_card(id, card).await.map_err(|error| fleet_error(error, "failed to update card"))?;
    Ok(Json(json!({ "status": "updated" })))
}

#[derive(Deserialize)]
struct CheckBody {
    caller_id: String,
    target_id: String,
}

async fn check_access(State(app): State<App>, Json(body): Json<CheckBody>) -> Json<Value> {
    let ids = (Uuid::parse_str(&body.caller_id), Uuid::parse_str(&body.target_id));
    let allowed = matches!(ids, (Ok(caller), Ok(target)) if app.fleet.directory().may_talk(caller, target));
    Json(json!({ "allowed": allowed }))
}

fn parse(id: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(id).map_err(|_| ApiError::invalid_body())
}

fn card(card: Value) -> Result<Value, ApiError> {
    let fits = card.is_object() && card.to_string().len() <= CARD_BYTES;
    if fits { Ok(card) } else { Err(ApiError::invalid_body()) }
}

fn add(answer: &mut Value, field: &str, text: Option<String>) {
    if let (Some(text), Some(fields)) = (text, answer.as_object_mut()) {
        fields.insert(field.to_owned(), json!(text));
    }
}
