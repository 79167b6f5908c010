//! The events of the fleet's transitions, all made here.

use events::{
    Event,
    definitions::{
        AwaitingAgent, Degraded, Empty, Hibernated, Online, Paused, ProvisionFailed, ProvisionTimeoutSweep,
        Provisioning, RecoveredFrom, Removed, Updated, Wedged, Yes,
    },
};
use serde_json::Value;
use store::workspaces::{Hosting, Status, WorkspaceRow};

/// Shown to people when an agent never called.
pub(crate) const START_OVERDUE: &str = "provisioning timed out — container started but never called \
    /registry/register. Check container logs and network connectivity to the platform.";

pub(crate) fn provisioning(row: &WorkspaceRow) -> Event {
    Event::WorkspaceProvisioning(Provisioning::Started {
        name: row.name.clone(),
        runtime: row.runtime.clone(),
        tier: row.tier,
    })
}

pub(crate) fn start_failed(error: &str, missing: &[String]) -> Event {
    let error = error.to_owned();
    Event::WorkspaceProvisionFailed(if missing.is_empty() {
        ProvisionFailed::Other { error }
    } else {
        ProvisionFailed::MissingEnv { error, missing: missing.to_vec() }
    })
}

pub(crate) fn start_overdue(row: &WorkspaceRow, after_seconds: u64) -> Event {
    Event::WorkspaceProvisionFailed(ProvisionFailed::TimedOut {
        error: START_OVERDUE.to_owned(),
        runtime: row.runtime.clone(),
        source: ProvisionTimeoutSweep,
        timeout_secs: i64::try_from(after_seconds).unwrap_or(i64::MAX),
    })
}

/// For a workspace without a container, which works as soon as it is created or resumed.
pub(crate) fn online_at_once(row: &WorkspaceRow) -> Event {
    let name = row.name.clone();
    Event::WorkspaceOnline(match row.hosting {
        Hosting::Synthetic => Online::Mock { mock: Yes, name, runtime: row.runtime.clone() },
        Hosting::Operator | Hosting::Container => Online::External { external: Yes, name },
    })
}

pub(crate) fn reconnected(from: Option<Status>) -> Event {
    Event::WorkspaceOnline(match from {
        Some(Status::Provisioning) => Online::Recovered { recovered_from: RecoveredFrom::Provisioning },
        Some(Status::AwaitingAgent) => Online::Recovered { recovered_from: RecoveredFrom::AwaitingAgent },
        Some(Status::Failed) => Online::Recovered { recovered_from: RecoveredFrom::Failed },
        _ => Online::Reconnected {},
    })
}

pub(crate) fn registered(row: &WorkspaceRow) -> Event {
    Event::WorkspaceOnline(Online::Registered {
        agent_card: row.agent_card.clone().unwrap_or(Value::Null),
        delivery_mode: row.delivery_mode.as_str().to_owned(),
        url: row.url.clone().unwrap_or_default(),
    })
}

pub(crate) fn awaiting_agent(row: &WorkspaceRow) -> Event {
    Event::WorkspaceAwaitingAgent(AwaitingAgent { external: Yes, name: row.name.clone() })
}

pub(crate) fn offline() -> Event {
    Event::WorkspaceOffline(Empty {})
}

pub(crate) fn degraded(error_rate: f64, sample_error: String, wedged: bool) -> Event {
    Event::WorkspaceDegraded(Degraded { error_rate, runtime_state: wedged.then_some(Wedged), sample_error })
}

pub(crate) fn paused(row: &WorkspaceRow) -> Event {
    Event::WorkspacePaused(Paused { name: row.name.clone() })
}

pub(crate) fn hibernated(row: &WorkspaceRow) -> Event {
    Event::WorkspaceHibernated(Hibernated { name: row.name.clone(), tier: row.tier })
}

pub(crate) fn removed(cascade: Option<usize>) -> Event {
    let cascade_deleted = cascade.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    Event::WorkspaceRemoved(Removed { cascade_deleted })
}

pub(crate) fn updated(changed: Vec<String>) -> Event {
    Event::WorkspaceUpdated(Updated { changed })
}
