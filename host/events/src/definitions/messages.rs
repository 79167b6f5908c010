//! Payloads of messages, activity and delegation. Fields in alphabetical order.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use types::{ActivityId, WorkspaceId};
use uuid::Uuid;
use wire_json::RawJson;

use super::fixed::{Inbound, Outbound, QueueDrain};

/// An agent sent users a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentMessage {
    /// Files that go with it; absent when none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// The text.
    pub message: String,
    /// Name of its workspace.
    pub name: String,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
}

/// A file that goes with a message. Clients drop those with an empty `uri` or `name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its media type.
    #[serde(default, rename = "mimeType", skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Its name.
    pub name: String,
    /// Its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// Where it is.
    pub uri: String,
}

/// An agent answered a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct A2aResponse {
    /// How long it took.
    pub duration_ms: i64,
    /// The A2A method.
    pub method: String,
    /// The answer as it came.
    pub response_body: RawJson,
}

/// A row of the activity log. What is `null` when unset and what is absent is the contract's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Kind of activity.
    pub activity_type: String,
    /// When the row was made.
    #[serde(serialize_with = "crate::json::serialize_timestamp")]
    pub created_at: DateTime<Utc>,
    /// How long it took, or null.
    pub duration_ms: Option<i64>,
    /// What went wrong; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<String>,
    /// The row.
    pub id: ActivityId,
    /// Its method, or null.
    pub method: Option<String>,
    /// The request; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_body: Option<RawJson>,
    /// The response; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_body: Option<RawJson>,
    /// The source; null for users.
    pub source_id: Option<WorkspaceId>,
    /// How it went, or null.
    pub status: Option<String>,
    /// In one line, or null.
    pub summary: Option<String>,
    /// The target, or null.
    pub target_id: Option<WorkspaceId>,
    /// Tools that were used; absent if not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_trace: Option<RawJson>,
}

/// A task was handed to another workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationSent {
    /// The delegation, as the caller may have named it.
    pub delegation_id: String,
    /// The workspace that the task is delegated to.
    pub target_id: WorkspaceId,
    /// The start of the task, at most 100 bytes.
    pub task_preview: String,
}

/// A delegation is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationStatus {
    /// The delegation.
    pub delegation_id: String,
    /// How far it is.
    pub status: DelegationProgress,
    /// The workspace that the task is delegated to.
    pub target_id: WorkspaceId,
}

/// How far a delegation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelegationProgress {
    /// It was sent.
    Dispatched,
    /// The other workspace is busy.
    Queued,
}

/// A delegation was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationComplete {
    /// The delegation.
    pub delegation_id: String,
    /// The start of the answer, at most 4096 bytes.
    pub response_preview: String,
    /// The workspace that did the task.
    pub target_id: WorkspaceId,
    /// Present when it had waited in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<QueueDrain>,
}

/// A delegation came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationFailed {
    /// The delegation.
    pub delegation_id: String,
    /// Why.
    pub error: String,
    /// The workspace that the task was delegated to.
    pub target_id: WorkspaceId,
}

/// A message went through a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ChannelMessage {
    /// To the agent.
    Inbound {
        /// The channel.
        channel_id: Uuid,
        /// Its kind.
        channel_type: String,
        /// Always.
        direction: Inbound,
        /// Name of the sender in the channel.
        username: String,
    },
    /// From the agent.
    Outbound {
        /// The channel.
        channel_id: Uuid,
        /// Its kind.
        channel_type: String,
        /// Always.
        direction: Outbound,
    },
}
