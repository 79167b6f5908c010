//! Every state of a workspace, every input, and the transitions between them.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use store::workspaces::{Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceRow};
use types::{Condition, ConditionStatus};

use crate::{
    machine::{
        Heartbeat, Input, Transition, apply,
        observations::{BACKEND_OBEYS, BACKEND_REACHABLE},
    },
    testing::row,
};

pub(super) const URL: &str = "https://agent.example";
pub(super) const PLATFORM_URL: &str = "http://127.0.0.1:30001";

pub(super) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

pub(super) fn ago(seconds: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(seconds)
}

pub(super) fn known_card() -> Value {
    json!({"name": "known"})
}

/// Statuses that a workspace with this hosting can have, with the desired state of each.
pub(super) fn statuses(hosting: Hosting) -> Vec<(Status, DesiredState)> {
    use Status as S;
    let running: &[Status] = match hosting {
        Hosting::Container => &[S::Provisioning, S::Online, S::Offline, S::Degraded, S::Failed],
        Hosting::Operator => &[S::Online, S::Degraded, S::AwaitingAgent],
        Hosting::Synthetic => &[S::Online, S::Degraded],
    };
    let mut all: Vec<_> = running.iter().map(|status| (*status, DesiredState::Running)).collect();
    all.extend([(S::Paused, DesiredState::Paused), (S::Removed, DesiredState::Removed)]);
    if hosting == Hosting::Container {
        all.extend([(S::Hibernating, DesiredState::Hibernated), (S::Hibernated, DesiredState::Hibernated)]);
    }
    all
}

/// Calls of an agent whose container may be superseded don't count, so such a workspace is never online.
pub(super) fn containers(hosting: Hosting, status: Status) -> &'static [Container] {
    match (hosting, status) {
        (Hosting::Operator | Hosting::Synthetic, _) => &[Container::None],
        (_, Status::Online | Status::Degraded | Status::Offline) => {
            &[Container::None, Container::Running, Container::Absent]
        }
        (_, Status::Removed) => &[Container::Superseded, Container::Absent],
        (_, Status::Hibernating) => &[Container::Running],
        (_, Status::Hibernated) => &[Container::None, Container::Absent],
        _ => Container::ALL,
    }
}

/// Whether a workspace can be in this state.
pub(super) fn is_possible(row: &WorkspaceRow) -> bool {
    statuses(row.hosting).contains(&(row.status, row.desired))
        && containers(row.hosting, row.status).contains(&row.container)
        && (row.removed_at.is_some() == row.is_removed())
}

/// Every state that a workspace can be in: young and past its deadline, never failed and backing off, with
/// and without a registered agent, the backend answering and not.
pub(super) fn states() -> Vec<WorkspaceRow> {
    let unreachable = Condition::new(BACKEND_REACHABLE, ConditionStatus::False, ago(9));
    let failing = Condition::new(BACKEND_OBEYS, ConditionStatus::False, ago(9));
    let mut all = Vec::new();
    for hosting in Hosting::ALL.iter().copied() {
        for (status, desired) in statuses(hosting) {
            for container in containers(hosting, status) {
                for url in [None, Some(URL), Some(PLATFORM_URL)] {
                    for (age, retry_in) in
                        [(1, None), (1, Some(5)), (1, Some(-5)), (4_000, None), (4_000, Some(5))]
                    {
                        for conditions in [vec![], vec![unreachable.clone()], vec![failing.clone()]] {
                            all.push(WorkspaceRow {
                                hosting,
                                status,
                                desired,
                                container: *container,
                                url: url.map(str::to_owned),
                                agent_card: url.map(|_| known_card()),
                                status_since: ago(age),
                                attempt: if hosting == Hosting::Container { 2 } else { 0 },
                                attempt_at: (hosting == Hosting::Container).then(|| ago(age)),
                                retry_at: retry_in.map(|seconds| ago(-seconds)),
                                failures: i32::from(retry_in.is_some()),
                                removed_at: (status == Status::Removed).then(|| ago(age)),
                                conditions,
                                generation: 3,
                                revision: 7,
                                ..row("one")
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

pub(super) fn heartbeat(error_rate: f64, runtime_state: &str, self_reports_health: bool) -> Input {
    let (runtime_state, sample_error) = (Some(runtime_state.to_owned()), "boom".to_owned());
    Input::Heartbeat(Heartbeat { error_rate, runtime_state, sample_error, self_reports_health })
}

/// Every input, with its name in the table below.
pub(super) fn inputs(row: &WorkspaceRow) -> Vec<(&'static str, Input)> {
    let mut all = vec![
        ("restart", Input::Restart),
        ("pause", Input::Pause),
        ("resume", Input::Resume),
        ("hibernate", Input::Hibernate),
        ("wake", Input::Wake),
        ("remove", Input::Remove { cascade: None }),
        ("remove", Input::Remove { cascade: Some(2) }),
        ("container lost", Input::ContainerLost),
        ("stopped", Input::Stopped),
        ("heartbeat", heartbeat(0.0, "", false)),
        ("heartbeat", heartbeat(0.3, "", false)),
        ("heartbeat", heartbeat(0.5, "", false)),
        ("heartbeat", heartbeat(0.9, "", true)),
        ("heartbeat", heartbeat(0.0, "wedged", false)),
        ("heartbeat", heartbeat(0.0, "wedged", true)),
        ("heartbeat timeout", Input::HeartbeatTimeout),
        ("deadline exceeded", Input::DeadlineExceeded { after_seconds: 600 }),
        ("recover", Input::Recover),
        ("unreachable", Input::Unreachable { reason: "no answer".to_owned() }),
        ("reachable", Input::Reachable),
        ("backend failed", Input::BackendFailed { refused: true, reason: "no".to_owned() }),
        ("backend failed", Input::BackendFailed { refused: false, reason: "no answer".to_owned() }),
    ];
    all.push(("planned", Input::Planned));
    for attempt in [row.attempt - 1, row.attempt, row.attempt + 1] {
        for is_transient in [false, true] {
            let (reason, message) = ("Disabled", "it is disabled".to_owned());
            all.push(("no plan", Input::NoPlan { attempt, is_transient, reason, message }));
        }
        for url in [None, Some(PLATFORM_URL.to_owned())] {
            all.push(("started", Input::Started { attempt, url }));
        }
        for missing in [Vec::new(), vec!["KEY".to_owned()]] {
            all.push(("start failed", Input::StartFailed { attempt, error: "no".to_owned(), missing }));
        }
    }
    for url in [None, Some(URL.to_owned()), Some("https://moved.example".to_owned())] {
        let (push, poll) = (DeliveryMode::Push, DeliveryMode::Poll);
        for (card, delivery_mode) in
            [(known_card(), push), (json!({"name": "new"}), push), (known_card(), poll)]
        {
            all.push(("registered", Input::Registered { url: url.clone(), card, delivery_mode }));
        }
    }
    all
}

/// Every transition from every state.
pub(super) fn transitions() -> impl Iterator<Item = (WorkspaceRow, &'static str, Input, Transition)> {
    states().into_iter().flat_map(|row| {
        inputs(&row)
            .into_iter()
            .filter_map(|(name, input)| {
                let transition = apply(&row, &input, now())?;
                Some((row.clone(), name, input, transition))
            })
            .collect::<Vec<_>>()
    })
}
