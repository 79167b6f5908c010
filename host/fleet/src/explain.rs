//! What a workspace waits for: since when, until when, and what happens then. In words for people.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use store::workspaces::{Container, DesiredState, Hosting, Status};
use uuid::Uuid;

use crate::{
    decide, directory::Workspace, error::FleetError, fleet::Fleet, limits::CONTAINER_SILENCE, machine,
};

/// How a workspace stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What clients are told.
    pub status: Status,
    /// Since when.
    pub since: DateTime<Utc>,
    /// What runs in it.
    pub runtime: String,
    /// Who runs it.
    pub hosting: Hosting,
    /// What people want.
    pub wanted: DesiredState,
    /// Number of what people want.
    pub generation: i64,
    /// Number of what was last seen to be so.
    pub observed_generation: i64,
    /// Number of the present start.
    pub attempt: i32,
    /// Failures in a row.
    pub failures: i32,
    /// Is what people want the case, as far as it can be?
    pub agrees: bool,
    /// What is known of its container; none where it has none.
    pub container: Option<Container>,
    /// When its agent was last heard of.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// What else was seen.
    pub conditions: Value,
    /// What is waited for, if anything is.
    pub awaiting: Option<Awaiting>,
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Awaiting {
    /// What.
    pub what: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when; none where it may take forever.
    pub deadline: Option<DateTime<Utc>>,
    /// What happens then, or what would end the waiting.
    pub then: String,
}

impl Fleet {
    /// How a workspace stands, live or removed.
    ///
    /// # Errors
    /// If there never was one, or it isn't live and the database can't be read.
    pub async fn explain(&self, id: Uuid) -> Result<Explanation, FleetError> {
        let workspace = self.find(id).await?.ok_or(FleetError::NotFound)?;
        let facts = self.facts(&workspace.row);
        let row = &workspace.row;
        Ok(Explanation {
            id,
            name: row.name.clone(),
            status: row.status,
            since: row.status_since,
            runtime: row.runtime.clone(),
            hosting: row.hosting,
            wanted: row.wanted,
            generation: row.generation,
            observed_generation: row.observed_generation,
            attempt: row.attempt,
            failures: row.failures,
            agrees: machine::agrees(row),
            container: (row.hosting == Hosting::Container).then_some(row.container),
            last_seen_at: facts.last_seen,
            last_error: row.last_sample_error.clone(),
            conditions: row.conditions.clone(),
            awaiting: self.awaiting(&workspace, &facts),
        })
    }

    fn awaiting(&self, workspace: &Workspace, facts: &decide::Facts) -> Option<Awaiting> {
        let row = &workspace.row;
        let awaiting = |what: &str, deadline, then: &str| {
            Some(Awaiting { what: what.to_owned(), since: row.status_since, deadline, then: then.to_owned() })
        };
        let deadline = decide::deadline(row, facts).map(|(at, _)| at);
        let heard = decide::heard_at(row, facts);
        match (row.status, row.hosting) {
            (Status::Provisioning, _) if row.container == Container::Running => awaiting(
                "the first call of its agent",
                deadline,
                "it counts as failed; a later call of the agent still brings it online",
            ),
            (Status::Provisioning, _) => awaiting(
                "its container to be started",
                deadline,
                "it counts as failed; restart it to try again",
            ),
            (Status::Hibernating, _) => awaiting(
                "its container to be stopped",
                deadline,
                "hibernation is given up and it counts as online",
            ),
            (Status::AwaitingAgent, _) => awaiting(
                "its agent to call POST /registry/register or /registry/heartbeat",
                None,
                "it is online",
            ),
            (Status::Offline, _) if facts.ancestor_paused => {
                awaiting("a paused workspace above it to be resumed", None, "it is started again")
            }
            (Status::Offline, _) => {
                awaiting("the wait after a failure to be over", row.retry_at, "it is started again")
            }
            (Status::Hibernated, _) => awaiting("a message for its agent", None, "it is started again"),
            (Status::Paused, _) if !machine::agrees(row) => awaiting(
                "its container to be stopped",
                None,
                "it stands still; the backend is asked again and again",
            ),
            (Status::Paused, _) => awaiting("somebody to resume it", None, "it goes on"),
            (Status::Removed, Hosting::Container) if !machine::agrees(row) => awaiting(
                "its container to be removed",
                None,
                "nothing of it is left; the backend is asked again and again",
            ),
            (Status::Online | Status::Degraded, Hosting::Operator) => awaiting(
                "the next call of its agent",
                Some(heard + facts.operator_silence),
                "it counts as awaiting_agent until its agent calls again",
            ),
            (Status::Online | Status::Degraded, Hosting::Container) => awaiting(
                "the next heartbeat of its agent",
                Some(heard + CONTAINER_SILENCE),
                "it counts as offline and is started again",
            ),
            (Status::Failed, _) => {
                awaiting("somebody to restart it, or its agent to call after all", None, "it is tried again")
            }
            (Status::Online | Status::Degraded | Status::Removed, _) => None,
        }
    }
}
