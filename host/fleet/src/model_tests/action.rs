//! What may happen in a history.

use std::time::Duration;

use proptest::prelude::*;

use crate::fake_backend::Script;

/// Workspaces of a history at most.
pub(super) const WORKSPACES: usize = 4;

/// What may become of a call to the backend.
pub(super) const SCRIPTS: &[Script] = &[
    Script::Succeeds,
    Script::Refuses,
    Script::Unreachable,
    Script::AnswerLost,
    Script::Hangs,
    Script::ServerDies,
];

/// A workspace of the history: how many were created before it.
pub(super) type Index = usize;

#[derive(Debug, Clone)]
pub(super) enum Action {
    Create {
        runtime: &'static str,
        below: Option<Index>,
    },
    Restart(Index),
    Pause(Index),
    Resume(Index),
    Hibernate(Index),
    Wake(Index),
    Remove(Index),
    Move {
        index: Index,
        below: Option<Index>,
    },
    /// The agent of its container registers, if there is one, or that of its operator.
    Register(Index),
    Heartbeat {
        index: Index,
        error_rate: f64,
    },
    /// An agent calls that should be stopped by now.
    LateHeartbeat(Index),
    LateStartFailure(Index),
    /// Its container ends.
    Die(Index),
    /// The backend can't observe anything, or can again.
    Unobservable(bool),
    Script(Script),
    /// The reconciler takes this many steps.
    Reconcile {
        index: Index,
        steps: usize,
    },
    Pass(Duration),
    /// A file is written into its container, if that runs.
    Write(Index),
    /// The server dies, and another one begins with what is in the database.
    Crash,
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    use Action as A;
    let index = || 0..WORKSPACES;
    let below = || prop::option::of(0..WORKSPACES);
    let runtime = prop_oneof![4 => Just("langgraph"), 1 => Just("external"), 1 => Just("mock")];
    prop_oneof![
        4 => (runtime, below()).prop_map(|(runtime, below)| A::Create { runtime, below }),
        2 => index().prop_map(A::Restart),
        2 => index().prop_map(A::Pause),
        2 => index().prop_map(A::Resume),
        2 => index().prop_map(A::Hibernate),
        1 => index().prop_map(A::Wake),
        2 => index().prop_map(A::Remove),
        1 => (index(), below()).prop_map(|(index, below)| A::Move { index, below }),
        3 => index().prop_map(A::Register),
        2 => (index(), prop_oneof![Just(0.0), Just(0.7)])
            .prop_map(|(index, error_rate)| A::Heartbeat { index, error_rate }),
        1 => index().prop_map(A::LateHeartbeat),
        1 => index().prop_map(A::LateStartFailure),
        2 => index().prop_map(A::Die),
        1 => any::<bool>().prop_map(A::Unobservable),
        5 => prop::sample::select(SCRIPTS).prop_map(A::Script),
        12 => (index(), 1..6_usize).prop_map(|(index, steps)| A::Reconcile { index, steps }),
        2 => prop_oneof![Just(2), Just(100), Just(200), Just(700)]
            .prop_map(|seconds| A::Pass(Duration::from_secs(seconds))),
        3 => index().prop_map(A::Write),
        2 => Just(A::Crash),
    ]
}
