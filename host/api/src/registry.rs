//! The registry that agents call: registration, heartbeats, cards, and which agents may communicate.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use fleet::rules::DeliveryMode;
use fleet::{Metadata, Registration, Report};
use serde::Deserialize;
use serde_json::{Value, json};
use types::WorkspaceId;
use wire_json::{FreeJson, Text};

use crate::access::{
    Access, AgentAuth, AgentBody, AgentProof, Credentials, NoWrongBearer, RegistrationRights,
};
use crate::app::App;
use crate::card_urls::has_user_info;
use crate::errors::Refuse as _;
use crate::extract::Validate;
use httpd::body::BodyLimit;
use httpd::error::ApiError;
use httpd::json::Json;
use httpd::router_ext::RouterExt;
use httpd::run_to_completion::run_to_completion;

/// Bytes of an agent's card at most.
const CARD_BYTES: usize = 64 * 1024;

/// Bytes of a question of access, which any caller may ask.
const CHECK_BYTES: usize = 4 * 1024;

/// Everything below `/registry`.
pub fn routes(_: &App) -> Router<App> {
    Router::new()
        .endpoint("/registry/register", post(register))
        .endpoint("/registry/heartbeat", post(heartbeat))
        .endpoint("/registry/update-card", post(update_card))
        .endpoint("/registry/check-access", post(check_access).layer(BodyLimit::layer(CHECK_BYTES)))
}

type Answer = Result<Json<Value>, ApiError>;

async fn register(State(app): State<App>, auth: AgentAuth<Registration>) -> Answer {
    let RegistrationRights { may_create, may_get_token, root, proved } = auth.rights;
    let registration = Registration { may_create, may_get_token, root, proved, ..auth.body };
    let fleet = app.fleet.clone();
    let registered =
        run_to_completion(async move { fleet.register(registration).await.or_refuse("registration failed") })
            .await?;
    let mut answer = json!({ "delivery_mode": registered.mode, "status": "registered" });
    add(&mut answer, "platform_inbound_secret", registered.inbound_secret);
    add(&mut answer, "auth_token", registered.token.map(|token| token.text));
    if let Some(problem) = registered.problem {
        add(&mut answer, "warning", Some(format!("messages to this agent will not be delivered: {problem}")));
        add(&mut answer, "hint", problem.hint().map(str::to_owned));
    }
    Ok(Json(answer))
}

async fn heartbeat(State(app): State<App>, auth: AgentAuth<Report>) -> Answer {
    let (report, fleet) = (Report { proved: auth.rights.is_proved(), ..auth.body }, app.fleet.clone());
    let acknowledged =
        run_to_completion(async move { fleet.heartbeat(report).await.or_refuse("failed to update") }).await?;
    let mut answer = json!({ "status": "ok" });
    add(&mut answer, "platform_inbound_secret", acknowledged.inbound_secret);
    Ok(Json(answer))
}

async fn update_card(State(app): State<App>, auth: AgentAuth<Card>) -> Answer {
    let updated = app.fleet.update_card(auth.body.workspace, auth.body.card).await;
    updated.or_refuse("failed to update card")?;
    Ok(Json(json!({ "status": "updated" })))
}

async fn check_access(State(app): State<App>, _: NoWrongBearer, Json(body): Json<CheckBody>) -> Json<Value> {
    let ids = (WorkspaceId::parse(&body.caller_id), WorkspaceId::parse(&body.target_id));
    let allowed =
        matches!(ids, (Ok(caller), Ok(target)) if app.fleet.workspaces().can_communicate(caller, target));
    Json(json!({ "allowed": allowed }))
}

// === Bodies ===

/// The JSON form of a registration.
#[derive(Deserialize)]
pub(crate) struct RegisterBody {
    id: String,
    #[serde(default)]
    url: Option<String>,
    agent_card: FreeJson,
    #[serde(default)]
    delivery_mode: Option<String>,
}

impl Validate for Registration {
    type Wire = RegisterBody;

    fn validate(body: RegisterBody) -> Result<Self, ApiError> {
        let (id, card) = (parse(&body.id)?, card(body.agent_card)?);
        let mode = DeliveryMode::asked(body.delivery_mode.as_deref().unwrap_or_default());
        let mode = mode.or_refuse("")?;
        let url = body.url.unwrap_or_default();
        Ok(Self { id, url, card, mode, may_create: false, may_get_token: false, root: None, proved: false })
    }
}

impl AgentBody for Registration {
    type Rights = RegistrationRights;

    fn workspace(&self) -> WorkspaceId {
        self.id
    }

    async fn authorize(
        access: &Access,
        workspace: WorkspaceId,
        credentials: &Credentials<'_>,
    ) -> Result<RegistrationRights, ApiError> {
        access.registration(workspace, credentials).await
    }
}

/// The JSON form of a heartbeat.
#[derive(Deserialize)]
pub(crate) struct HeartbeatBody {
    #[serde(default)]
    workspace_id: Option<String>,
    /// Another name of the same: some agents know themselves by the field of their registration.
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    error_rate: Option<f64>,
    #[serde(default)]
    sample_error: Option<Text>,
    #[serde(default)]
    active_tasks: Option<i32>,
    #[serde(default)]
    current_task: Option<Text>,
    #[serde(default)]
    uptime_seconds: Option<i64>,
    #[serde(default)]
    monthly_spend: Option<i64>,
    #[serde(default)]
    runtime_state: Option<Text>,
    #[serde(default)]
    runtime_metadata: Option<MetadataBody>,
}

#[derive(Deserialize)]
struct MetadataBody {
    #[serde(default)]
    capabilities: Option<BTreeMap<Text, bool>>,
    #[serde(default)]
    idle_timeout_seconds: Option<f64>,
}

impl Validate for Report {
    type Wire = HeartbeatBody;

    fn validate(body: HeartbeatBody) -> Result<Self, ApiError> {
        let metadata = body.runtime_metadata.map(|metadata| Metadata {
            capabilities: metadata
                .capabilities
                .into_iter()
                .flatten()
                .map(|(name, is)| (name.into(), is))
                .collect(),
            // Whole seconds; the conversion saturates at the range of the type.
            idle_timeout_seconds: metadata.idle_timeout_seconds.filter(|s| *s > 0.0).map(|s| s as u64),
        });
        let id = body.workspace_id.or(body.id).ok_or_else(ApiError::invalid_body)?;
        Ok(Self {
            id: parse(&id)?,
            error_rate: body.error_rate.unwrap_or_default(),
            sample_error: body.sample_error.unwrap_or_default().into(),
            active_tasks: body.active_tasks.unwrap_or_default(),
            current_task: body.current_task.unwrap_or_default().into(),
            uptime_seconds: body.uptime_seconds.unwrap_or_default(),
            monthly_spend: body.monthly_spend.unwrap_or_default(),
            runtime_state: body.runtime_state.map(String::from),
            metadata,
            proved: false,
        })
    }
}

impl AgentBody for Report {
    type Rights = AgentProof;

    fn workspace(&self) -> WorkspaceId {
        self.id
    }

    async fn authorize(
        access: &Access,
        workspace: WorkspaceId,
        credentials: &Credentials<'_>,
    ) -> Result<AgentProof, ApiError> {
        access.agent(workspace, credentials).await
    }
}

/// A new card of a workspace's agent.
struct Card {
    workspace: WorkspaceId,
    card: Value,
}

#[derive(Deserialize)]
struct CardBody {
    workspace_id: String,
    agent_card: FreeJson,
}

impl Validate for Card {
    type Wire = CardBody;

    fn validate(body: CardBody) -> Result<Self, ApiError> {
        Ok(Self { workspace: parse(&body.workspace_id)?, card: card(body.agent_card)? })
    }
}

impl AgentBody for Card {
    type Rights = ();

    fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    async fn authorize(
        access: &Access,
        workspace: WorkspaceId,
        credentials: &Credentials<'_>,
    ) -> Result<(), ApiError> {
        access.card_editor(workspace, credentials).await
    }
}

#[derive(Deserialize)]
struct CheckBody {
    caller_id: String,
    target_id: String,
}

fn parse(id: &str) -> Result<WorkspaceId, ApiError> {
    WorkspaceId::parse(id).map_err(|_| ApiError::invalid_body())
}

fn card(card: FreeJson) -> Result<Value, ApiError> {
    let card = card.into_value();
    let fits = card.is_object() && card.to_string().len() <= CARD_BYTES;
    if !fits {
        return Err(ApiError::invalid_body());
    }
    if has_user_info(&card) {
        return Err(ApiError::bad_request("agent_card must not contain a url with a user name or password"));
    }
    Ok(card)
}

fn add(answer: &mut Value, field: &str, text: Option<String>) {
    if let (Some(text), Some(fields)) = (text, answer.as_object_mut()) {
        fields.insert(field.to_owned(), json!(text));
    }
}
