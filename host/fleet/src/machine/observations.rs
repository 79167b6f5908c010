//! Observations: what backends and agents report, and what time brings. They never change the desired state,
//! except that a hibernation which takes too long is given up.

use events::Event;
use serde_json::Value;
use store::workspaces::{Container, DeliveryMode, DesiredState, Hosting, Status};

use super::{Draft, Heartbeat, Input, WEDGED, has_platform_url, truncate};
use crate::{event, limits};

/// Share of failed calls from which on an agent is degraded.
const DEGRADED_FROM: f64 = 0.5;

/// Share of failed calls below which a degraded agent is online again.
const HEALTHY_BELOW: f64 = 0.1;

/// Type of the condition that says whether the backend answers.
pub(super) const BACKEND_REACHABLE: &str = "BackendReachable";

/// Type of the condition that says whether the backend did what it was last asked.
pub(super) const BACKEND_OBEYS: &str = "BackendObeys";

impl Draft {
    /// Removed is final: only its container can still be observed to be gone.
    pub(super) fn after_removal(&mut self, input: &Input) -> bool {
        match input {
            Input::Stopped => self.stopped(),
            Input::BackendFailed { refused, reason } => self.backend_failed(*refused, reason),
            Input::Unreachable { reason } => self.reachable(Some(reason)),
            Input::Reachable => self.reachable(None),
            _ => false,
        }
    }

    pub(super) fn started(&mut self, attempt: i32, url: Option<&str>) -> bool {
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

    pub(super) fn start_failed(&mut self, attempt: i32, error: &str, missing: &[String]) -> bool {
        if attempt != self.row.attempt || self.row.status != Status::Provisioning {
            return false;
        }
        self.fail(error, event::start_failed(error, missing));
        true
    }

    pub(super) fn fail(&mut self, error: &str, event: Event) {
        self.row.last_sample_error = Some(truncate(error).to_owned());
        self.row.failures = self.row.failures.saturating_add(1);
        self.set_status(Status::Failed, event);
    }

    pub(super) fn container_lost(&mut self) -> bool {
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

    pub(super) fn back_off(&mut self) {
        self.row.retry_at = Some(self.now + limits::backoff(self.row.failures));
    }

    pub(super) fn stopped(&mut self) -> bool {
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
    pub(super) fn backend_failed(&mut self, refused: bool, reason: &str) -> bool {
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

    pub(super) fn registered(
        &mut self,
        url: Option<&str>,
        card: &Value,
        delivery_mode: DeliveryMode,
    ) -> bool {
        if self.is_hosted_by(Hosting::Synthetic) {
            return false;
        }
        let same_card = self.row.agent_card.as_ref() == Some(card);
        if !self.accepts_agent() {
            self.row.agent_card = Some(card.clone());
            return !same_card;
        }
        let url = if has_platform_url(&self.row) { self.row.url.clone() } else { url.map(str::to_owned) };
        self.row.url = url;
        self.row.agent_card = Some(card.clone());
        if self.is_hosted_by(Hosting::Operator) {
            self.row.delivery_mode = delivery_mode;
        }
        self.clear_failures();
        let event = event::registered(&self.row);
        self.set_status(Status::Online, event);
        true
    }

    pub(super) fn heartbeat(&mut self, heartbeat: &Heartbeat) -> bool {
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

    pub(super) fn heartbeat_timeout(&mut self) -> bool {
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

    pub(super) fn deadline_exceeded(&mut self, after_seconds: u64) -> bool {
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

    pub(super) fn recover(&mut self) -> bool {
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
    pub(super) fn reachable(&mut self, reason: Option<&str>) -> bool {
        if self.condition_status(BACKEND_REACHABLE).unwrap_or(true) == reason.is_none() {
            return false;
        }
        match reason {
            Some(reason) => self.set_condition(BACKEND_REACHABLE, false, "NoAnswer", reason),
            None => self.set_condition(BACKEND_REACHABLE, true, "Answers", "the backend answers again"),
        }
        true
    }
}
