//! The state machine of a workspace: from a row and something that happened to the next row and the
//! events that tell of it. Pure, so that every state can be tried with everything that can happen.
//!
//! Two kinds of input meet here. People *want* things (restart, pause, remove): that raises the
//! generation. The world *shows* things (a container started, an agent called, a time passed): that
//! never does, and is ignored when it belongs to an attempt that is over. The one exception is a
//! hibernation that is given up: what is wanted changes then, and each want has its own generation.
//!
//! Clients hear of each step between statuses by exactly one event; `hibernating` is a claim, not a
//! status that anybody waits for, and is entered silently.

use chrono::{DateTime, Utc};
use events::Event;
use serde_json::{Value, json};
use store::workspaces::{Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceRow};

use crate::{limits, tell};

#[cfg(test)]
mod tests;

/// Something that happened to a workspace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    // === What people want ===
    /// A new attempt, whatever there is.
    Restart,
    /// That it stands still until resumed.
    Pause,
    /// That it goes on after a pause.
    Resume,
    /// That it stands still until there is work.
    Hibernate,
    /// That it goes on, because there is work.
    Wake,
    /// That it is gone. `cascade` is how many went with it, where it is the root of a removal.
    Remove {
        /// Number of descendants removed.
        cascade: Option<usize>,
    },

    // === What was seen ===
    /// The backend runs the container of this attempt.
    Started {
        /// The attempt.
        attempt: i32,
        /// Where the platform reaches it.
        url: Option<String>,
    },
    /// This attempt can't succeed.
    StartFailed {
        /// The attempt.
        attempt: i32,
        /// Why, in words for people.
        error: String,
        /// Names of variables that are missing, if that is why.
        missing: Vec<String>,
    },
    /// The container is certainly not running, though it should.
    Vanished,
    /// The container is certainly not running, as it should be.
    Stopped,
    /// An agent introduced itself.
    Registered {
        /// Where it says it is reached.
        url: Option<String>,
        /// Its card.
        card: Value,
        /// `push` or `poll`.
        delivery_mode: DeliveryMode,
    },
    /// An agent said how it is.
    Beat(Beat),
    /// Its agent hasn't been heard of for too long.
    Silent,
    /// The time that the present state may last is over.
    Overdue {
        /// How long that was, seconds.
        after_seconds: u64,
    },
    /// It is time to start again what went away.
    Recover,
    /// The backend could not be asked, for this reason.
    Unreachable {
        /// In words for people, without addresses or paths.
        reason: String,
    },
    /// The backend answers again.
    Reachable,
    /// The backend did not do what it was asked. It is asked again, later each time.
    NotDone {
        /// It said no; else it didn't answer.
        refused: bool,
        /// In words for people, without addresses or paths.
        reason: String,
    },
}

/// What of a heartbeat decides about the status.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beat {
    /// Share of failed calls.
    pub error_rate: f64,
    /// [`WEDGED`], or empty; none where nobody knows.
    pub runtime_state: Option<String>,
    /// An example of what fails.
    pub sample_error: String,
    /// Does the runtime judge its own health?
    pub judges_itself: bool,
}

/// What comes of an input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transition {
    /// The row as it is from now on; its revision is one more.
    pub row: WorkspaceRow,
    /// What clients are told, in this order.
    pub events: Vec<Event>,
}

/// From this share of failed calls on, an agent is degraded …
const DEGRADED_FROM: f64 = 0.5;

/// … and below this one it is well again.
const WELL_BELOW: f64 = 0.1;

/// The state of a runtime that is stuck.
pub(crate) const WEDGED: &str = "wedged";

/// URLs that the platform gave itself begin like this; an agent's own word doesn't replace them.
const OURS: &str = "http://127.0.0.1:";

/// Type of the condition that says whether the backend answers.
const BACKEND_REACHABLE: &str = "BackendReachable";

/// Type of the condition that says whether the backend did what it was last asked.
const BACKEND_OBEYS: &str = "BackendObeys";

/// What the input makes of the row; none where it means nothing there.
#[must_use]
pub(crate) fn apply(row: &WorkspaceRow, input: &Input, now: DateTime<Utc>) -> Option<Transition> {
    let mut next = Next { row: row.clone(), events: Vec::new(), now };
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
        Input::Vanished => next.vanished(),
        Input::Stopped => next.stopped(),
        Input::Registered { url, card, delivery_mode } => {
            next.registered(url.as_deref(), card, *delivery_mode)
        }
        Input::Beat(beat) => next.beat(beat),
        Input::Silent => next.silent(),
        Input::Overdue { after_seconds } => next.overdue(*after_seconds),
        Input::Recover => next.recover(),
        Input::Unreachable { reason } => next.reachable(Some(reason)),
        Input::Reachable => next.reachable(None),
        Input::NotDone { refused, reason } => next.not_done(*refused, reason),
    };
    changed.then(|| next.finish())
}

/// The first transition of a workspace that is being made: `row` is as it will be inserted, provisioning.
#[must_use]
pub(crate) fn create(row: WorkspaceRow, now: DateTime<Utc>) -> Transition {
    let mut next = Next { row, events: Vec::new(), now };
    match next.row.hosting {
        Hosting::Container => next.begin_attempt(),
        Hosting::Operator | Hosting::Synthetic => {
            let event = tell::provisioning(&next.row);
            next.becomes(Status::Provisioning, event);
            next.ready_at_once();
        }
    }
    next.finish()
}

/// Did the platform itself give the address at which its agent is reached?
#[must_use]
pub(crate) fn has_our_url(row: &WorkspaceRow) -> bool {
    row.hosting == Hosting::Container && row.url.as_deref().is_some_and(|url| url.starts_with(OURS))
}

/// Is what people want the case, as far as it can be?
#[must_use]
pub(crate) fn agrees(row: &WorkspaceRow) -> bool {
    if row.hosting != Hosting::Container {
        return true;
    }
    let still = matches!(row.container, Container::None | Container::Absent);
    match row.wanted {
        DesiredState::Removed | DesiredState::Paused => still,
        DesiredState::Hibernated => row.status == Status::Hibernated,
        DesiredState::Running => matches!(row.status, Status::Online | Status::Degraded | Status::Failed),
    }
}

struct Next {
    row: WorkspaceRow,
    events: Vec<Event>,
    now: DateTime<Utc>,
}

impl Next {
    fn finish(mut self) -> Transition {
        if agrees(&self.row) {
            self.row.observed_generation = self.row.generation;
        }
        Transition { row: self.row.revised(self.now), events: self.events }
    }

    fn becomes(&mut self, status: Status, event: Event) {
        self.row.status = status;
        self.row.status_since = self.now;
        self.events.push(event);
    }

    /// What is newly wanted is tried at once, whatever failed before.
    fn wants(&mut self, wanted: DesiredState) {
        self.row.wanted = wanted;
        self.row.generation += 1;
        self.recovered();
    }

    fn is(&self, hosting: Hosting) -> bool {
        self.row.hosting == hosting
    }

    fn may_have_container(&self) -> bool {
        !matches!(self.row.container, Container::None | Container::Absent)
    }

    // === What people want ===

    fn restart(&mut self) -> bool {
        if !self.is(Hosting::Container) {
            return false;
        }
        self.wants(DesiredState::Running);
        self.row.url = None;
        self.begin_attempt();
        true
    }

    /// A new attempt. What the attempt before left running is stale: it is stopped before anything is
    /// started, and what its agent says no longer counts.
    fn begin_attempt(&mut self) {
        self.row.attempt += 1;
        self.row.attempt_at = Some(self.now);
        self.row.retry_at = None;
        if self.may_have_container() {
            self.row.container = Container::Superseded;
        }
        let event = tell::provisioning(&self.row);
        self.becomes(Status::Provisioning, event);
    }

    fn pause(&mut self) -> bool {
        if self.row.status == Status::Paused {
            return false;
        }
        self.wants(DesiredState::Paused);
        self.forget_own_url();
        let event = tell::paused(&self.row);
        self.becomes(Status::Paused, event);
        true
    }

    /// The address of a container goes with it; that of an agent that somebody else runs doesn't.
    fn forget_own_url(&mut self) {
        if self.is(Hosting::Container) {
            self.row.url = None;
        }
    }

    fn resume(&mut self) -> bool {
        if self.row.status != Status::Paused {
            return false;
        }
        self.wants(DesiredState::Running);
        if self.is(Hosting::Container) {
            self.begin_attempt();
        } else {
            self.ready_at_once();
        }
        true
    }

    /// What needs no container is there at once, or as soon as its agent calls.
    fn ready_at_once(&mut self) {
        if self.is(Hosting::Operator) && self.row.url.is_none() {
            let event = tell::awaiting_agent(&self.row);
            self.becomes(Status::AwaitingAgent, event);
        } else {
            let event = tell::online_at_once(&self.row);
            self.becomes(Status::Online, event);
        }
    }

    fn hibernate(&mut self) -> bool {
        if !self.is(Hosting::Container) || !self.works() {
            return false;
        }
        self.wants(DesiredState::Hibernated);
        self.row.status = Status::Hibernating;
        self.row.status_since = self.now;
        if !self.may_have_container() {
            self.hibernated();
        }
        true
    }

    fn hibernated(&mut self) {
        self.row.url = None;
        let event = tell::hibernated(&self.row);
        self.becomes(Status::Hibernated, event);
    }

    fn wake(&mut self) -> bool {
        if self.row.status != Status::Hibernated {
            return false;
        }
        self.wants(DesiredState::Running);
        self.begin_attempt();
        true
    }

    /// A start may be under way of which the row doesn't know yet, and nobody looks at a removed row
    /// that claims to have no container: until the backend is seen to have none, there may be one.
    fn remove(&mut self, cascade: Option<usize>) -> bool {
        self.wants(DesiredState::Removed);
        self.row.removed_at = Some(self.now);
        if self.is(Hosting::Container) && self.row.attempt > 0 {
            self.row.container = Container::Superseded;
        }
        self.becomes(Status::Removed, tell::removed(cascade));
        true
    }

    // === What was seen ===

    /// Removed is final: all that can still happen is that the container is seen to be gone.
    fn after_removal(&mut self, input: &Input) -> bool {
        match input {
            Input::Stopped => self.stopped(),
            Input::NotDone { refused, reason } => self.not_done(*refused, reason),
            Input::Unreachable { reason } => self.reachable(Some(reason)),
            Input::Reachable => self.reachable(None),
            _ => false,
        }
    }

    fn container_is(&mut self, container: Container) -> bool {
        let changed = self.row.container != container;
        self.row.container = container;
        changed
    }

    fn works(&self) -> bool {
        matches!(self.row.status, Status::Online | Status::Degraded)
    }

    fn started(&mut self, attempt: i32, url: Option<&str>) -> bool {
        if attempt != self.row.attempt
            || self.row.wanted != DesiredState::Running
            || !self.is(Hosting::Container)
        {
            return false;
        }
        if let Some(url) = url {
            self.row.url = Some(url.to_owned());
        }
        self.row.container = Container::Running;
        self.obeyed();
        true
    }

    fn start_failed(&mut self, attempt: i32, error: &str, missing: &[String]) -> bool {
        if attempt != self.row.attempt || self.row.status != Status::Provisioning {
            return false;
        }
        self.fail(error, tell::start_failed(error, missing));
        true
    }

    fn fail(&mut self, error: &str, event: Event) {
        self.row.last_sample_error = Some(cut(error).to_owned());
        self.row.failures = self.row.failures.saturating_add(1);
        self.becomes(Status::Failed, event);
    }

    fn vanished(&mut self) -> bool {
        if self.row.wanted != DesiredState::Running || !self.is(Hosting::Container) {
            return false;
        }
        match self.row.status {
            Status::Online | Status::Degraded => {
                self.row.container = Container::Absent;
                self.row.failures = self.row.failures.saturating_add(1);
                self.back_off();
                self.becomes(Status::Offline, tell::offline());
                true
            }
            // It died before its agent called. Another try, as long as there is time for one.
            Status::Provisioning if self.row.container == Container::Running => {
                self.row.container = Container::Absent;
                self.row.failures = self.row.failures.saturating_add(1);
                self.back_off();
                true
            }
            _ => self.may_have_container() && self.container_is(Container::Absent),
        }
    }

    fn back_off(&mut self) {
        self.row.retry_at = Some(self.now + limits::backoff(self.row.failures));
    }

    fn stopped(&mut self) -> bool {
        if self.row.wanted == DesiredState::Running && self.row.container != Container::Superseded {
            return false;
        }
        if self.row.status == Status::Hibernating {
            self.row.container = Container::Absent;
            self.obeyed();
            self.hibernated();
            return true;
        }
        let was_there = self.may_have_container() && self.container_is(Container::Absent);
        if was_there {
            self.row.retry_at = None;
            self.obeyed();
        }
        was_there
    }

    /// Waits longer each time, and says so.
    fn not_done(&mut self, refused: bool, reason: &str) -> bool {
        if !self.is(Hosting::Container) {
            return false;
        }
        self.row.failures = self.row.failures.saturating_add(1);
        self.back_off();
        self.condition(BACKEND_OBEYS, false, if refused { "Refused" } else { "NoAnswer" }, reason);
        true
    }

    fn obeyed(&mut self) {
        if self.is_so(BACKEND_OBEYS) == Some(false) {
            self.condition(BACKEND_OBEYS, true, "Done", "the backend did what it was asked");
        }
    }

    /// May what an agent says change the status? Not where people want stillness, and not while the
    /// agent of an earlier attempt may be the one that speaks.
    fn listens(&self) -> bool {
        self.row.wanted == DesiredState::Running && self.row.container != Container::Superseded
    }

    fn registered(&mut self, url: Option<&str>, card: &Value, delivery_mode: DeliveryMode) -> bool {
        let same_card = self.row.agent_card.as_ref() == Some(card);
        if !self.listens() {
            self.row.agent_card = Some(card.clone());
            return !same_card;
        }
        let url = if has_our_url(&self.row) { self.row.url.clone() } else { url.map(str::to_owned) };
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
        self.recovered();
        let event = tell::registered(&self.row);
        self.becomes(Status::Online, event);
        true
    }

    fn recovered(&mut self) {
        self.row.failures = 0;
        self.row.retry_at = None;
        self.row.last_sample_error = None;
    }

    fn beat(&mut self, beat: &Beat) -> bool {
        if !self.listens() {
            return false;
        }
        let wedged = beat.runtime_state.as_deref() == Some(WEDGED);
        let failing = beat.error_rate >= DEGRADED_FROM && !beat.judges_itself;
        let sound = beat.runtime_state.as_deref() == Some("");
        let well = beat.error_rate < WELL_BELOW && sound && !beat.judges_itself;
        match self.row.status {
            Status::Online if wedged || failing => {
                self.becomes(Status::Degraded, tell::degraded(beat, wedged));
            }
            Status::Degraded if well => {
                self.recovered();
                self.becomes(Status::Online, tell::online_again(None));
            }
            Status::Offline => {
                self.recovered();
                self.becomes(Status::Online, tell::online_again(None));
            }
            from @ (Status::Provisioning | Status::AwaitingAgent | Status::Failed) => {
                self.recovered();
                self.becomes(Status::Online, tell::online_again(Some(from)));
            }
            _ => return false,
        }
        true
    }

    fn silent(&mut self) -> bool {
        if !self.works() {
            return false;
        }
        match self.row.hosting {
            Hosting::Synthetic => return false,
            Hosting::Operator => {
                self.becomes(Status::Offline, tell::offline());
                let event = tell::awaiting_agent(&self.row);
                self.becomes(Status::AwaitingAgent, event);
            }
            Hosting::Container => {
                self.row.failures = self.row.failures.saturating_add(1);
                self.back_off();
                self.becomes(Status::Offline, tell::offline());
            }
        }
        true
    }

    fn overdue(&mut self, after_seconds: u64) -> bool {
        match self.row.status {
            Status::Provisioning => {
                let event = tell::start_overdue(&self.row, after_seconds);
                self.fail(tell::START_OVERDUE, event);
            }
            // Better awake than stuck. If its container is gone after all, that will be seen.
            Status::Hibernating => {
                self.wants(DesiredState::Running);
                self.becomes(Status::Online, tell::online_again(None));
            }
            _ => return false,
        }
        true
    }

    fn recover(&mut self) -> bool {
        let due = self.row.status == Status::Offline
            && self.row.wanted == DesiredState::Running
            && self.is(Hosting::Container);
        if due {
            self.row.url = None;
            self.begin_attempt();
        }
        due
    }

    /// Not knowing changes no status. It is written down, once.
    fn reachable(&mut self, reason: Option<&str>) -> bool {
        if self.is_so(BACKEND_REACHABLE).unwrap_or(true) == reason.is_none() {
            return false;
        }
        match reason {
            Some(reason) => self.condition(BACKEND_REACHABLE, false, "NoAnswer", reason),
            None => self.condition(BACKEND_REACHABLE, true, "Answers", "the backend answers again"),
        }
        true
    }

    /// What a condition says; none, where nothing was ever written down.
    fn is_so(&self, condition: &str) -> Option<bool> {
        let known = self.row.conditions.as_array()?.iter().find(|known| known["type"] == condition)?;
        Some(known["status"] == "True")
    }

    /// Writes a condition down. It holds since it changed, not since it was last seen.
    fn condition(&mut self, condition: &str, is_so: bool, reason: &str, message: &str) {
        let mut all = self.row.conditions.as_array().cloned().unwrap_or_default();
        let before = all.iter().position(|known| known["type"] == condition).map(|at| all.remove(at));
        let status = if is_so { "True" } else { "False" };
        let since = before
            .filter(|before| before["status"] == status)
            .and_then(|before| before.get("since").cloned());
        all.push(json!({
            "type": condition,
            "status": status,
            "reason": reason,
            "message": cut(message),
            "since": since.unwrap_or_else(|| json!(self.now)),
        }));
        self.row.conditions = Value::Array(all);
    }
}

/// As much of an error as is stored.
fn cut(error: &str) -> &str {
    let mut end = error.len().min(limits::ERROR_BYTES);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.get(..end).unwrap_or_default()
}
