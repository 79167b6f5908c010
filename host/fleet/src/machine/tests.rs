//! Every state of a workspace with everything that can happen to it, and with everything that a
//! backend can show. What must always hold, whatever comes after whatever:
//!
//! - Removed is final: no status follows it.
//! - Not knowing changes no status.
//! - Nothing late changes a status: no start or failure of an earlier attempt, and no word of an agent
//!   while the container of an earlier attempt may be the one that speaks.
//! - Each transition between statuses is told by exactly one event; `hibernating` is entered silently,
//!   and an operator's silence is two hops (offline, awaiting_agent). What changes no status tells
//!   nothing, except that a restart and a register are always told.
//! - The statuses and edges are those of the contract (workspaces.md §8), no fewer and no more.
//! - A row's revision grows by exactly one. Its generation grows by exactly one where what is wanted
//!   changes or is wanted anew, and only people want, except that a hibernation is given up in the end.
//! - At most one container: one is started only where certainly none runs.
//! - Whatever is written down means something, so nobody writes for ever.
//! - No state that people wait for outlasts its deadline; and from every state, with a backend that
//!   works, what people want is the case, as far as it can be, after a bounded number of steps.

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;

use super::*;
use crate::{
    backend::Seen,
    decide::{self, Facts, Step, next_step},
    testing::row,
};

const URL: &str = "https://agent.example";
const OUR_URL: &str = "http://127.0.0.1:30001";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn ago(seconds: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(seconds)
}

fn known_card() -> Value {
    json!({"name": "known"})
}

/// Statuses that a workspace hosted like this can be in, and what is wanted of it then.
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

/// An agent of a container that may be stale isn't listened to, so such a workspace can't work.
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

/// Is this a state that a workspace may be in?
fn is_plausible(row: &WorkspaceRow) -> bool {
    statuses(row.hosting).contains(&(row.status, row.wanted))
        && containers(row.hosting, row.status).contains(&row.container)
        && (row.removed_at.is_some() == row.is_removed())
}

/// Every state that a workspace may be in: young and overdue, never failed and backing off, with and
/// without what its agent said, the backend answering and not.
fn states() -> Vec<WorkspaceRow> {
    let unreachable = json!([{"type": BACKEND_REACHABLE, "status": "False", "since": ago(9)}]);
    let disobeying = json!([{"type": BACKEND_OBEYS, "status": "False", "since": ago(9)}]);
    let mut all = Vec::new();
    for hosting in Hosting::ALL.iter().copied() {
        for (status, wanted) in statuses(hosting) {
            for container in containers(hosting, status) {
                for url in [None, Some(URL), Some(OUR_URL)] {
                    for (age, retry_in) in
                        [(1, None), (1, Some(5)), (1, Some(-5)), (4_000, None), (4_000, Some(5))]
                    {
                        for conditions in [json!([]), unreachable.clone(), disobeying.clone()] {
                            all.push(WorkspaceRow {
                                hosting,
                                status,
                                wanted,
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

fn beat(error_rate: f64, runtime_state: &str, judges_itself: bool) -> Input {
    let (runtime_state, sample_error) = (Some(runtime_state.to_owned()), "boom".to_owned());
    Input::Beat(Beat { error_rate, runtime_state, sample_error, judges_itself })
}

/// Everything that can happen to a row, and what it is called in the table below.
fn inputs(row: &WorkspaceRow) -> Vec<(&'static str, Input)> {
    let mut all = vec![
        ("restart", Input::Restart),
        ("pause", Input::Pause),
        ("resume", Input::Resume),
        ("hibernate", Input::Hibernate),
        ("wake", Input::Wake),
        ("remove", Input::Remove { cascade: None }),
        ("remove", Input::Remove { cascade: Some(2) }),
        ("vanished", Input::Vanished),
        ("stopped", Input::Stopped),
        ("beat", beat(0.0, "", false)),
        ("beat", beat(0.3, "", false)),
        ("beat", beat(0.5, "", false)),
        ("beat", beat(0.9, "", true)),
        ("beat", beat(0.0, "wedged", false)),
        ("beat", beat(0.0, "wedged", true)),
        ("silent", Input::Silent),
        ("overdue", Input::Overdue { after_seconds: 600 }),
        ("recover", Input::Recover),
        ("unreachable", Input::Unreachable { reason: "no answer".to_owned() }),
        ("reachable", Input::Reachable),
        ("not done", Input::NotDone { refused: true, reason: "no".to_owned() }),
        ("not done", Input::NotDone { refused: false, reason: "no answer".to_owned() }),
    ];
    for attempt in [row.attempt - 1, row.attempt, row.attempt + 1] {
        for url in [None, Some(OUR_URL.to_owned())] {
            all.push(("started", Input::Started { attempt, url }));
        }
        for missing in [Vec::new(), vec!["KEY".to_owned()]] {
            all.push(("start failed", Input::StartFailed { attempt, error: "no".to_owned(), missing }));
        }
    }
    for url in [None, Some(URL.to_owned()), Some("https://moved.example".to_owned())] {
        for (card, delivery_mode) in [
            (known_card(), DeliveryMode::Push),
            (json!({"name": "new"}), DeliveryMode::Push),
            (known_card(), DeliveryMode::Poll),
        ] {
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

/// Who it is for (c: containers, o: agents that somebody else runs, s: synthetic ones), from which
/// statuses, on what, to which status, told how.
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
    // "paused": resume. What needs no container is there at once, or when its agent calls.
    ("c", "paused", "resume", "provisioning", "WORKSPACE_PROVISIONING"),
    ("os", "paused", "resume", "online", "WORKSPACE_ONLINE"),
    ("o", "paused", "resume", "awaiting_agent", "WORKSPACE_AWAITING_AGENT"),
    // "online, degraded": hibernate, silently until its container is gone.
    ("c", "online degraded", "hibernate", "hibernating", ""),
    ("c", "online degraded", "hibernate", "hibernated", "WORKSPACE_HIBERNATED"),
    ("c", "hibernating", "stopped", "hibernated", "WORKSPACE_HIBERNATED"),
    ("c", "hibernating", "overdue", "online", "WORKSPACE_ONLINE"),
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
    // "any but removed" and dormant: register, which is told again when something visible changed.
    ("c", "provisioning online offline degraded failed", "registered", "online", "WORKSPACE_ONLINE"),
    ("o", "online degraded awaiting_agent", "registered", "online", "WORKSPACE_ONLINE"),
    ("s", "online degraded", "registered", "online", "WORKSPACE_ONLINE"),
    // Heartbeats.
    ("c", "provisioning offline failed degraded", "beat", "online", "WORKSPACE_ONLINE"),
    ("o", "awaiting_agent degraded", "beat", "online", "WORKSPACE_ONLINE"),
    ("s", "degraded", "beat", "online", "WORKSPACE_ONLINE"),
    ("cos", "online", "beat", "degraded", "WORKSPACE_DEGRADED"),
    // "provisioning": provision error, timeout.
    ("c", "provisioning", "start failed", "failed", "WORKSPACE_PROVISION_FAILED"),
    ("c", "provisioning", "overdue", "failed", "WORKSPACE_PROVISION_FAILED"),
    // "online, degraded": certainly not running, presence expired; then auto-restart.
    ("c", "online degraded", "vanished", "offline", "WORKSPACE_OFFLINE"),
    ("c", "online degraded", "silent", "offline", "WORKSPACE_OFFLINE"),
    ("c", "offline", "recover", "provisioning", "WORKSPACE_PROVISIONING"),
    ("o", "online degraded", "silent", "awaiting_agent", "WORKSPACE_OFFLINE WORKSPACE_AWAITING_AGENT"),
];

fn told(transition: &Transition) -> String {
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
            format!("{hosting}: {from} -({input})-> {to} [{}]", told(&next))
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
fn from_a_state_that_may_be_only_such_states_follow() {
    for (row, _, input, next) in transitions() {
        assert!(is_plausible(&next.row), "{row:?}\n{input:?}\n{next:?}");
    }
}

#[test]
fn what_is_made_is_in_a_state_that_may_be() {
    for (hosting, url, status, events) in [
        (Hosting::Container, None, Status::Provisioning, "WORKSPACE_PROVISIONING"),
        (Hosting::Operator, None, Status::AwaitingAgent, "WORKSPACE_PROVISIONING WORKSPACE_AWAITING_AGENT"),
        (Hosting::Operator, Some(URL), Status::Online, "WORKSPACE_PROVISIONING WORKSPACE_ONLINE"),
        (Hosting::Synthetic, None, Status::Online, "WORKSPACE_PROVISIONING WORKSPACE_ONLINE"),
    ] {
        let made = create(WorkspaceRow { hosting, url: url.map(str::to_owned), ..row("new") }, now());
        assert!(is_plausible(&made.row), "{made:?}");
        assert_eq!((made.row.status, told(&made).as_str()), (status, events));
        assert_eq!(made.row.attempt, i32::from(hosting == Hosting::Container));
        assert_eq!(agrees(&made.row), hosting != Hosting::Container);
    }
}

#[test]
fn removed_is_final() {
    for (row, name, input, next) in transitions().filter(|(row, ..)| row.is_removed()) {
        assert_eq!(next.row.status, Status::Removed, "{input:?}");
        assert_eq!(next.row.wanted, DesiredState::Removed);
        assert_eq!((next.row.removed_at, next.row.generation), (row.removed_at, row.generation));
        assert!(next.events.is_empty());
        assert!(["stopped", "unreachable", "reachable", "not done"].contains(&name), "{name}");
    }
}

#[test]
fn not_knowing_changes_no_status() {
    for (row, name, _, next) in transitions() {
        if ["unreachable", "reachable", "not done"].contains(&name) {
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
    let refused = Input::NotDone { refused: true, reason: "no".to_owned() };
    let one = WorkspaceRow { container: Container::Running, attempt: 1, ..row("one") };
    let cut_off = apply(&one, &unreachable, ago(9)).unwrap().row;
    assert_eq!(apply(&cut_off, &unreachable, now()), None);
    let both = apply(&cut_off, &refused, now()).unwrap().row;
    assert_eq!(both.conditions.as_array().unwrap().len(), 2);
    assert_eq!(both.conditions[0], cut_off.conditions[0]);
    assert_eq!(both.conditions[1]["reason"], "Refused");
    let again = apply(&both, &refused, now() + TimeDelta::seconds(9)).unwrap().row;
    assert_eq!(again.conditions[1]["since"], both.conditions[1]["since"]);
    assert!(again.retry_at > both.retry_at);
    let started = apply(&again, &Input::Started { attempt: 1, url: None }, now()).unwrap().row;
    assert_eq!(started.conditions[1]["status"], "True");
    let back = apply(&started, &Input::Reachable, now()).unwrap().row;
    assert!(back.conditions.as_array().unwrap().iter().all(|condition| condition["status"] == "True"));
}

#[test]
fn each_step_between_statuses_is_told_once() {
    for (row, name, input, next) in transitions() {
        let moved = next.row.status != row.status;
        let expected = match (name, row.hosting) {
            ("silent", Hosting::Operator) => 2,
            _ if next.row.status == Status::Hibernating => 0,
            ("restart" | "registered", _) => usize::from(moved || !next.events.is_empty()),
            _ => usize::from(moved),
        };
        assert_eq!(next.events.len(), expected, "{row:?}\n{input:?}\n{next:?}");
        assert_eq!(next.row.status_since == now(), moved || !next.events.is_empty(), "{input:?}");
    }
}

#[test]
fn a_register_that_shows_nothing_new_is_not_told() {
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
    let ours = WorkspaceRow { url: Some(OUR_URL.to_owned()), ..one.clone() };
    assert_eq!(apply(&ours, &register(URL), now()), None);
    assert_eq!(apply(&one, &register("https://moved.example"), now()).unwrap().events.len(), 1);
}

#[test]
fn nothing_late_changes_a_status() {
    for (row, _, input, next) in transitions() {
        let late = match &input {
            Input::Started { attempt, .. } | Input::StartFailed { attempt, .. } => *attempt != row.attempt,
            _ => false,
        };
        assert!(!late, "something late meant something: {row:?}\n{input:?}");
        let dormant = row.container == Container::Superseded || row.wanted != DesiredState::Running;
        if dormant && matches!(input, Input::Registered { .. } | Input::Beat(_)) {
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
fn only_people_want() {
    for (row, name, input, next) in transitions() {
        let people = ["restart", "pause", "resume", "hibernate", "wake", "remove"].contains(&name);
        let given_up = row.status == Status::Hibernating && name == "overdue";
        let grown = next.row.generation - row.generation;
        assert_eq!(grown, i64::from(people || given_up), "{row:?}\n{input:?}");
        assert!(grown == 1 || next.row.wanted == row.wanted);
        assert_eq!(next.row.revision, row.revision + 1);
        assert_eq!(next.row.updated_at, now());
        let begun = next.row.attempt - row.attempt;
        assert_eq!(
            begun,
            i32::from(
                row.hosting == Hosting::Container
                    && next.row.status == Status::Provisioning
                    && (people || name == "recover")
            ),
            "{row:?}\n{input:?}"
        );
        if next.row.observed_generation != row.observed_generation {
            assert!(agrees(&next.row));
            assert_eq!(next.row.observed_generation, next.row.generation);
        }
        if people {
            assert_eq!((next.row.failures, next.row.retry_at), (0, None), "{input:?}");
        }
    }
}

#[test]
fn urls_go_with_containers() {
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

fn facts(last_seen: Option<i64>, ancestor_paused: bool) -> Facts {
    Facts {
        last_seen: last_seen.map(ago),
        listening_since: None,
        ancestor_paused,
        provision_timeout: Duration::from_secs(600),
        operator_silence: Duration::from_secs(90),
    }
}

fn sights(row: &WorkspaceRow) -> Vec<Option<Seen>> {
    let running = |attempt| Some(Seen::Running { attempt, url: Some(OUR_URL.to_owned()) });
    let mut all = vec![None];
    if row.hosting == Hosting::Container {
        all.extend([running(row.attempt), running(row.attempt - 1), running(row.attempt + 1)]);
        all.extend([Some(Seen::Gone), Some(Seen::Unknown("no answer".to_owned()))]);
    }
    all
}

/// Every state with everything that may be seen then, and what is done next.
fn steps() -> impl Iterator<Item = (WorkspaceRow, Option<Seen>, Facts, Step)> {
    states().into_iter().flat_map(|row| {
        let mut all = Vec::new();
        for seen in sights(&row) {
            for facts in
                [facts(None, false), facts(Some(1), false), facts(Some(5_000), false), facts(None, true)]
            {
                let step = next_step(&row, seen.as_ref(), &facts, now());
                all.push((row.clone(), seen.clone(), facts, step));
            }
        }
        all
    })
}

#[test]
fn one_is_started_only_where_certainly_none_runs_and_stopped_only_where_none_should() {
    for (row, seen, _, step) in steps() {
        let runs = match seen {
            Some(Seen::Running { attempt, .. }) => Some(attempt),
            _ => None,
        };
        match step {
            Step::Ensure => {
                assert_eq!((row.wanted, seen), (DesiredState::Running, Some(Seen::Gone)), "{row:?}");
                assert_ne!(row.container, Container::Superseded);
                assert_ne!(row.status, Status::Failed);
            }
            Step::Stop => {
                assert_ne!(row.wanted, DesiredState::Removed);
                let wrong = row.container == Container::Superseded || runs != Some(row.attempt);
                assert!(runs.is_some() && (row.wanted != DesiredState::Running || wrong), "{row:?}");
            }
            Step::Remove => assert!(runs.is_some() && row.wanted == DesiredState::Removed),
            Step::Rest(_) | Step::Note(_) => continue,
        }
        // What the backend did not do is not asked again before its time.
        assert!(row.retry_at.is_none_or(|at| at <= now()), "{row:?}");
    }
}

#[test]
fn what_is_written_down_means_something() {
    for (row, seen, _, step) in steps() {
        if let Step::Note(input) = step {
            assert!(apply(&row, &input, now()).is_some(), "{row:?}\n{seen:?}\n{input:?}");
        }
    }
}

#[test]
fn where_nothing_is_known_only_time_decides() {
    for (row, seen, _, step) in steps() {
        if !matches!(seen, Some(Seen::Unknown(_))) {
            continue;
        }
        match step {
            Step::Rest(until) => assert!(until.is_some_and(|at| at > now()), "{row:?}"),
            Step::Note(Input::Unreachable { .. } | Input::Overdue { .. }) => {}
            other => panic!("{other:?} for {row:?}"),
        }
    }
}

#[test]
fn nothing_that_people_wait_for_outlasts_its_deadline() {
    for (row, seen, facts, step) in steps() {
        let Step::Rest(until) = step else { continue };
        if let Some((at, _)) = decide::deadline(&row, &facts) {
            assert!(at > now(), "{row:?}");
            let backend = row.hosting == Hosting::Container && seen.is_some();
            assert!(!backend || until.is_some_and(|until| until <= at), "{row:?}\n{seen:?}");
        }
        let offline = row.status == Status::Offline && !facts.ancestor_paused;
        if offline && matches!(seen, Some(Seen::Running { .. } | Seen::Gone)) {
            // Its own container waits to be started again; that of an earlier attempt to be stopped.
            assert_eq!(until, row.retry_at, "{row:?}\n{seen:?}");
            assert!(until.is_some_and(|until| until > now()));
        }
    }
}

/// A backend that works: what it runs is an attempt's number.
#[test]
fn from_every_state_agreement_follows() {
    for start in states() {
        for at_first in [None, Some(start.attempt - 1), Some(start.attempt)] {
            for calls in [false, true] {
                let runs_something = start.hosting == Hosting::Container;
                let settled = settle(start.clone(), at_first.filter(|_| runs_something), calls);
                let (row, runs) = settled.unwrap_or_else(|row| panic!("no end from {start:?}\nat {row:?}"));
                assert!(agrees(&row), "{start:?}\n{row:?}");
                match row.wanted {
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

/// Steps until there is nothing to do any more but to wait for people; an agent calls its first time or
/// never.
fn settle(
    mut row: WorkspaceRow,
    mut runs: Option<i32>,
    calls: bool,
) -> Result<(WorkspaceRow, Option<i32>), Box<WorkspaceRow>> {
    let mut now = now();
    let note = |row: &WorkspaceRow, input: &Input, now| apply(row, input, now).map(|next| next.row);
    for _ in 0..40 {
        let seen = (row.hosting == Hosting::Container)
            .then(|| runs.map_or(Seen::Gone, |attempt| Seen::Running { attempt, url: None }));
        let facts = Facts { last_seen: calls.then_some(now), ..facts(None, false) };
        let works = row.wanted == DesiredState::Running;
        match next_step(&row, seen.as_ref(), &facts, now) {
            Step::Rest(None) => return Ok((row, runs)),
            Step::Rest(Some(_))
                if calls && agrees(&row) && (seen.is_none() || works && runs == Some(row.attempt)) =>
            {
                return Ok((row, runs));
            }
            Step::Rest(Some(_))
                if calls && row.container == Container::Running && row.status == Status::Provisioning =>
            {
                row = note(&row, &beat(0.0, "", false), now).expect("a first call means something");
            }
            Step::Rest(Some(until)) => now = until,
            Step::Ensure => {
                assert_eq!(runs, None, "a second container");
                runs = Some(row.attempt);
                row = note(&row, &Input::Started { attempt: row.attempt, url: None }, now).unwrap();
            }
            Step::Stop | Step::Remove => runs = None,
            Step::Note(input) => row = note(&row, &input, now).unwrap(),
        }
    }
    Err(Box::new(row))
}

#[test]
fn without_a_backend_a_start_fails_and_says_why() {
    let one =
        WorkspaceRow { hosting: Hosting::Container, attempt: 1, attempt_at: Some(ago(1)), ..row("one") };
    let Step::Note(input) = next_step(&one, None, &facts(None, false), now()) else { panic!("it rests") };
    let failed = apply(&one, &input, now()).unwrap();
    assert_eq!(failed.row.status, Status::Failed);
    assert_eq!(failed.row.last_sample_error.as_deref(), Some(decide::NO_BACKEND));
    assert_eq!(next_step(&failed.row, None, &facts(None, false), now()), Step::Rest(None));
}

#[test]
fn errors_are_cut_between_characters() {
    let long = "é".repeat(limits::ERROR_BYTES);
    assert_eq!(cut(&long).len(), limits::ERROR_BYTES);
    assert_eq!(cut(&format!("a{long}")).len(), limits::ERROR_BYTES - 1);
    assert_eq!(cut("short"), "short");
}
