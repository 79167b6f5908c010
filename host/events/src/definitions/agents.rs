//! Payloads about agents and their cards. Fields in alphabetical order.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::WorkspaceId;
use uuid::Uuid;

/// An agent describes itself anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardUpdated {
    /// The card.
    pub agent_card: Value,
}

/// An agent and its model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentModel {
    /// The agent.
    pub agent_id: Uuid,
    /// Its model.
    pub model: String,
}

/// One agent took the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The new agent.
    pub agent_id: Uuid,
    /// Its model.
    pub model: String,
    /// The model of the agent before.
    pub old_model: String,
}

/// An agent changed its workspace. Each end has its own event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Moved {
    /// On the workspace it left.
    Left {
        /// The agent.
        agent_id: Uuid,
        /// Its model.
        model: String,
        /// Where it went.
        target_workspace_id: WorkspaceId,
    },
    /// On the workspace it came to.
    Arrived {
        /// The agent.
        agent_id: Uuid,
        /// Its model.
        model: String,
        /// Where it came from.
        source_workspace_id: WorkspaceId,
    },
}
