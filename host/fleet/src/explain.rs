//! What a workspace waits for: since when, until when, and what happens then. In words for operators.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use state::steady_now;
use store::workspaces::{Container, DesiredState, Hosting, Status};
use types::{Condition, WorkspaceId};

use crate::{
    Workspace, decide, delivery_problems::DeliveryProblem, error::WorkspaceError, fleet::Fleet,
    limits::CONTAINER_HEARTBEAT_TIMEOUT, machine,
};

/// State of a workspace. Fields are in the order of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)] // most fields are those of the row
pub struct Explanation {
    pub id: WorkspaceId,
    pub name: String,
    pub status: Status,
    /// Time of the last change of status.
    pub since: DateTime<Utc>,
    pub runtime: String,
    pub hosting: Hosting,
    #[serde(rename = "wanted")]
    pub desired: DesiredState,
    /// Number of the desired state.
    pub generation: i64,
    /// Number of the last desired state that was reached.
    pub observed_generation: i64,
    /// Number of the present start.
    pub attempt: i32,
    /// Failures in a row.
    pub failures: i32,
    /// The desired state is reached, as far as it can be.
    #[serde(rename = "agrees")]
    pub converged: bool,
    /// None where the workspace has no container.
    pub container: Option<Container>,
    /// Last call of the agent.
    pub last_seen_at: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    /// Why the agent can't work yet, where its card says `not_configured`.
    pub configuration_error: Option<String>,
    pub conditions: Vec<Condition>,
    /// None where the workspace waits for nothing.
    pub awaiting: Option<Awaiting>,
    /// Why messages do not reach its agent. None where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_problem: Option<DeliveryProblem>,
}

/// Something that a workspace waits for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Awaiting {
    /// In words for operators.
    pub what: String,
    /// Begin of the wait.
    pub since: DateTime<Utc>,
    /// None where the wait has no end of its own.
    pub deadline: Option<DateTime<Utc>>,
    /// What happens at the deadline; without one, what happens once the wait is over.
    pub then: String,
}

/// The reason of an agent whose card says that it is not configured.
fn configuration_error(card: &Value) -> Option<String> {
    let text = |field| card.get(field).and_then(Value::as_str);
    let reason = || text("configuration_error").filter(|reason| !reason.is_empty());
    (text("configuration_status") == Some("not_configured"))
        .then(|| reason().unwrap_or("its card gives no reason").to_owned())
}

impl Fleet {
    /// State of a workspace, live or removed.
    ///
    /// # Errors
    /// If there is no such workspace, or it isn't live and the database can't be read.
    pub async fn explain(&self, id: WorkspaceId) -> Result<Explanation, WorkspaceError> {
        let workspace = self.find(id).await?.ok_or(WorkspaceError::NotFound)?;
        let context = self.decision_context(&workspace.row);
        let row = &workspace.row;
        Ok(Explanation {
            id,
            name: row.name.clone(),
            status: row.status,
            since: row.status_since,
            runtime: row.runtime.clone(),
            hosting: row.hosting,
            desired: row.desired,
            generation: row.generation,
            observed_generation: row.observed_generation,
            attempt: row.attempt,
            failures: row.failures,
            converged: machine::is_converged(row),
            container: (row.hosting == Hosting::Container).then_some(row.container),
            last_seen_at: workspace.presence.as_ref().and_then(|presence| presence.last_seen_at),
            last_error: row.last_sample_error.clone(),
            configuration_error: row.agent_card.as_ref().and_then(configuration_error),
            conditions: row.conditions.clone(),
            awaiting: self.awaiting(&workspace, &context),
            delivery_problem: self.delivery_problem(id, row.url.as_deref()),
        })
    }

    /// Remembers why a message did not reach its agent.
    pub fn record_unreached(&self, id: WorkspaceId, error: &str, hint: Option<&'static str>) {
        let is_live = |id| self.workspaces().get(id).is_some();
        self.inner.delivery_problems.insert(id, error, hint, is_live);
    }

    /// Forgets it: a message reached the agent.
    pub fn record_reached(&self, id: WorkspaceId) {
        self.inner.delivery_problems.remove(id);
    }

    /// Why messages do not reach the agent with this URL: what the last message met, else what its URL says.
    fn delivery_problem(&self, id: WorkspaceId, url: Option<&str>) -> Option<DeliveryProblem> {
        self.inner.delivery_problems.get(id).or_else(|| {
            let problem = self.addresses().problem(url?)?;
            Some(DeliveryProblem { error: problem.to_string(), hint: problem.hint(), since: None })
        })
    }

    fn awaiting(&self, workspace: &Workspace, context: &decide::Context) -> Option<Awaiting> {
        let row = &workspace.row;
        let awaiting = |what: &str, deadline, then: &str| {
            Some(Awaiting { what: what.to_owned(), since: row.status_since, deadline, then: then.to_owned() })
        };
        // Deadlines are measured by the steady clock, and shown by the machine's.
        let shown = |at| store::now() + (at - steady_now());
        let timed = self.with_local_times(row);
        let deadline = decide::deadline(&timed, context).map(|(at, _)| shown(at));
        let missing_plan = machine::missing_plan(row);
        let silent_since = shown(decide::silent_since(&timed, context));
        match (row.status, row.hosting) {
            (Status::Provisioning, _) if missing_plan.is_some() => awaiting(
                "a plan for its start by the adapter of its runtime",
                timed.retry_at.map(shown),
                "the adapter is asked again; also at once when it is in service again",
            ),
            (Status::Failed, _) if missing_plan.is_some() => awaiting(
                "another release or other settings of the guest, an edit of the workspace, or a restart (isomer ws restart)",
                None,
                "the adapter of its runtime is asked again for a plan",
            ),
            (Status::Provisioning, _) if row.container == Container::Running => awaiting(
                "the first call of its agent",
                deadline,
                "the workspace fails; a later call of its agent still brings it online",
            ),
            (Status::Provisioning, _) => awaiting(
                "its container to be started",
                deadline,
                "the workspace fails; restart it to try again",
            ),
            (Status::Hibernating, _) => awaiting(
                "its container to be stopped",
                deadline,
                "the hibernation is given up and the workspace is online again",
            ),
            (Status::AwaitingAgent, _) => awaiting(
                "its agent to call POST /registry/register or /registry/heartbeat",
                None,
                "the workspace is online",
            ),
            (Status::Offline, _) if context.ancestor_paused => {
                awaiting("a paused workspace above it to be resumed", None, "the workspace is started again")
            }
            (Status::Offline, _) => awaiting(
                "the back-off after a failure to end",
                timed.retry_at.map(shown),
                "the workspace is started again",
            ),
            (Status::Hibernated, _) => {
                awaiting("a message for its agent", None, "the workspace is started again")
            }
            (Status::Paused, _) if !machine::is_converged(row) => awaiting(
                "its container to be stopped",
                None,
                "the workspace is stopped; until then the backend is asked again and again",
            ),
            (Status::Paused, _) => {
                awaiting("a call to POST /workspaces/:id/resume", None, "the workspace runs again")
            }
            (Status::Removed, Hosting::Container) if !machine::is_converged(row) => awaiting(
                "its container to be removed",
                None,
                "nothing of the workspace is left; until then the backend is asked again and again",
            ),
            (Status::Online | Status::Degraded, Hosting::Operator) => awaiting(
                "the next call of its agent",
                Some(silent_since + context.operator_heartbeat_timeout),
                "the workspace is awaiting_agent until its agent calls again",
            ),
            (Status::Online | Status::Degraded, Hosting::Container) => awaiting(
                "the next heartbeat of its agent",
                Some(silent_since + CONTAINER_HEARTBEAT_TIMEOUT),
                "the workspace is offline and started again",
            ),
            (Status::Failed, _) => awaiting(
                "a restart (isomer ws restart, or POST /workspaces/:id/restart), or a call of its agent",
                None,
                "the workspace is started again, or online",
            ),
            (Status::Online | Status::Degraded | Status::Removed, _) => None,
        }
    }
}
