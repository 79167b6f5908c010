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
use serde_json::Value;
use store::workspaces::{Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceRow};
use types::{Condition, ConditionStatus};

use crate::{event, limits};

#[cfg(test)]
mod tests;

/// Something that happened to a workspace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    // === Requests ===
    /// Begin a new attempt, whatever runs.
    Restart,
    /// Stop until resumed.
    Pause,
    /// Run again after a pause.
    Resume,
    /// Stop until there is work.
    Hibernate,
    /// Run again, because there is work.
    Wake,
    /// Stop for good.
    Remove {
        /// Number of descendants that are removed with it; none for those descendants themselves.
        cascade: Option<usize>,
    },

    // === Observations ===
    /// The backend runs the container of this attempt.
    Started {
        attempt: i32,
        /// URL at which the platform reaches the agent.
        url: Option<String>,
    },
    /// This attempt can't succeed.
    StartFailed {
        attempt: i32,
        /// In words for people.
        error: String,
        /// Names of missing variables, if that is why.
        missing: Vec<String>,
    },
    /// The container certainly doesn't run, though it should.
    ContainerLost,
    /// The container certainly doesn't run, as it should be.
    Stopped,
    /// An agent registered.
    Registered {
        /// URL that the agent named.
        url: Option<String>,
        /// Agent card.
        card: Value,
        delivery_mode: DeliveryMode,
    },
    /// An agent reported its health.
    Heartbeat(Heartbeat),
    /// The agent hasn't called for too long.
    HeartbeatTimeout,
    /// The present state has lasted as long as it may.
    DeadlineExceeded {
        /// How long that was.
        after_seconds: u64,
    },
    /// The back-off of a lost container is over.
    Recover,
    /// The backend could not be asked.
    Unreachable {
        /// In words for people, without addresses or paths.
        reason: String,
    },
    /// The backend answers again.
    Reachable,
    /// The backend did not do what it was asked. It is asked again, later each time.
    BackendFailed {
        /// It said no; else it didn't answer.
        refused: bool,
        /// In words for people, without addresses or paths.
        reason: String,
    },
}

/// What of a heartbeat decides about the status.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heartbeat {
    /// Share of failed calls, 0 to 1.
    pub error_rate: f64,
    /// [`WEDGED`], or empty; none where it isn't known.
    pub runtime_state: Option<String>,
    /// An example of what fails.
    pub sample_error: String,
    /// The runtime judges its own health: no inference from the error rate.
    pub self_reports_health: bool,
}

/// What comes of an input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transition {
    /// The row as it is from now on; its revision is one more.
    pub row: WorkspaceRow,
    /// Published in this order.
    pub events: Vec<Event>,
}

/// Share of failed calls from which on an agent is degraded.
const DEGRADED_FROM: f64 = 0.5;

/// Share of failed calls below which a degraded agent is online again.
const HEALTHY_BELOW: f64 = 0.1;

/// The state of a runtime that is stuck.
pub(crate) const WEDGED: &str = "wedged";

/// How URLs begin that the platform itself gave an agent; no registration replaces them.
const PLATFORM_URL_PREFIX: &str = "http://127.0.0.1:";

/// Type of the condition that says whether the backend answers.
const BACKEND_REACHABLE: &str = "BackendReachable";

/// Type of the condition that says whether the backend did what it was last asked.
const BACKEND_OBEYS: &str = "BackendObeys";

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

    // === Requests ===

    fn restart(&mut self) -> bool {
        if !self.is_hosted_by(Hosting::Container) {
            return false;
        }
        self.set_desired(DesiredState::Running);
        self.row.url = None;
        self.begin_attempt();
        true
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
        let event = event::provisioning(&self.row);
        self.set_status(Status::Provisioning, event);
    }

    fn pause(&mut self) -> bool {
        if self.row.status == Status::Paused {
            return false;
        }
        self.set_desired(DesiredState::Paused);
        self.clear_container_url();
        let event = event::paused(&self.row);
        self.set_status(Status::Paused, event);
        true
    }

    /// The URL of a container goes with it; that of an agent that its operator runs stays.
    fn clear_container_url(&mut self) {
        if self.is_hosted_by(Hosting::Container) {
            self.row.url = None;
        }
    }

    fn resume(&mut self) -> bool {
        if self.row.status != Status::Paused {
            return false;
        }
        self.set_desired(DesiredState::Running);
        if self.is_hosted_by(Hosting::Container) {
            self.begin_attempt();
        } else {
            self.start_without_container();
        }
        true
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

    fn hibernate(&mut self) -> bool {
        if !self.is_hosted_by(Hosting::Container) || !self.is_up() {
            return false;
        }
        self.set_desired(DesiredState::Hibernated);
        self.row.status = Status::Hibernating;
        self.row.status_since = self.now;
        if !self.may_have_container() {
            self.hibernated();
        }
        true
    }

    fn hibernated(&mut self) {
        self.row.url = None;
        let event = event::hibernated(&self.row);
        self.set_status(Status::Hibernated, event);
    }

    fn wake(&mut self) -> bool {
        if self.row.status != Status::Hibernated {
            return false;
        }
        self.set_desired(DesiredState::Running);
        self.begin_attempt();
        true
    }

    /// A start may be under way of which the row doesn't know yet, and a removed row that claims to have
    /// no container is not reconciled: until the backend is seen to have none, there may be one.
    fn remove(&mut self, cascade: Option<usize>) -> bool {
        self.set_desired(DesiredState::Removed);
        self.row.removed_at = Some(self.now);
        if self.is_hosted_by(Hosting::Container) && self.row.attempt > 0 {
            self.row.container = Container::Superseded;
        }
        self.set_status(Status::Removed, event::removed(cascade));
        true
    }

    // === Observations ===

    /// Removed is final: only its container can still be observed to be gone.
    fn after_removal(&mut self, input: &Input) -> bool {
        match input {
            Input::Stopped => self.stopped(),
            Input::BackendFailed { refused, reason } => self.backend_failed(*refused, reason),
            Input::Unreachable { reason } => self.reachable(Some(reason)),
            Input::Reachable => self.reachable(None),
            _ => false,
        }
    }

    fn set_container(&mut self, container: Container) -> bool {
        let changed = self.row.container != container;
        self.row.container = container;
        changed
    }

    fn is_up(&self) -> bool {
        matches!(self.row.status, Status::Online | Status::Degraded)
    }

    fn started(&mut self, attempt: i32, url: Option<&str>) -> bool {
        if attempt != self.row.attempt
            || self.row.desired != DesiredState::Running
            || !self.is_hosted_by(Hosting::Container)
        {
            return false;
        }
        if let Some(url) = url {
            self.row.url = Some(url.to_owned());
        }
        self.row.container = Container::Running;
        self.backend_succeeded();
        true
    }

    fn start_failed(&mut self, attempt: i32, error: &str, missing: &[String]) -> bool {
        if attempt != self.row.attempt || self.row.status != Status::Provisioning {
            return false;
        }
        self.fail(error, event::start_failed(error, missing));
        true
    }

    fn fail(&mut self, error: &str, event: Event) {
        self.row.last_sample_error = Some(truncate(error).to_owned());
        self.row.failures = self.row.failures.saturating_add(1);
        self.set_status(Status::Failed, event);
    }

    fn container_lost(&mut self) -> bool {
        if self.row.desired != DesiredState::Running || !self.is_hosted_by(Hosting::Container) {
            return false;
        }
        match self.row.status {
            Status::Online | Status::Degraded => {
                self.row.container = Container::Absent;
                self.row.failures = self.row.failures.saturating_add(1);
                self.back_off();
                self.set_status(Status::Offline, event::offline());
                true
            }
            // The container died before its agent called: it is started again, as long as there is time.
            Status::Provisioning if self.row.container == Container::Running => {
                self.row.container = Container::Absent;
                self.row.failures = self.row.failures.saturating_add(1);
                self.back_off();
                true
            }
            _ => self.may_have_container() && self.set_container(Container::Absent),
        }
    }

    fn back_off(&mut self) {
        self.row.retry_at = Some(self.now + limits::backoff(self.row.failures));
    }

    fn stopped(&mut self) -> bool {
        if self.row.desired == DesiredState::Running && self.row.container != Container::Superseded {
            return false;
        }
        if self.row.status == Status::Hibernating {
            self.row.container = Container::Absent;
            self.backend_succeeded();
            self.hibernated();
            return true;
        }
        let was_there = self.may_have_container() && self.set_container(Container::Absent);
        if was_there {
            self.row.retry_at = None;
            self.backend_succeeded();
        }
        was_there
    }

    /// The back-off grows with each failure; a condition says why.
    fn backend_failed(&mut self, refused: bool, reason: &str) -> bool {
        if !self.is_hosted_by(Hosting::Container) {
            return false;
        }
        self.row.failures = self.row.failures.saturating_add(1);
        self.back_off();
        self.set_condition(BACKEND_OBEYS, false, if refused { "Refused" } else { "NoAnswer" }, reason);
        true
    }

    fn backend_succeeded(&mut self) {
        if self.condition_status(BACKEND_OBEYS) == Some(false) {
            self.set_condition(BACKEND_OBEYS, true, "Done", "the backend did what it was asked");
        }
    }

    /// Whether calls of an agent may change the status: not where the desired state is another one than
    /// running, and not while the agent of an earlier attempt may be the one that calls.
    fn accepts_agent(&self) -> bool {
        self.row.desired == DesiredState::Running && self.row.container != Container::Superseded
    }

    fn registered(&mut self, url: Option<&str>, card: &Value, delivery_mode: DeliveryMode) -> bool {
        let same_card = self.row.agent_card.as_ref() == Some(card);
        if !self.accepts_agent() {
            self.row.agent_card = Some(card.clone());
            return !same_card;
        }
        let url = if has_platform_url(&self.row) { self.row.url.clone() } else { url.map(str::to_owned) };
        let same = same_card
            && self.row.status == Status::Online
            && self.row.url == url
            && self.row.delivery_mode == delivery_mode;
        if same {
            return false;
        }
        self.row.url = url;
        self.row.agent_card = Some(card.clone());
        self.row.delivery_mode = delivery_mode;
        self.clear_failures();
        let event = event::registered(&self.row);
        self.set_status(Status::Online, event);
        true
    }

    fn clear_failures(&mut self) {
        self.row.failures = 0;
        self.row.retry_at = None;
        self.row.last_sample_error = None;
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) -> bool {
        if !self.accepts_agent() {
            return false;
        }
        let wedged = heartbeat.runtime_state.as_deref() == Some(WEDGED);
        let failing = heartbeat.error_rate >= DEGRADED_FROM && !heartbeat.self_reports_health;
        let sound = heartbeat.runtime_state.as_deref() == Some("");
        let well = heartbeat.error_rate < HEALTHY_BELOW && sound && !heartbeat.self_reports_health;
        match self.row.status {
            Status::Online if wedged || failing => {
                let sample_error = heartbeat.sample_error.clone();
                let degraded = event::degraded(heartbeat.error_rate, sample_error, wedged);
                self.set_status(Status::Degraded, degraded);
            }
            Status::Degraded if well => {
                self.clear_failures();
                self.set_status(Status::Online, event::reconnected(None));
            }
            Status::Offline => {
                self.clear_failures();
                self.set_status(Status::Online, event::reconnected(None));
            }
            from @ (Status::Provisioning | Status::AwaitingAgent | Status::Failed) => {
                self.clear_failures();
                self.set_status(Status::Online, event::reconnected(Some(from)));
            }
            _ => return false,
        }
        true
    }

    fn heartbeat_timeout(&mut self) -> bool {
        if !self.is_up() {
            return false;
        }
        match self.row.hosting {
            Hosting::Synthetic => return false,
            Hosting::Operator => {
                self.set_status(Status::Offline, event::offline());
                let event = event::awaiting_agent(&self.row);
                self.set_status(Status::AwaitingAgent, event);
            }
            Hosting::Container => {
                self.row.failures = self.row.failures.saturating_add(1);
                self.back_off();
                self.set_status(Status::Offline, event::offline());
            }
        }
        true
    }

    fn deadline_exceeded(&mut self, after_seconds: u64) -> bool {
        match self.row.status {
            Status::Provisioning => {
                let event = event::start_overdue(&self.row, after_seconds);
                self.fail(event::START_OVERDUE, event);
            }
            // Rather online than stuck. If its container is gone after all, that will be observed.
            Status::Hibernating => {
                self.set_desired(DesiredState::Running);
                self.set_status(Status::Online, event::reconnected(None));
            }
            _ => return false,
        }
        true
    }

    fn recover(&mut self) -> bool {
        let due = self.row.status == Status::Offline
            && self.row.desired == DesiredState::Running
            && self.is_hosted_by(Hosting::Container);
        if due {
            self.row.url = None;
            self.begin_attempt();
        }
        due
    }

    /// An unknown observation changes no status. A condition says so, once.
    fn reachable(&mut self, reason: Option<&str>) -> bool {
        if self.condition_status(BACKEND_REACHABLE).unwrap_or(true) == reason.is_none() {
            return false;
        }
        match reason {
            Some(reason) => self.set_condition(BACKEND_REACHABLE, false, "NoAnswer", reason),
            None => self.set_condition(BACKEND_REACHABLE, true, "Answers", "the backend answers again"),
        }
        true
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
