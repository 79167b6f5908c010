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

use std::collections::BTreeSet;

use chrono::TimeDelta;
use store::workspaces::DeliveryMode;

use super::*;
use crate::testing::row;

mod states;
mod steps;

use states::{PLATFORM_URL, URL, ago, is_possible, known_card, now, transitions};

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
    // Heartbeats.
    ("c", "provisioning offline failed degraded", "heartbeat", "online", "WORKSPACE_ONLINE"),
    ("o", "awaiting_agent degraded", "heartbeat", "online", "WORKSPACE_ONLINE"),
    ("s", "degraded", "heartbeat", "online", "WORKSPACE_ONLINE"),
    ("cos", "online", "heartbeat", "degraded", "WORKSPACE_DEGRADED"),
    // "provisioning": provision error, timeout.
    ("c", "provisioning", "start failed", "failed", "WORKSPACE_PROVISION_FAILED"),
    ("c", "provisioning", "no plan", "failed", "WORKSPACE_PROVISION_FAILED"),
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
fn each_registration_has_one_event_and_keeps_a_url_of_the_platform() {
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
    assert_eq!(apply(&one, &register(URL), now()).unwrap().events.len(), 1);
    let published = WorkspaceRow { url: Some(PLATFORM_URL.to_owned()), ..one.clone() };
    let again = apply(&published, &register(URL), now()).unwrap();
    assert_eq!((again.row.url.as_deref(), again.events.len()), (Some(PLATFORM_URL), 1));
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

#[test]
fn errors_are_cut_between_characters() {
    let long = "é".repeat(limits::ERROR_BYTES);
    assert_eq!(truncate(&long).len(), limits::ERROR_BYTES);
    assert_eq!(truncate(&format!("a{long}")).len(), limits::ERROR_BYTES - 1);
    assert_eq!(truncate("short"), "short");
}
