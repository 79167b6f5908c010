//! The next step of a workspace's reconciliation, from its row and what was just observed. Pure, and one
//! step at a time: the reconciler observes again after each.
//!
//! All times are of one clock that no one sets ([`state::steady_now`]), those of the row included.

use std::time::Duration;

use chrono::{DateTime, Utc};
use provision::Observation;
use store::workspaces::{Container, DesiredState, Hosting, Status, WorkspaceRow};

use crate::{
    limits,
    machine::{Input, missing_plan},
};

/// What a reconciler does next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Nothing, until the workspace is enqueued or until this time.
    Wait(Option<DateTime<Utc>>),
    /// Plan and start the container of the present attempt.
    Ensure,
    /// Stop the container.
    Stop,
    /// Remove what the container left: volumes, too.
    Remove,
    /// Store what was observed.
    Record(Input),
}

/// What decides besides the row and the observation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    /// Last call of the workspace's agent.
    pub last_seen: Option<DateTime<Utc>>,
    /// Since when this server leads. Agents may have called a server that stopped before, and stored
    /// presence lags behind, so no silence counts that began earlier. None on servers that don't lead.
    pub leading_since: Option<DateTime<Utc>>,
    pub ancestor_paused: bool,
    /// The adapter was not asked for a plan by this server since it, or the workspace, changed.
    pub asks_again: bool,
    /// How long a start may take.
    pub provision_timeout: Duration,
    /// Time without a heartbeat after which an agent that its operator runs counts as away.
    pub operator_heartbeat_timeout: Duration,
}

/// Error of a workspace for which there is no backend.
pub(crate) const NO_BACKEND: &str = "no provisioning backend available — workspace requires either a Docker daemon \
    (self-hosted) or control-plane provisioner (SaaS)";

/// The next step. `observed` is what the backend says of the workspace's container; none where there is
/// no backend, or no container to ask for.
#[must_use]
pub(crate) fn next_step(
    row: &WorkspaceRow,
    observed: Option<&Observation>,
    context: &Context,
    now: DateTime<Utc>,
) -> Step {
    match row.hosting {
        Hosting::Synthetic => Step::Wait(None),
        Hosting::Operator => await_heartbeat(row, context.operator_heartbeat_timeout, context, now),
        Hosting::Container => deadline_exceeded(row, context, now).unwrap_or_else(|| match observed {
            None => without_backend(row, context, now),
            Some(observed) => record_reachability(row, observed)
                .unwrap_or_else(|| for_container(row, observed, context, now)),
        }),
    }
}

/// When the present state ends at the latest, and how long it may last.
#[must_use]
pub(crate) fn deadline(row: &WorkspaceRow, context: &Context) -> Option<(DateTime<Utc>, Duration)> {
    let (since, length) = match row.status {
        // It has not begun: the adapter of its runtime gives no plan.
        Status::Provisioning if missing_plan(row).is_some() => return None,
        Status::Provisioning => (row.attempt_at.unwrap_or(row.status_since), context.provision_timeout),
        Status::Hibernating => (row.status_since, limits::HIBERNATE_TIMEOUT),
        _ => return None,
    };
    Some((since + length, length))
}

fn deadline_exceeded(row: &WorkspaceRow, context: &Context, now: DateTime<Utc>) -> Option<Step> {
    let (at, length) = deadline(row, context)?;
    (now >= at).then_some(Step::Record(Input::DeadlineExceeded { after_seconds: length.as_secs() }))
}

/// When the time without a heartbeat began: at the agent's last call, the last change of status, or when
/// this server began to lead, whichever is latest.
#[must_use]
pub(crate) fn silent_since(row: &WorkspaceRow, context: &Context) -> DateTime<Utc> {
    let later = context.last_seen.max(context.leading_since);
    later.map_or(row.status_since, |later| later.max(row.status_since))
}

fn await_heartbeat(row: &WorkspaceRow, limit: Duration, context: &Context, now: DateTime<Utc>) -> Step {
    if !matches!(row.status, Status::Online | Status::Degraded) {
        return Step::Wait(None);
    }
    let timeout_at = silent_since(row, context) + limit;
    if now >= timeout_at { Step::Record(Input::HeartbeatTimeout) } else { Step::Wait(Some(timeout_at)) }
}

fn without_backend(row: &WorkspaceRow, context: &Context, now: DateTime<Utc>) -> Step {
    match row.status {
        Status::Provisioning => Step::Record(Input::StartFailed {
            attempt: row.attempt,
            error: NO_BACKEND.to_owned(),
            missing: Vec::new(),
        }),
        // Its agent was started by hand.
        _ => await_heartbeat(row, limits::CONTAINER_HEARTBEAT_TIMEOUT, context, now),
    }
}

/// Whether the backend answers is stored when it changes, and changes nothing else.
fn record_reachability(row: &WorkspaceRow, observed: &Observation) -> Option<Step> {
    let input = match observed {
        Observation::Unknown(reason) => Input::Unreachable { reason: reason.clone() },
        Observation::Running { .. } | Observation::Absent => Input::Reachable,
    };
    crate::machine::apply(row, &input, row.updated_at).map(|_| Step::Record(input))
}

fn for_container(row: &WorkspaceRow, observed: &Observation, context: &Context, now: DateTime<Utc>) -> Step {
    let wait = |until: Option<DateTime<Utc>>| {
        let deadline = deadline(row, context).map(|(at, _)| at);
        Step::Wait(deadline.into_iter().chain(until).min())
    };
    if let Observation::Unknown(_) = observed {
        return wait(Some(now + limits::REQUEUE_AFTER));
    }
    let known_absent = matches!(row.container, Container::None | Container::Absent);
    let not_before = row.retry_at.filter(|at| now < *at);
    let asks_again = context.asks_again && missing_plan(row).is_some();
    let after_backoff = |step: Step| not_before.map_or(step, |at| wait(Some(at)));
    match (row.desired, observed) {
        (
            DesiredState::Removed | DesiredState::Paused | DesiredState::Hibernated,
            Observation::Running { .. },
        ) => after_backoff(Step::Stop),
        // What the workspace stored goes with it, once its container certainly doesn't run.
        (DesiredState::Removed, _) => {
            if known_absent {
                Step::Wait(None)
            } else {
                after_backoff(Step::Remove)
            }
        }
        (DesiredState::Paused | DesiredState::Hibernated, _) => {
            if known_absent && row.status != Status::Hibernating {
                Step::Wait(None)
            } else {
                Step::Record(Input::Stopped)
            }
        }
        (DesiredState::Running, Observation::Running { attempt, url }) => {
            if row.container == Container::Superseded || *attempt != row.attempt {
                return after_backoff(Step::Stop);
            }
            match row.status {
                Status::Offline => recover(row, context, now),
                _ if row.container != Container::Running => {
                    Step::Record(Input::Started { attempt: *attempt, url: url.clone() })
                }
                Status::Online | Status::Degraded => {
                    await_heartbeat(row, limits::CONTAINER_HEARTBEAT_TIMEOUT, context, now)
                }
                _ => wait(None),
            }
        }
        (DesiredState::Running, _) => match row.status {
            Status::Offline => recover(row, context, now),
            Status::Failed | Status::Provisioning if known_absent && asks_again => Step::Ensure,
            Status::Failed if known_absent => Step::Wait(None),
            Status::Failed => Step::Record(Input::ContainerLost),
            // An agent may have called before its container was started: then there is one to start.
            _ if row.container == Container::Superseded => Step::Record(Input::Stopped),
            _ if known_absent => after_backoff(Step::Ensure),
            _ => Step::Record(Input::ContainerLost),
        },
    }
}

/// A workspace that went away is started again: not below a paused ancestor, and after a back-off.
fn recover(row: &WorkspaceRow, context: &Context, now: DateTime<Utc>) -> Step {
    match row.retry_at {
        _ if context.ancestor_paused => Step::Wait(None),
        Some(at) if now < at => Step::Wait(Some(at)),
        _ => Step::Record(Input::Recover),
    }
}
