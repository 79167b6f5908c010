//! The next step from every state, with everything that a backend can observe.

use std::time::Duration;

use provision::Observation;
use store::workspaces::{Container, DesiredState, Hosting, Status, WorkspaceRow};

use super::states::{PLATFORM_URL, ago, heartbeat, now, states};
use crate::{
    decide::{self, Context, Step, next_step},
    machine::{Input, apply, is_converged},
    testing::row,
};

fn context(last_seen: Option<i64>, ancestor_paused: bool) -> Context {
    Context {
        last_seen: last_seen.map(ago),
        leading_since: None,
        ancestor_paused,
        asks_again: false,
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
