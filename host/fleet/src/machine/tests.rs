//! Every state of a workspace with every input, and with everything that a backend can observe. What must
//! always hold:
//!
//! - Removed is final: no status follows it.
//! - An unknown observation changes no status.
//! - Nothing late changes a status: no start or failure of an earlier attempt, and no call of an agent while
//!   the container of an earlier attempt may be the one that calls.
//! - Each transition between statuses has exactly one event; `hibernating` has none, and the heartbeat
//!   timeout of an operator's agent is two transitions (offline, awaiting_agent). What changes no status has
//!   no event, except a restart and a registration.
//! - The statuses and edges are those of the contract (workspaces.md §8), no fewer and no more.
//! - A row's revision grows by exactly one. Its generation grows by exactly one with a request that changes
//!   or repeats the desired state, and with nothing else, except when a hibernation is given up.
//! - At most one container: one is started only where certainly none runs.
//! - An input is recorded only where it means something, so the reconciler never writes without end.
//! - No transient state outlasts its deadline; and from every state, with a backend that succeeds, the
//!   desired state is reached, as far as it can be, after a bounded number of steps.

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use provision::Observation;
use serde_json::json;

use super::*;
use crate::{
    decide::{self, Context, Step, next_step},
    testing::row,
};

const URL: &str = "https://agent.example";
const PLATFORM_URL: &str = "http://127.0.0.1:30001";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn ago(seconds: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(seconds)
}

fn known_card() -> Value {
    json!({"name": "known"})
}

/// Statuses that a workspace with this hosting can have, with the desired state of each.
fn statuses(hosting: Hosting) -> Vec<(Status, DesiredState)> {
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
fn containers(hosting: Hosting, status: Status) -> &'static [Container] {
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
fn is_possible(row: &WorkspaceRow) -> bool {
    statuses(row.hosting).contains(&(row.status, row.desired))
        && containers(row.hosting, row.status).contains(&row.container)
        && (row.removed_at.is_some() == row.is_removed())
}

/// Every state that a workspace can be in: young and past its deadline, never failed and backing off, with
/// and without a registered agent, the backend answering and not.
fn states() -> Vec<WorkspaceRow> {
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

fn heartbeat(error_rate: f64, runtime_state: &str, self_reports_health: bool) -> Input {
    let (runtime_state, sample_error) = (Some(runtime_state.to_owned()), "boom".to_owned());
    Input::Heartbeat(Heartbeat { error_rate, runtime_state, sample_error, self_reports_health })
}

/// Every input, with its name in the table below.
fn inputs(row: &WorkspaceRow) -> Vec<(&'static str, Input)> {
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
    for attempt in [row.attempt - 1, row.attempt, row.attempt + 1] {
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
fn transitions() -> impl Iterator<Item = (WorkspaceRow, &'static str, Input, Transition)> {
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

/// Hosting (c: container, o: operator, s: synthetic), statuses before, input, status after, events.
const EDGES: &[(&str, &str, &str, &str, &str)] = &[
    // "any": restart.
    (
        "c",
        "provisioning online offline degraded failed paused hibernating hibernated",
        "restart",
        "provisioning",
        "WORKSPACE_PROVISIONING",
    ),
    // "any but removed, paused": pause.
    (
        "c",
        "provisioning online offline degraded failed hibernating hibernated",
        "pause",
        "paused",
        "WORKSPACE_PAUSED",
    ),
    ("o", "online degraded awaiting_agent", "pause", "paused", "WORKSPACE_PAUSED"),
    ("s", "online degraded", "pause", "paused", "WORKSPACE_PAUSED"),
    // "paused": resume. Without a container, online at once or when the agent calls.
    ("c", "paused", "resume", "provisioning", "WORKSPACE_PROVISIONING"),
    ("os", "paused", "resume", "online", "WORKSPACE_ONLINE"),
    ("o", "paused", "resume", "awaiting_agent", "WORKSPACE_AWAITING_AGENT"),
    // "online, degraded": hibernate, without an event until the container is gone.
    ("c", "online degraded", "hibernate", "hibernating", ""),
    ("c", "online degraded", "hibernate", "hibernated", "WORKSPACE_HIBERNATED"),
    ("c", "hibernating", "stopped", "hibernated", "WORKSPACE_HIBERNATED"),
    ("c", "hibernating", "deadline exceeded", "online", "WORKSPACE_ONLINE"),
    // "hibernated": wake.
    ("c", "hibernated", "wake", "provisioning", "WORKSPACE_PROVISIONING"),
    // "any": remove.
    (
        "c",
        "provisioning online offline degraded failed paused hibernating hibernated",
        "remove",
        "removed",
        "WORKSPACE_REMOVED",
    ),
    ("o", "online degraded awaiting_agent paused", "remove", "removed", "WORKSPACE_REMOVED"),
    ("s", "online degraded paused", "remove", "removed", "WORKSPACE_REMOVED"),
    // "any but removed" and not dormant: register, published again when something visible changed.
    ("c", "provisioning online offline degraded failed", "registered", "online", "WORKSPACE_ONLINE"),
    ("o", "online degraded awaiting_agent", "registered", "online", "WORKSPACE_ONLINE"),
    ("s", "online degraded", "registered", "online", "WORKSPACE_ONLINE"),
    // Heartbeats.
    ("c", "provisioning offline failed degraded", "heartbeat", "online", "WORKSPACE_ONLINE"),
    ("o", "awaiting_agent degraded", "heartbeat", "online", "WORKSPACE_ONLINE"),
    ("s", "degraded", "heartbeat", "online", "WORKSPACE_ONLINE"),
    ("cos", "online", "heartbeat", "degraded", "WORKSPACE_DEGRADED"),
    // "provisioning": provision error, timeout.
    ("c", "provisioning", "start failed", "failed", "WORKSPACE_PROVISION_FAILED"),
    ("c", "provisioning", "deadline exceeded", "failed", "WORKSPACE_PROVISION_FAILED"),
    // "online, degraded": certainly not running, presence expired; then auto-restart.
    ("c", "online degraded", "container lost", "offline", "WORKSPACE_OFFLINE"),
    ("c", "online degraded", "heartbeat timeout", "offline", "WORKSPACE_OFFLINE"),
    ("c", "offline", "recover", "provisioning", "WORKSPACE_PROVISIONING"),
    (
        "o",
        "online degraded",
        "heartbeat timeout",
        "awaiting_agent",
        "WORKSPACE_OFFLINE WORKSPACE_AWAITING_AGENT",
    ),
];

fn event_names(transition: &Transition) -> String {
    transition.events.iter().map(Event::name).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_edges_are_those_of_the_contract() {
    let letter = |hosting: Hosting| match hosting {
        Hosting::Container => 'c',
        Hosting::Operator => 'o',
        Hosting::Synthetic => 's',
    };
    let mut expected = BTreeSet::new();
    for (hostings, froms, input, to, events) in EDGES {
        for hosting in hostings.chars() {
            for from in froms.split(' ') {
                let edge = format!("{hosting}: {from} -({input})-> {to} [{events}]");
                assert!(expected.insert(edge.clone()), "twice in the table: {edge}");
            }
        }
    }
    let found: BTreeSet<String> = transitions()
        .filter(|(row, _, _, next)| next.row.status != row.status || !next.events.is_empty())
        .map(|(row, input, _, next)| {
            let (hosting, from, to) = (letter(row.hosting), row.status, next.row.status);
            format!("{hosting}: {from} -({input})-> {to} [{}]", event_names(&next))
        })
        .collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    let extra: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
}

#[test]
fn statuses_are_those_of_the_contract() {
    let words: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
    let contract =
        "provisioning online offline degraded failed removed paused hibernating hibernated awaiting_agent";
    assert_eq!(words.join(" "), contract);
}

#[test]
fn possible_states_follow_possible_states() {
    for (row, _, input, next) in transitions() {
        assert!(is_possible(&next.row), "{row:?}\n{input:?}\n{next:?}");
    }
}

#[test]
fn new_workspaces_are_in_a_possible_state() {
    for (hosting, url, status, events) in [
        (Hosting::Container, None, Status::Provisioning, "WORKSPACE_PROVISIONING"),
        (Hosting::Operator, None, Status::AwaitingAgent, "WORKSPACE_PROVISIONING WORKSPACE_AWAITING_AGENT"),
        (Hosting::Operator, Some(URL), Status::Online, "WORKSPACE_PROVISIONING WORKSPACE_ONLINE"),
        (Hosting::Synthetic, None, Status::Online, "WORKSPACE_PROVISIONING WORKSPACE_ONLINE"),
    ] {
        let made = create(WorkspaceRow { hosting, url: url.map(str::to_owned), ..row("new") }, false, now());
        assert!(is_possible(&made.row), "{made:?}");
        assert_eq!((made.row.status, event_names(&made).as_str()), (status, events));
        assert_eq!(made.row.attempt, i32::from(hosting == Hosting::Container));
        assert_eq!(is_converged(&made.row), hosting != Hosting::Container);

        // Below a paused ancestor, the first attempt begins with the resumption.
        let made = create(WorkspaceRow { hosting, url: url.map(str::to_owned), ..row("new") }, true, now());
        assert!(is_possible(&made.row), "{made:?}");
        assert_eq!(event_names(&made), "WORKSPACE_PROVISIONING WORKSPACE_PAUSED");
        assert_eq!((made.row.attempt, made.row.status), (0, Status::Paused));
        assert!(is_converged(&made.row));
        let resumed = apply(&made.row, &Input::Resume, now()).unwrap().row;
        assert_eq!((resumed.attempt, resumed.status), (i32::from(hosting == Hosting::Container), status));
    }
}

#[test]
fn removed_is_final() {
    for (row, name, input, next) in transitions().filter(|(row, ..)| row.is_removed()) {
        assert_eq!(next.row.status, Status::Removed, "{input:?}");
        assert_eq!(next.row.desired, DesiredState::Removed);
        assert_eq!((next.row.removed_at, next.row.generation), (row.removed_at, row.generation));
        assert!(next.events.is_empty());
        assert!(["stopped", "unreachable", "reachable", "backend failed"].contains(&name), "{name}");
    }
}

#[test]
fn unknown_observations_change_no_status() {
    for (row, name, _, next) in transitions() {
        if ["unreachable", "reachable", "backend failed"].contains(&name) {
            let conditions = next.row.conditions.clone();
            let (failures, retry_at) = (next.row.failures, next.row.retry_at);
            let same = WorkspaceRow { conditions, failures, retry_at, ..row.clone().revised(now()) };
            assert_eq!(WorkspaceRow { observed_generation: next.row.observed_generation, ..same }, next.row);
            assert!(next.events.is_empty());
        }
    }
}

#[test]
fn a_condition_is_written_when_it_changes_and_others_stay() {
    let unreachable = Input::Unreachable { reason: "no answer".to_owned() };
    let refused = Input::BackendFailed { refused: true, reason: "no".to_owned() };
    let one = WorkspaceRow { container: Container::Running, attempt: 1, ..row("one") };
    let cut_off = apply(&one, &unreachable, ago(9)).unwrap().row;
    assert_eq!(apply(&cut_off, &unreachable, now()), None);
    let both = apply(&cut_off, &refused, now()).unwrap().row;
    assert_eq!(both.conditions.len(), 2);
    assert_eq!(both.conditions[0], cut_off.conditions[0]);
    assert_eq!(both.conditions[1].reason, "Refused");
    let again = apply(&both, &refused, now() + TimeDelta::seconds(9)).unwrap().row;
    assert_eq!(again.conditions[1].since, both.conditions[1].since);
    assert!(again.retry_at > both.retry_at);
    let started = apply(&again, &Input::Started { attempt: 1, url: None }, now()).unwrap().row;
    assert_eq!(started.conditions[1].status, ConditionStatus::True);
    let back = apply(&started, &Input::Reachable, now()).unwrap().row;
    assert!(back.conditions.iter().all(|condition| condition.status == ConditionStatus::True));
}

#[test]
fn each_transition_between_statuses_has_one_event() {
    for (row, name, input, next) in transitions() {
        let moved = next.row.status != row.status;
        let expected = match (name, row.hosting) {
            ("heartbeat timeout", Hosting::Operator) => 2,
            _ if next.row.status == Status::Hibernating => 0,
            ("restart" | "registered", _) => usize::from(moved || !next.events.is_empty()),
            _ => usize::from(moved),
        };
        assert_eq!(next.events.len(), expected, "{row:?}\n{input:?}\n{next:?}");
        assert_eq!(next.row.status_since == now(), moved || !next.events.is_empty(), "{input:?}");
    }
}

#[test]
fn a_registration_without_news_has_no_event() {
    let one = WorkspaceRow {
        status: Status::Online,
        url: Some(URL.to_owned()),
        agent_card: Some(known_card()),
        ..row("one")
    };
    let register = |url: &str| Input::Registered {
        url: Some(url.to_owned()),
        card: known_card(),
        delivery_mode: DeliveryMode::Push,
    };
    assert_eq!(apply(&one, &register(URL), now()), None);
    let published = WorkspaceRow { url: Some(PLATFORM_URL.to_owned()), ..one.clone() };
    assert_eq!(apply(&published, &register(URL), now()), None);
    assert_eq!(apply(&one, &register("https://moved.example"), now()).unwrap().events.len(), 1);
}

#[test]
fn late_inputs_change_no_status() {
    for (row, _, input, next) in transitions() {
        let late = match &input {
            Input::Started { attempt, .. } | Input::StartFailed { attempt, .. } => *attempt != row.attempt,
            _ => false,
        };
        assert!(!late, "a late input had a meaning: {row:?}\n{input:?}");
        let dormant = row.container == Container::Superseded || row.desired != DesiredState::Running;
        if dormant && matches!(input, Input::Registered { .. } | Input::Heartbeat(_)) {
            assert_eq!(next.row.status, row.status, "{row:?}\n{input:?}");
            assert_eq!((&next.row.url, &next.row.delivery_mode), (&row.url, &row.delivery_mode));
            assert!(next.events.is_empty());
        }
        if matches!(input, Input::Started { .. }) {
            assert_eq!(next.row.status, row.status);
        }
        if matches!(input, Input::StartFailed { .. }) {
            assert_eq!(row.status, Status::Provisioning);
        }
    }
}

#[test]
fn only_requests_change_the_desired_state() {
    for (row, name, input, next) in transitions() {
        let request = ["restart", "pause", "resume", "hibernate", "wake", "remove"].contains(&name);
        let given_up = row.status == Status::Hibernating && name == "deadline exceeded";
        let grown = next.row.generation - row.generation;
        assert_eq!(grown, i64::from(request || given_up), "{row:?}\n{input:?}");
        assert!(grown == 1 || next.row.desired == row.desired);
        assert_eq!(next.row.revision, row.revision + 1);
        assert_eq!(next.row.updated_at, now());
        let begun = next.row.attempt - row.attempt;
        assert_eq!(
            begun,
            i32::from(
                row.hosting == Hosting::Container
                    && next.row.status == Status::Provisioning
                    && (request || name == "recover")
            ),
            "{row:?}\n{input:?}"
        );
        if next.row.observed_generation != row.observed_generation {
            assert!(is_converged(&next.row));
            assert_eq!(next.row.observed_generation, next.row.generation);
        }
        if request {
            assert_eq!((next.row.failures, next.row.retry_at), (0, None), "{input:?}");
        }
    }
}

#[test]
fn a_containers_url_is_cleared_with_it() {
    for (row, name, _, next) in transitions() {
        if next.row.status == row.status && name != "restart" {
            continue;
        }
        let gone = row.hosting == Hosting::Container
            && matches!(next.row.status, Status::Provisioning | Status::Paused | Status::Hibernated)
            && !matches!(name, "resume" | "wake");
        if gone {
            assert_eq!(next.row.url, None, "{name}");
        } else if !matches!(name, "registered") {
            assert_eq!(next.row.url, row.url, "{name}");
        }
    }
}

// === What to do next ===

fn context(last_seen: Option<i64>, ancestor_paused: bool) -> Context {
    Context {
        last_seen: last_seen.map(ago),
        leading_since: None,
        ancestor_paused,
        provision_timeout: Duration::from_secs(600),
        operator_heartbeat_timeout: Duration::from_secs(90),
    }
}

fn observations(row: &WorkspaceRow) -> Vec<Option<Observation>> {
    let running = |attempt| Some(Observation::Running { attempt, url: Some(PLATFORM_URL.to_owned()) });
    let mut all = vec![None];
    if row.hosting == Hosting::Container {
        all.extend([running(row.attempt), running(row.attempt - 1), running(row.attempt + 1)]);
        all.extend([Some(Observation::Absent), Some(Observation::Unknown("no answer".to_owned()))]);
    }
    all
}

/// Every state with every observation, and the next step.
fn steps() -> impl Iterator<Item = (WorkspaceRow, Option<Observation>, Context, Step)> {
    states().into_iter().flat_map(|row| {
        let mut all = Vec::new();
        for observed in observations(&row) {
            for context in [
                context(None, false),
                context(Some(1), false),
                context(Some(5_000), false),
                context(None, true),
            ] {
                let step = next_step(&row, observed.as_ref(), &context, now());
                all.push((row.clone(), observed.clone(), context, step));
            }
        }
        all
    })
}

#[test]
fn containers_are_started_only_where_none_runs_and_stopped_only_where_none_should() {
    for (row, observed, _, step) in steps() {
        let runs = match observed {
            Some(Observation::Running { attempt, .. }) => Some(attempt),
            _ => None,
        };
        match step {
            Step::Ensure => {
                assert_eq!(
                    (row.desired, observed),
                    (DesiredState::Running, Some(Observation::Absent)),
                    "{row:?}"
                );
                assert_ne!(row.container, Container::Superseded);
                assert_ne!(row.status, Status::Failed);
            }
            Step::Stop => {
                let wrong = row.container == Container::Superseded || runs != Some(row.attempt);
                assert!(runs.is_some() && (row.desired != DesiredState::Running || wrong), "{row:?}");
            }
            Step::Remove => {
                assert!(observed == Some(Observation::Absent) && row.desired == DesiredState::Removed);
            }
            Step::Wait(_) | Step::Record(_) => continue,
        }
        // The backend is not asked again before its back-off is over.
        assert!(row.retry_at.is_none_or(|at| at <= now()), "{row:?}");
    }
}

#[test]
fn recorded_inputs_mean_something() {
    for (row, observed, _, step) in steps() {
        if let Step::Record(input) = step {
            assert!(apply(&row, &input, now()).is_some(), "{row:?}\n{observed:?}\n{input:?}");
        }
    }
}

#[test]
fn after_an_unknown_observation_only_deadlines_act() {
    for (row, observed, _, step) in steps() {
        if !matches!(observed, Some(Observation::Unknown(_))) {
            continue;
        }
        match step {
            Step::Wait(until) => assert!(until.is_some_and(|at| at > now()), "{row:?}"),
            Step::Record(Input::Unreachable { .. } | Input::DeadlineExceeded { .. }) => {}
            other => panic!("{other:?} for {row:?}"),
        }
    }
}

#[test]
fn transient_states_end_at_their_deadline() {
    for (row, observed, context, step) in steps() {
        let Step::Wait(until) = step else { continue };
        if let Some((at, _)) = decide::deadline(&row, &context) {
            assert!(at > now(), "{row:?}");
            let backend = row.hosting == Hosting::Container && observed.is_some();
            assert!(!backend || until.is_some_and(|until| until <= at), "{row:?}\n{observed:?}");
        }
        let offline = row.status == Status::Offline && !context.ancestor_paused;
        if offline && matches!(observed, Some(Observation::Running { .. } | Observation::Absent)) {
            // The container waits to be started again, or one of an earlier attempt to be stopped.
            assert_eq!(until, row.retry_at, "{row:?}\n{observed:?}");
            assert!(until.is_some_and(|until| until > now()));
        }
    }
}

/// The backend succeeds; `running` is the attempt that it runs.
#[test]
fn every_state_converges() {
    for start in states() {
        for at_first in [None, Some(start.attempt - 1), Some(start.attempt)] {
            for calls in [false, true] {
                let runs_something = start.hosting == Hosting::Container;
                let converged = converge(start.clone(), at_first.filter(|_| runs_something), calls);
                let (row, runs) = converged.unwrap_or_else(|row| panic!("no end from {start:?}\nat {row:?}"));
                assert!(is_converged(&row), "{start:?}\n{row:?}");
                match row.desired {
                    DesiredState::Running if row.hosting == Hosting::Container => {
                        let works = matches!(row.status, Status::Online | Status::Degraded);
                        assert!(works || row.status == Status::Failed, "{row:?}");
                        assert!(!works || runs == Some(row.attempt), "{row:?}");
                    }
                    _ => assert_eq!(runs, None, "{row:?}"),
                }
            }
        }
    }
}

/// Takes steps until only a request could change anything. The agent calls as soon as it may, or never.
fn converge(
    mut row: WorkspaceRow,
    mut runs: Option<i32>,
    calls: bool,
) -> Result<(WorkspaceRow, Option<i32>), Box<WorkspaceRow>> {
    let mut now = now();
    let record = |row: &WorkspaceRow, input: &Input, now| apply(row, input, now).map(|next| next.row);
    for _ in 0..40 {
        let observed = (row.hosting == Hosting::Container)
            .then(|| runs.map_or(Observation::Absent, |attempt| Observation::Running { attempt, url: None }));
        let context = Context { last_seen: calls.then_some(now), ..context(None, false) };
        let works = row.desired == DesiredState::Running;
        match next_step(&row, observed.as_ref(), &context, now) {
            Step::Wait(None) => return Ok((row, runs)),
            Step::Wait(Some(_))
                if calls
                    && is_converged(&row)
                    && (observed.is_none() || works && runs == Some(row.attempt)) =>
            {
                return Ok((row, runs));
            }
            Step::Wait(Some(_))
                if calls && row.container == Container::Running && row.status == Status::Provisioning =>
            {
                row = record(&row, &heartbeat(0.0, "", false), now).expect("a first call means something");
            }
            Step::Wait(Some(until)) => now = until,
            Step::Ensure => {
                assert_eq!(runs, None, "a second container");
                runs = Some(row.attempt);
                row = record(&row, &Input::Started { attempt: row.attempt, url: None }, now).unwrap();
            }
            Step::Stop => runs = None,
            Step::Remove => {
                assert_eq!(runs, None, "removed while it runs");
                row = record(&row, &Input::Stopped, now).unwrap();
            }
            Step::Record(input) => row = record(&row, &input, now).unwrap(),
        }
    }
    Err(Box::new(row))
}

#[test]
fn without_a_backend_a_start_fails_with_the_contracts_text() {
    let one =
        WorkspaceRow { hosting: Hosting::Container, attempt: 1, attempt_at: Some(ago(1)), ..row("one") };
    let Step::Record(input) = next_step(&one, None, &context(None, false), now()) else { panic!("no step") };
    let failed = apply(&one, &input, now()).unwrap();
    assert_eq!(failed.row.status, Status::Failed);
    assert_eq!(failed.row.last_sample_error.as_deref(), Some(decide::NO_BACKEND));
    assert_eq!(next_step(&failed.row, None, &context(None, false), now()), Step::Wait(None));
}

#[test]
fn errors_are_cut_between_characters() {
    let long = "é".repeat(limits::ERROR_BYTES);
    assert_eq!(truncate(&long).len(), limits::ERROR_BYTES);
    assert_eq!(truncate(&format!("a{long}")).len(), limits::ERROR_BYTES - 1);
    assert_eq!(truncate("short"), "short");
}
