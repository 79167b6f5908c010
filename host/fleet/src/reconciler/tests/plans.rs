//! Starts for which the runtime's adapter gives no plan.

use catalog::NoAnswer;
use wasm::Failure;

use super::*;
use crate::{Edit, machine::missing_plan};

fn trap() -> NoAnswer {
    let failure = Failure::Trap { message: "panicked".to_owned(), backtrace: Vec::new() };
    NoAnswer::Failed { guest: "langgraph".to_owned(), failure }
}

fn busy() -> NoAnswer {
    let failure = Failure::Busy { wanted: "slot", waited: Duration::from_secs(10) };
    NoAnswer::Busy { guest: "langgraph".to_owned(), failure }
}

/// Reason and message of the condition.
fn missing(row: &WorkspaceRow) -> (&str, &str) {
    let condition = missing_plan(row).expect("the condition says that there is no plan");
    (&condition.reason, &condition.message)
}

#[tokio::test]
async fn a_failed_plan_fails_the_start_until_the_adapter_changes() {
    let limit = Duration::from_secs(2);
    let failures = [
        (Failure::Trap { message: "panicked".to_owned(), backtrace: Vec::new() }, "Trapped"),
        (Failure::Timeout { limit, backtrace: Vec::new() }, "TimedOut"),
        (Failure::Memory { limit: "64 MiB of memory".to_owned() }, "OutOfMemory"),
    ];
    for (failure, reason) in failures {
        let server = Server::new().await;
        server.runtimes.fail(Some(NoAnswer::Failed { guest: "langgraph".to_owned(), failure }));
        let id = server.create().await;
        for _ in 0..3 {
            assert_eq!(server.reconcile_one(id).await, None);
        }
        assert_eq!(server.runtimes.asked(), 1, "the same question is not asked again");
        let row = server.row(id).await;
        assert_eq!(row.status, Status::Failed);
        let (given, message) = missing(&row);
        assert_eq!(given, reason);
        assert!(message.contains("guest langgraph failed"), "{message}");
        assert_eq!(row.last_sample_error.as_deref(), Some(message));
        assert!(server.backend.done().is_empty(), "no container runs by a plan of the host's");

        // Another release that fails otherwise: the reason is the new one, without a new attempt.
        server.runtimes.swap(Some(trap()));
        server.reconcile_one(id).await;
        assert_eq!((server.runtimes.asked(), server.row(id).await.attempt), (2, 1));
        assert_eq!(missing(&server.row(id).await).0, "Trapped");

        server.runtimes.swap(None);
        server.reconcile_one(id).await;
        assert_eq!(server.backend.done(), [Call::Ensure(id, 2)]);
        let row = server.row(id).await;
        assert_eq!((row.status, row.failures, missing_plan(&row)), (Status::Provisioning, 0, None));
    }
}

#[tokio::test]
async fn a_start_waits_for_an_adapter_that_is_away_however_long() {
    for (why, reason) in [(NoAnswer::Disabled("langgraph".to_owned()), "Disabled"), (busy(), "Busy")] {
        let server = Server::new().await;
        server.runtimes.fail(Some(why));
        let id = server.create().await;
        let again = server.reconcile_one(id).await.expect("it is tried again");
        let row = server.row(id).await;
        assert_eq!((row.status, row.failures), (Status::Provisioning, 1));
        assert_near(row.retry_at, Some(again));
        assert_eq!(missing(&row).0, reason);
        let awaiting = server.fleet.explain(id).await.unwrap().awaiting.unwrap();
        assert_eq!(awaiting.what, "a plan for its start by the adapter of its runtime");
        // Before the back-off is over it is not asked; then it is, and an hour later the start has not failed.
        server.reconcile_one(id).await;
        assert_eq!(server.runtimes.asked(), 1);
        let context = server.fleet.decision_context(&row);
        let later = steady_now() + TimeDelta::hours(1);
        let timed = server.fleet.with_local_times(&row);
        let step = decide::next_step(&timed, Some(&Observation::Absent), &context, later);
        assert_eq!(step, Step::Ensure);

        // What answers again is asked at once; the start has all of its time from then on.
        server.runtimes.swap(None);
        server.reconcile_one(id).await;
        assert_eq!(server.backend.done(), [Call::Ensure(id, 1)]);
        let started = server.row(id).await;
        assert_eq!(
            (started.status, started.failures, missing_plan(&started)),
            (Status::Provisioning, 0, None)
        );
        assert!(started.attempt_at > row.attempt_at);
    }
}

#[tokio::test]
async fn an_edit_a_restart_and_another_leader_ask_again() {
    let server = Server::new().await;
    server.runtimes.fail(Some(trap()));
    let id = server.create().await;
    server.reconcile_one(id).await;
    let edit = Edit { role: Some(Some("Reviewer".to_owned())), ..Edit::default() };
    server.fleet.edit(id, edit).await.unwrap();
    server.reconcile_one(id).await;
    assert_eq!(server.runtimes.asked(), 2);

    let limits = testing::limits();
    let other = open(&server.store, &server.backend, limits, &server.runtimes).await;
    for _ in 0..2 {
        other.reconcile_one(id, &server.fence).await.unwrap();
    }
    assert_eq!(server.runtimes.asked(), 3, "a server that has just begun to lead asks once");

    server.runtimes.fail(None);
    server.fleet.restart(id).await.unwrap();
    server.reconcile_one(id).await;
    assert_eq!(server.backend.done(), [Call::Ensure(id, 2)]);
}

#[tokio::test]
async fn a_leader_asks_as_soon_as_the_adapter_changes() {
    let server = Server::new().await;
    server.runtimes.fail(Some(trap()));
    let leads = server.leads();
    let id = server.create().await;
    until("it failed", &server.fleet, async || server.row(id).await.status == Status::Failed).await;
    server.runtimes.swap(None);
    let starts = async || server.row(id).await.container == Container::Running;
    until("it is started", &server.fleet, starts).await;
    leads.abort();
}

#[tokio::test]
async fn a_container_below_a_working_agent_waits_for_a_plan_too() {
    let server = Server::new().await;
    let id = server.create().await;
    let row = server.row(id).await;
    let (card, delivery_mode) = (serde_json::json!({}), store::workspaces::DeliveryMode::Push);
    let registered = Input::Registered { url: None, card, delivery_mode };
    server.fleet.state().commit(transitions([(&row, registered)], store::now())).await.unwrap();
    server.runtimes.fail(Some(trap()));
    let again = server.reconcile_one(id).await;
    let row = server.row(id).await;
    assert_eq!((row.status, missing(&row).0), (Status::Online, "Trapped"));
    assert_near(row.retry_at, again);
    assert!(server.backend.done().is_empty());
}
