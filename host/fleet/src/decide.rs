//! What to do next about a workspace, from its row and what was just seen. Pure. One step at a time:
//! whoever takes it looks again afterwards.

use std::time::Duration;

use chrono::{DateTime, Utc};
use store::workspaces::{Container, DesiredState, Hosting, Status, WorkspaceRow};

use crate::{backend::Seen, limits, machine::Input};

/// What a reconciler does next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Nothing, until poked or until this time.
    Rest(Option<DateTime<Utc>>),
    /// See to it that the container runs.
    Ensure,
    /// See to it that it doesn't.
    Stop,
    /// See to it that it is gone for good.
    Remove,
    /// Write down what was seen.
    Note(Input),
}

/// What else decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// When its agent was last heard of.
    pub last_seen: Option<DateTime<Utc>>,
    /// Since when this server listens for those who are silent: nobody was heard before, and what is stored
    /// of who called lags behind. None, where another server does.
    pub listening_since: Option<DateTime<Utc>>,
    /// Is somebody above it paused?
    pub ancestor_paused: bool,
    /// How long its start may take.
    pub provision_timeout: Duration,
    /// Silence after which an agent that somebody else runs counts as away.
    pub operator_silence: Duration,
}

/// What people read when there is nothing that could run a container.
pub(crate) const NO_BACKEND: &str = "no provisioning backend available — workspace requires either a Docker daemon \
    (self-hosted) or control-plane provisioner (SaaS)";

/// The next step. `seen` is what the backend says of its container; none where there is no backend, or
/// nothing to be asked.
#[must_use]
pub(crate) fn next_step(row: &WorkspaceRow, seen: Option<&Seen>, facts: &Facts, now: DateTime<Utc>) -> Step {
    match row.hosting {
        Hosting::Synthetic => Step::Rest(None),
        Hosting::Operator => listening(row, facts.operator_silence, facts, now),
        Hosting::Container => overdue(row, facts, now).unwrap_or_else(|| match seen {
            None => without_backend(row, facts, now),
            Some(seen) => noticed(row, seen).unwrap_or_else(|| container(row, seen, facts, now)),
        }),
    }
}

/// When the present state is over at the latest, and what it would have lasted.
#[must_use]
pub(crate) fn deadline(row: &WorkspaceRow, facts: &Facts) -> Option<(DateTime<Utc>, Duration)> {
    let (since, length) = match row.status {
        Status::Provisioning => (row.attempt_at.unwrap_or(row.status_since), facts.provision_timeout),
        Status::Hibernating => (row.status_since, limits::HIBERNATE_TIMEOUT),
        _ => return None,
    };
    Some((since + length, length))
}

fn overdue(row: &WorkspaceRow, facts: &Facts, now: DateTime<Utc>) -> Option<Step> {
    let (at, length) = deadline(row, facts)?;
    (now >= at).then_some(Step::Note(Input::Overdue { after_seconds: length.as_secs() }))
}

/// From when on the silence of an agent counts: it has the whole time since it called, since its status
/// changed, and since somebody listens.
#[must_use]
pub(crate) fn heard_at(row: &WorkspaceRow, facts: &Facts) -> DateTime<Utc> {
    let later = facts.last_seen.max(facts.listening_since);
    later.map_or(row.status_since, |later| later.max(row.status_since))
}

/// An agent that works is heard of now and then.
fn listening(row: &WorkspaceRow, silence: Duration, facts: &Facts, now: DateTime<Utc>) -> Step {
    if !matches!(row.status, Status::Online | Status::Degraded) {
        return Step::Rest(None);
    }
    let silent_at = heard_at(row, facts) + silence;
    if now >= silent_at { Step::Note(Input::Silent) } else { Step::Rest(Some(silent_at)) }
}

fn without_backend(row: &WorkspaceRow, facts: &Facts, now: DateTime<Utc>) -> Step {
    match (row.status, row.container) {
        (Status::Provisioning, _) => Step::Note(Input::StartFailed {
            attempt: row.attempt,
            error: NO_BACKEND.to_owned(),
            missing: Vec::new(),
        }),
        // Somebody runs its agent by hand.
        _ => listening(row, limits::CONTAINER_SILENCE, facts, now),
    }
}

/// Does the backend answer? That is written down when it changes, and changes nothing else.
fn noticed(row: &WorkspaceRow, seen: &Seen) -> Option<Step> {
    let input = match seen {
        Seen::Unknown(reason) => Input::Unreachable { reason: reason.clone() },
        Seen::Running { .. } | Seen::Gone => Input::Reachable,
    };
    crate::machine::apply(row, &input, row.updated_at).map(|_| Step::Note(input))
}

fn container(row: &WorkspaceRow, seen: &Seen, facts: &Facts, now: DateTime<Utc>) -> Step {
    let until = |other: Option<DateTime<Utc>>| {
        let last = deadline(row, facts).map(|(at, _)| at);
        Step::Rest(last.into_iter().chain(other).min())
    };
    if let Seen::Unknown(_) = seen {
        return until(Some(now + limits::LOOK_AGAIN));
    }
    let known_gone = matches!(row.container, Container::None | Container::Absent);
    let not_before = row.retry_at.filter(|at| now < *at);
    let asked = |step: Step| not_before.map_or(step, |at| until(Some(at)));
    match (row.wanted, seen) {
        (DesiredState::Removed, Seen::Running { .. }) => asked(Step::Remove),
        (DesiredState::Paused | DesiredState::Hibernated, Seen::Running { .. }) => asked(Step::Stop),
        (DesiredState::Removed | DesiredState::Paused | DesiredState::Hibernated, _) => {
            if known_gone && row.status != Status::Hibernating {
                Step::Rest(None)
            } else {
                Step::Note(Input::Stopped)
            }
        }
        (DesiredState::Running, Seen::Running { attempt, url }) => {
            if row.container == Container::Superseded || *attempt != row.attempt {
                return asked(Step::Stop);
            }
            match row.status {
                Status::Offline => recover(row, facts, now),
                _ if row.container != Container::Running => {
                    Step::Note(Input::Started { attempt: *attempt, url: url.clone() })
                }
                Status::Online | Status::Degraded => listening(row, limits::CONTAINER_SILENCE, facts, now),
                _ => until(None),
            }
        }
        (DesiredState::Running, _) => match row.status {
            Status::Offline => recover(row, facts, now),
            Status::Failed => {
                if known_gone {
                    Step::Rest(None)
                } else {
                    Step::Note(Input::Vanished)
                }
            }
            // Its agent may have called before its container was started: then there is one to start.
            _ if row.container == Container::Superseded => Step::Note(Input::Stopped),
            _ if known_gone => asked(Step::Ensure),
            _ => Step::Note(Input::Vanished),
        },
    }
}

/// Starts again what went away: not below somebody who is paused, and not too often.
fn recover(row: &WorkspaceRow, facts: &Facts, now: DateTime<Utc>) -> Step {
    match row.retry_at {
        _ if facts.ancestor_paused => Step::Rest(None),
        Some(at) if now < at => Step::Rest(Some(at)),
        _ => Step::Note(Input::Recover),
    }
}
