//! A workspace as clients read it. Fields in alphabetical order: that is their order in the text.

use chrono::{DateTime, Utc};
use fleet::{Fleet, Workspace};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use store::workspaces::{Status, WorkspaceRow};
use types::WorkspaceId;

use crate::card_urls::Shown;
use httpd::error::ApiError;

/// The fields of a workspace that clients see. The outer `Option` of a private field is `None` for callers who may
/// not read it.
#[derive(Debug, Serialize)]
pub(crate) struct View<'a> {
    active_tasks: i32,
    agent_card: Option<Card<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_limit: Option<Option<i64>>,
    collapsed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_mode: Option<&'a str>,
    id: WorkspaceId,
    last_error_rate: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heartbeat_at: Option<Option<DateTime<Utc>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_outbound_at: Option<Option<DateTime<Utc>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sample_error: Option<&'a str>,
    max_concurrent_tasks: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    monthly_spend: Option<i64>,
    name: &'a str,
    parent_id: Option<WorkspaceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provision_timeout_ms: Option<u64>,
    role: Option<&'a str>,
    runtime: &'a str,
    status: Status,
    tier: i32,
    uptime_seconds: i64,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_dir: Option<Option<&'a str>>,
    x: f64,
    y: f64,
}

impl<'a> View<'a> {
    /// An element of the list. `proved`: the caller has proved that it is an administrator; else the deployment has
    /// no credential yet, and where agents are reached is left out.
    pub(crate) fn listed(workspace: &'a Workspace, fleet: &Fleet, proved: bool) -> Self {
        Self::of(workspace, fleet, true, proved)
    }

    /// A single workspace. `known`: the caller has proved access, so private fields are included.
    pub(crate) fn single(workspace: &'a Workspace, fleet: &Fleet, known: bool) -> Self {
        let presence = workspace.presence.as_deref();
        Self {
            last_outbound_at: Some(presence.and_then(|presence| presence.last_outbound_at)),
            ..Self::of(workspace, fleet, known, known)
        }
    }

    fn of(workspace: &'a Workspace, fleet: &Fleet, known: bool, with_urls: bool) -> Self {
        let row = &*workspace.row;
        let presence = workspace.presence.as_deref();
        let layout = workspace.layout;
        let said = presence.and_then(|presence| presence.sample_error.as_deref());
        let sample_error = said.filter(|said| !said.is_empty()).or(row.last_sample_error.as_deref());
        Self {
            active_tasks: presence.map_or(0, |presence| presence.active_tasks),
            agent_card: row.agent_card.as_ref().map(|card| Card::of(card, with_urls)),
            budget_limit: known.then_some(row.budget_limit),
            collapsed: layout.is_some_and(|layout| layout.collapsed),
            created_at: known.then_some(row.created_at),
            current_task: known.then(|| presence.map_or("", |presence| &presence.current_task)),
            delivery_mode: known.then_some(row.delivery_mode.as_str()),
            id: row.id,
            last_error_rate: presence.map_or(0.0, |presence| presence.error_rate),
            last_heartbeat_at: known.then(|| presence.and_then(|presence| presence.last_seen_at)),
            last_outbound_at: None,
            last_sample_error: known.then(|| sample_error.unwrap_or_default()),
            max_concurrent_tasks: row.max_concurrent_tasks,
            monthly_spend: known.then(|| presence.map_or(0, |presence| presence.monthly_spend)),
            name: &row.name,
            parent_id: row.parent_id,
            provision_timeout_ms: fleet.template_timeout_ms(&row.runtime),
            role: row.role.as_deref(),
            runtime: &row.runtime,
            status: row.status,
            tier: row.tier,
            uptime_seconds: presence.map_or(0, |presence| presence.uptime_seconds),
            url: row.url.as_deref().filter(|_| with_urls).unwrap_or_default(),
            workspace_dir: known.then_some(row.workspace_dir.as_deref()),
            x: layout.map_or(0.0, |layout| layout.x),
            y: layout.map_or(0.0, |layout| layout.y),
        }
    }
}

/// The agent card of a workspace.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Card<'a> {
    Whole(&'a Value),
    /// For callers who may not know where the agent is reached.
    Public(Shown<'a>),
}

impl<'a> Card<'a> {
    fn of(card: &'a Value, with_urls: bool) -> Self {
        if with_urls { Self::Whole(card) } else { Self::Public(Shown::card(card)) }
    }
}

/// The answer about one that is removed.
pub(crate) fn gone(row: &WorkspaceRow) -> ApiError {
    ApiError::with_body(
        StatusCode::GONE,
        json!({
            "error": "workspace removed",
            "hint": "Regenerate workspace + token from the canvas → Tokens tab",
            "id": row.id,
            "removed_at": row.removed_at,
        }),
    )
}
