//! The state machine of a workspace: from a row and an input to the next row and the events that say
//! so. Pure, so that every state can be tried with every input.
//!
//! Two kinds of input meet here. *Requests* (restart, pause, remove) change the desired state and raise
//! the generation. *Observations* (a container started, an agent called, a time passed) never do, and
//! are ignored when they belong to an attempt that is over. The one exception is a hibernation that is
//! given up: that changes the desired state, and each desired state has its own generation.
//!
//! Clients learn of each step between statuses by exactly one event; `hibernating` is entered without
//! one, because the event of `hibernated` follows.

use chrono::{DateTime, Utc};
use events::Event;
use store::workspaces::{Container, DesiredState, Hosting, Status, WorkspaceRow};
use types::{Condition, ConditionStatus};

use crate::{event, limits};

mod input;
mod observations;
mod plans;
mod requests;
#[cfg(test)]
mod tests;

pub(crate) use input::{Heartbeat, Input};
pub(crate) use plans::missing_plan;

/// What comes of an input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transition {
    /// The row as it is from now on; its revision is one more.
    pub row: WorkspaceRow,
    /// Published in this order.
    pub events: Vec<Event>,
}

/// The state of a runtime that is stuck.
pub(crate) const WEDGED: &str = "wedged";

/// How URLs begin that the platform itself gave an agent; no registration replaces them.
const PLATFORM_URL_PREFIX: &str = "http://127.0.0.1:";

/// What the input makes of the row; none where the input has no meaning there.
#[must_use]
pub(crate) fn apply(row: &WorkspaceRow, input: &Input, now: DateTime<Utc>) -> Option<Transition> {
    let mut next = Draft { row: row.clone(), events: Vec::new(), now };
    let changed = match input {
        _ if row.is_removed() => next.after_removal(input),
        Input::Restart => next.restart(),
        Input::Pause => next.pause(),
        Input::Resume => next.resume(),
        Input::Hibernate => next.hibernate(),
        Input::Wake => next.wake(),
        Input::Remove { cascade } => next.remove(*cascade),
        Input::Started { attempt, url } => next.started(*attempt, url.as_deref()),
        Input::StartFailed { attempt, error, missing } => next.start_failed(*attempt, error, missing),
        Input::NoPlan { attempt, is_transient, reason, message } => {
            next.no_plan(*attempt, *is_transient, reason, message)
        }
        Input::Planned => next.planned(),
        Input::ContainerLost => next.container_lost(),
        Input::Stopped => next.stopped(),
        Input::Registered { url, card, delivery_mode } => {
            next.registered(url.as_deref(), card, *delivery_mode)
        }
        Input::Heartbeat(heartbeat) => next.heartbeat(heartbeat),
        Input::HeartbeatTimeout => next.heartbeat_timeout(),
        Input::DeadlineExceeded { after_seconds } => next.deadline_exceeded(*after_seconds),
        Input::Recover => next.recover(),
        Input::Unreachable { reason } => next.reachable(Some(reason)),
        Input::Reachable => next.reachable(None),
        Input::BackendFailed { refused, reason } => next.backend_failed(*refused, reason),
    };
    changed.then(|| next.finish())
}

/// The first transition of a workspace that is being made: `row` is as it will be inserted, provisioning. With
/// `paused` its first attempt begins when it is resumed.
#[must_use]
pub(crate) fn create(row: WorkspaceRow, paused: bool, now: DateTime<Utc>) -> Transition {
    let mut next = Draft { row, events: Vec::new(), now };
    match next.row.hosting {
        _ if paused => {
            let event = event::provisioning(&next.row);
            next.set_status(Status::Provisioning, event);
            next.row.desired = DesiredState::Paused;
            let event = event::paused(&next.row);
            next.set_status(Status::Paused, event);
        }
        Hosting::Container => next.begin_attempt(),
        Hosting::Operator | Hosting::Synthetic => {
            let event = event::provisioning(&next.row);
            next.set_status(Status::Provisioning, event);
            next.start_without_container();
        }
    }
    next.finish()
}

/// Whether the platform itself gave the URL at which the agent is reached.
#[must_use]
pub(crate) fn has_platform_url(row: &WorkspaceRow) -> bool {
    row.hosting == Hosting::Container
        && row.url.as_deref().is_some_and(|url| url.starts_with(PLATFORM_URL_PREFIX))
}

/// Whether the desired state is reached, as far as it can be.
#[must_use]
pub(crate) fn is_converged(row: &WorkspaceRow) -> bool {
    if row.hosting != Hosting::Container {
        return true;
    }
    let absent = matches!(row.container, Container::None | Container::Absent);
    match row.desired {
        DesiredState::Removed | DesiredState::Paused => absent,
        DesiredState::Hibernated => row.status == Status::Hibernated,
        DesiredState::Running => matches!(row.status, Status::Online | Status::Degraded | Status::Failed),
    }
}

/// A transition in the making.
struct Draft {
    row: WorkspaceRow,
    events: Vec<Event>,
    now: DateTime<Utc>,
}

impl Draft {
    fn finish(mut self) -> Transition {
        if is_converged(&self.row) {
            self.row.observed_generation = self.row.generation;
        }
        Transition { row: self.row.revised(self.now), events: self.events }
    }

    fn set_status(&mut self, status: Status, event: Event) {
        self.row.status = status;
        self.row.status_since = self.now;
        self.events.push(event);
    }

    /// A new desired state is tried at once, whatever failed before.
    fn set_desired(&mut self, desired: DesiredState) {
        self.row.desired = desired;
        self.row.generation += 1;
        self.clear_failures();
    }

    fn is_hosted_by(&self, hosting: Hosting) -> bool {
        self.row.hosting == hosting
    }

    fn may_have_container(&self) -> bool {
        !matches!(self.row.container, Container::None | Container::Absent)
    }

    /// Begins a new attempt. A container of the attempt before is superseded: it is stopped before another
    /// is started, and calls of its agent no longer count.
    fn begin_attempt(&mut self) {
        self.row.attempt += 1;
        self.row.attempt_at = Some(self.now);
        self.row.retry_at = None;
        if self.may_have_container() {
            self.row.container = Container::Superseded;
        }
        self.forget_plan();
        let event = event::provisioning(&self.row);
        self.set_status(Status::Provisioning, event);
    }

    /// A workspace without a container is online at once, or as soon as its agent calls.
    fn start_without_container(&mut self) {
        if self.is_hosted_by(Hosting::Operator) && self.row.url.is_none() {
            let event = event::awaiting_agent(&self.row);
            self.set_status(Status::AwaitingAgent, event);
        } else {
            let event = event::online_at_once(&self.row);
            self.set_status(Status::Online, event);
        }
    }

    fn hibernated(&mut self) {
        self.row.url = None;
        let event = event::hibernated(&self.row);
        self.set_status(Status::Hibernated, event);
    }

    fn set_container(&mut self, container: Container) -> bool {
        let changed = self.row.container != container;
        self.row.container = container;
        changed
    }

    fn is_up(&self) -> bool {
        matches!(self.row.status, Status::Online | Status::Degraded)
    }

    fn clear_failures(&mut self) {
        self.row.failures = 0;
        self.row.retry_at = None;
        self.row.last_sample_error = None;
    }

    /// Whether a condition holds; none where it was never set.
    fn condition_status(&self, condition: &str) -> Option<bool> {
        let known = self.row.conditions.iter().find(|known| known.kind == condition)?;
        Some(known.status == ConditionStatus::True)
    }

    /// Sets a condition. Its time is that of its last change, not of its last observation.
    fn set_condition(&mut self, condition: &str, holds: bool, reason: &str, message: &str) {
        let all = &mut self.row.conditions;
        let before = all.iter().position(|known| known.kind == condition).map(|at| all.remove(at));
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        let since = before.filter(|before| before.status == status).map(|before| before.since);
        all.push(Condition {
            reason: reason.to_owned(),
            message: truncate(message).to_owned(),
            ..Condition::new(condition, status, since.unwrap_or(self.now))
        });
    }
}

/// As much of an error as is stored.
fn truncate(error: &str) -> &str {
    let mut end = error.len().min(limits::ERROR_BYTES);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.get(..end).unwrap_or_default()
}
