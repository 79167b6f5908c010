//! Random histories: what operators, agents, backends and time do to a small tree of workspaces, one
//! action after the other, with a server that may die after each. After each history the backend succeeds
//! and every workspace is reconciled until there is nothing to do. Then the desired state, what clients
//! were published, running containers and stored rows must agree.
//!
//! Time passes by setting back the times of rows: to the rules that is the same.
//!
//! A failing run prints its seed; the same actions come again with `MODEL_SEED=<seed> cargo test -p
//! isomer-fleet model_tests`.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};

use crate::testing;

mod action;
mod check;
mod history;

use action::{Action, SCRIPTS, action};
use history::History;

/// Histories tried. Each is about 25 actions.
const CASES: u32 = 200;

/// A database file that is migrated and empty, to be copied.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, file) = TEMPLATE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("template.db");
        let runtime = runtime();
        runtime.block_on(async { testing::sqlite(&file).await.close().await.unwrap() });
        (dir, file)
    });
    file
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn run(history: &[Action]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.db");
    std::fs::copy(template(), &file).unwrap();
    runtime().block_on(async {
        let mut world = History::begin(&file).await;
        world = world.apply(&Action::Create { runtime: "langgraph", below: None }).await;
        for action in history {
            world = world.apply(action).await;
        }
        // Convergence must not depend on what only the last server knew.
        world = world.crash().await;
        world.converges().await;
        world.check().await;
    });
}

#[test]
fn random_histories_end_in_the_desired_state() {
    let given = std::env::var("MODEL_SEED").ok().map(|seed| seed.parse().expect("MODEL_SEED is a number"));
    let seed: u64 = given.unwrap_or_else(rand::random);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 400,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    });
    let histories = prop::collection::vec(action(), 5..45);
    let failed = runner.run(&histories, |history| {
        run(&history);
        Ok(())
    });
    if let Err(error) = failed {
        panic!(
            "{error}\nto run the same histories: MODEL_SEED={seed} cargo test -p isomer-fleet model_tests"
        );
    }
}

/// Not random, for one workspace: each first request, with each outcome of the call that follows, and each
/// second request.
#[test]
fn every_request_is_fulfilled_after_every_outcome_of_the_one_before() {
    use Action as A;
    let reconcile = |steps| A::Reconcile { index: 0, steps };
    let requests = || [A::Restart(0), A::Pause(0), A::Remove(0), A::Hibernate(0), A::Die(0)];
    let online = [reconcile(9), A::Register(0)];
    for script in SCRIPTS {
        for then in requests().into_iter().chain([A::Resume(0), A::Wake(0), A::Crash]) {
            run(&[A::Script(*script), reconcile(2), then.clone()]);
            for first in requests() {
                let mut history = online.to_vec();
                history.extend([first, reconcile(1), A::Script(*script), reconcile(3), then.clone()]);
                run(&history);
            }
        }
    }
}
