//! The reconciler with a backend that fails, and as a task that leads.

use std::sync::Arc;

use chrono::TimeDelta;
use store::{
    Change, Store,
    workspaces::{Container, DesiredState, Status, UpdateWorkspaces},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use types::ServerId;

use super::*;
use crate::{
    Limits, Removal,
    agents::Report,
    fake_backend::{Call, FakeBackend, Script},
    testing::{self, FakeRuntimes, until},
};

mod plans;

/// A fleet on a database of its own.
struct Server {
    fleet: Fleet,
    runtimes: FakeRuntimes,
    store: Store,
    backend: FakeBackend,
    fence: Fence,
    _dir: TempDir,
}

impl Server {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::sqlite(&dir.path().join("isomer.db")).await;
        let backend = FakeBackend::default();
        let limits = Limits { lease: Duration::from_millis(400), ..testing::limits() };
        let runtimes = FakeRuntimes::default();
        let fleet = open(&store, &backend, limits, &runtimes).await;
        let lease = store.lease("test", ServerId::random(), Duration::from_secs(60)).await.unwrap().unwrap();
        Self { fleet, runtimes, store, backend, fence: lease.fence, _dir: dir }
    }

    async fn create(&self) -> WorkspaceId {
        self.fleet.create(testing::new("one", "langgraph", None), "test").await.unwrap().row.id
    }

    async fn running(&self) -> WorkspaceId {
        let id = self.create().await;
        self.reconcile_one(id).await;
        assert_eq!(self.backend.running().get(&id), Some(&1));
        id
    }

    async fn reconcile_one(&self, id: WorkspaceId) -> Option<DateTime<Utc>> {
        self.fleet.reconcile_one(id, &self.fence).await.unwrap()
    }

    async fn row(&self, id: WorkspaceId) -> WorkspaceRow {
        self.store.workspaces(&[id]).await.unwrap().pop().unwrap().row
    }

    fn leads(&self) -> JoinHandle<()> {
        let fleet = self.fleet.clone();
        tokio::spawn(async move { fleet.reconcile(|| {}).await.unwrap() })
    }
}

async fn open(store: &Store, backend: &FakeBackend, limits: Limits, runtimes: &FakeRuntimes) -> Fleet {
    let backend = Arc::new(backend.clone());
    let templates = crate::RuntimeTemplates::open(None);
    testing::open_with_runtimes(store.clone(), Some(backend), limits, templates, runtimes.clone()).await.0
}

/// The reconciler counts by a clock of its own: its times are as far away as those of the row, but not the same.
fn assert_near(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) {
    let apart = one.unwrap() - other.unwrap();
    assert!(apart.abs() < TimeDelta::milliseconds(500), "{one:?} and {other:?}");
}

#[tokio::test]
async fn a_refused_stop_is_retried_with_growing_backoff() {
    let server = Server::new().await;
    let id = server.running().await;
    server.fleet.pause(id).await.unwrap();
    server.backend.script([Script::Refuses; 3]);
    let first = server.reconcile_one(id).await.expect("a timer is set");
    let row = server.row(id).await;
    assert_eq!((row.status, row.failures), (Status::Paused, 1));
    assert_near(row.retry_at, Some(first));
    assert_eq!(row.conditions[0].reason, "Refused");
    // However often it is enqueued, the backend isn't asked before then.
    for _ in 0..5 {
        assert_near(server.reconcile_one(id).await, Some(first));
    }
    assert_eq!(server.backend.done(), [Call::Ensure(id, 1)]);
    assert_eq!(server.row(id).await.revision, row.revision, "the same failure is recorded once");
    // A new request is tried at once.
    server.fleet.resume(id).await.unwrap();
    server.reconcile_one(id).await;
    let row = server.row(id).await;
    assert_eq!(row.status, Status::Failed, "what can't be stopped can't be replaced");
    server.backend.succeed();
    server.fleet.mark_removed(id, false).await.unwrap();
    assert_eq!(server.reconcile_one(id).await, None);
    assert_eq!(server.row(id).await.container, Container::Absent);
    assert_eq!(server.row(id).await.conditions[0].status, types::ConditionStatus::True);
    assert!(server.backend.running().is_empty());
}

#[tokio::test]
async fn a_refused_start_fails_and_an_unanswered_one_is_retried() {
    let server = Server::new().await;
    let id = server.create().await;
    server.backend.script([Script::Unreachable]);
    let again = server.reconcile_one(id).await.expect("a timer is set");
    let row = server.row(id).await;
    assert_eq!(row.status, Status::Provisioning);
    assert_near(row.retry_at, Some(again));
    assert_eq!(row.conditions[0].reason, "NoAnswer");
    server.fleet.restart(id).await.unwrap();
    server.backend.script([Script::Refuses]);
    assert_eq!(server.reconcile_one(id).await, None);
    let row = server.row(id).await;
    assert_eq!((row.status, row.last_sample_error.as_deref()), (Status::Failed, Some(START_FAILED)));
    assert!(server.backend.done().is_empty());
}

#[tokio::test]
async fn a_refused_start_below_an_online_agent_is_retried_later() {
    let server = Server::new().await;
    let id = server.create().await;
    let row = server.row(id).await;
    let (card, delivery_mode) = (serde_json::json!({}), store::workspaces::DeliveryMode::Push);
    let registered = Input::Registered { url: None, card, delivery_mode };
    server.fleet.state().commit(transitions([(&row, registered)], store::now())).await.unwrap();
    server.backend.script([Script::Refuses]);
    let again = server.reconcile_one(id).await;
    let row = server.row(id).await;
    assert_eq!(row.status, Status::Online);
    assert_near(row.retry_at, again);
    assert!(again.is_some_and(|again| again > store::now()));
}

#[tokio::test]
async fn a_backend_call_without_an_answer_ends_at_its_timeout() {
    let server = Server::new().await;
    let id = server.create().await;
    server.backend.script([Script::Hangs]);
    let again = server.reconcile_one(id).await;
    let row = server.row(id).await;
    assert_eq!(row.status, Status::Provisioning);
    assert_near(row.retry_at, again);
    assert_eq!(row.conditions[0].message, "no answer in time");
}

#[tokio::test]
async fn a_server_that_lost_its_lease_does_nothing() {
    let server = Server::new().await;
    let id = server.create().await;
    server.store.release_leases(server.fence.holder).await.unwrap();
    let length = Duration::from_secs(60);
    let next = server.store.lease("test", ServerId::random(), length).await.unwrap().unwrap().fence;
    let before = server.row(id).await;
    let reconciled = server.fleet.reconcile_one(id, &server.fence).await;
    assert!(matches!(reconciled, Err(Interrupted::LeadershipLost)), "{reconciled:?}");
    assert_eq!(server.row(id).await, before);
    assert!(server.backend.done().is_empty());
    server.fleet.reconcile_one(id, &next).await.unwrap();
    assert_eq!(server.backend.done(), [Call::Ensure(id, 1)]);
}

#[tokio::test]
async fn a_late_answer_about_an_earlier_attempt_is_ignored() {
    let server = Server::new().await;
    let id = server.create().await;
    // As a reconciler has it that doesn't know of the restart yet.
    let row = server.row(id).await;
    server.fleet.restart(id).await.unwrap();
    server.fleet.execute(&row, Step::Ensure, &server.fence).await.unwrap();
    assert_eq!(server.row(id).await.container, Container::None, "the late answer is not recorded");
    server.reconcile_one(id).await;
    assert_eq!(server.backend.done(), [Call::Ensure(id, 1), Call::Stop(id), Call::Ensure(id, 2)]);
}

#[tokio::test]
async fn a_leader_fulfills_requests_also_after_the_hub_closed() {
    let server = Server::new().await;
    let leads = server.leads();
    let id = server.create().await;
    let runs = async || server.row(id).await.container == Container::Running;
    until("it is started", &server.fleet, runs).await;
    // Events no longer arrive; the work queue still does.
    server.fleet.hub().close();
    server.fleet.pause(id).await.unwrap();
    let stands = async || server.row(id).await.container == Container::Absent;
    until("it is stopped", &server.fleet, stands).await;
    server.fleet.remove(id, Removal::default()).await.unwrap();
    assert!(server.backend.running().is_empty());
    leads.abort();
}

#[tokio::test]
async fn a_removal_waits_until_all_containers_are_gone() {
    let server = Server::new().await;
    let leads = server.leads();
    let root = server.create().await;
    for number in 0..100 {
        let new = testing::new(&format!("child {number}"), "langgraph", Some(root));
        server.fleet.create(new, "test").await.unwrap();
    }
    until("all are started", &server.fleet, async || server.backend.running().len() == 101).await;
    let removal = Removal { confirmed: true, purge: true };
    assert_eq!(server.fleet.remove(root, removal).await.unwrap(), 100);
    assert!(server.backend.running().is_empty());
    assert!(server.fleet.workspaces().is_empty());
    let any = store::EventFilter { limit: 1, ..Default::default() };
    let theirs = server.store.recent_events(&any);
    assert!(theirs.await.unwrap().is_empty(), "a purge takes their events, too");
    leads.abort();
}

#[tokio::test]
async fn hibernate_returns_when_the_container_is_stopped() {
    let server = Server::new().await;
    let leads = server.leads();
    let id = server.create().await;
    let runs = async || server.row(id).await.container == Container::Running;
    until("it is started", &server.fleet, runs).await;
    let row = server.row(id).await;
    let (card, delivery_mode) = (serde_json::json!({}), store::workspaces::DeliveryMode::Push);
    let registered = Input::Registered { url: None, card, delivery_mode };
    server.fleet.state().commit(transitions([(&row, registered)], store::now())).await.unwrap();
    server.fleet.hibernate(id, false).await.unwrap();
    assert!(server.backend.running().is_empty());
    assert_eq!(server.fleet.workspaces().get(id).unwrap().row.status, Status::Hibernated);
    leads.abort();
}

#[tokio::test]
async fn waking_begins_one_attempt_however_many_messages_ask_for_it() {
    let server = Server::new().await;
    let leads = server.leads();
    let id = server.create().await;
    let starts = async || server.row(id).await.container == Container::Running;
    until("the container is started", &server.fleet, starts).await;
    assert!(server.fleet.wake(id).await.unwrap(), "a start under way counts as waking");
    let register = async || {
        let row = server.row(id).await;
        let (card, delivery_mode) = (serde_json::json!({}), store::workspaces::DeliveryMode::Push);
        let registered = Input::Registered { url: None, card, delivery_mode };
        server.fleet.state().commit(transitions([(&row, registered)], store::now())).await.unwrap();
    };
    register().await;
    assert!(!server.fleet.wake(id).await.unwrap(), "the workspace is online");
    server.fleet.hibernate(id, false).await.unwrap();
    assert!(server.backend.running().is_empty());

    let woken = futures::future::join_all((0..8).map(|_| server.fleet.wake(id))).await;
    assert!(woken.into_iter().all(|waking| waking.unwrap()));
    until("it runs again", &server.fleet, async || server.backend.running().get(&id) == Some(&2)).await;
    register().await;
    assert_eq!(server.row(id).await.status, Status::Online);
    assert_eq!(server.backend.done(), [Call::Ensure(id, 1), Call::Stop(id), Call::Ensure(id, 2)]);
    leads.abort();
}

#[tokio::test]
async fn below_a_paused_workspace_a_hibernated_one_is_not_woken() {
    let server = Server::new().await;
    let leads = server.leads();
    let root = server.create().await;
    let id =
        server.fleet.create(testing::new("child", "langgraph", Some(root)), "test").await.unwrap().row.id;
    until("both run", &server.fleet, async || server.backend.running().len() == 2).await;
    // Pausing the root pauses its children; a workspace that moves below it later keeps its state.
    let row = WorkspaceRow {
        status: Status::Hibernated,
        desired: DesiredState::Hibernated,
        ..server.row(id).await
    };
    let update = UpdateWorkspaces(vec![row.revised(store::now())]);
    server.fleet.state().commit(Change::of(update)).await.unwrap();
    let row =
        WorkspaceRow { status: Status::Paused, desired: DesiredState::Paused, ..server.row(root).await };
    let update = UpdateWorkspaces(vec![row.revised(store::now())]);
    server.fleet.state().commit(Change::of(update)).await.unwrap();
    let woken = server.fleet.wake(id).await;
    assert!(matches!(woken, Err(crate::LifecycleError::ParentPaused { .. })), "{woken:?}");
    assert_eq!(server.row(id).await.status, Status::Hibernated);
    leads.abort();
}

#[tokio::test]
async fn a_new_leader_gives_agents_the_whole_timeout_to_call() {
    let server = Server::new().await;
    let external = crate::NewWorkspace {
        url: Some("http://localhost:9".to_owned()),
        delivery_mode: Some("push".to_owned()),
        ..testing::new("one", "external", None)
    };
    let row = server.fleet.create(external, "test").await.unwrap().row;
    assert_eq!(row.status, Status::Online);
    // No server led for an hour.
    let long_ago = store::now() - TimeDelta::hours(1);
    let old = WorkspaceRow { status_since: long_ago, ..row.clone() }.revised(store::now());
    server.fleet.state().commit(Change::of(UpdateWorkspaces(vec![old]))).await.unwrap();
    let leads = server.leads();
    until("it leads", &server.fleet, async || server.fleet.inner.work.since().is_some()).await;
    let since = server.fleet.inner.work.since().unwrap();
    let silent_at = since + server.fleet.inner.limits.operator_heartbeat_timeout;
    assert_eq!(server.reconcile_one(row.id).await, Some(silent_at));
    assert_eq!(server.row(row.id).await.status, Status::Online);
    let awaiting = server.fleet.explain(row.id).await.unwrap().awaiting.unwrap();
    assert_near(awaiting.deadline, Some(silent_at));
    // Without a leader the stored time counts.
    leads.abort();
    server.fleet.inner.work.set_open(false);
    server.reconcile_one(row.id).await;
    assert_eq!(server.row(row.id).await.status, Status::AwaitingAgent);
}

// === What reaches the backend ===

impl Server {
    async fn create_with(&self, secrets: &[(&str, &str)]) -> WorkspaceId {
        let secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let new = crate::NewWorkspace {
            secrets: secrets.collect(),
            model: Some("some-model".to_owned()),
            ..testing::new("one", "langgraph", None)
        };
        self.fleet.create(new, "test").await.unwrap().row.id
    }
}

#[tokio::test]
async fn the_backend_gets_the_whole_plan_of_the_adapter() {
    let server = Server::new().await;
    let id = server.create_with(&[("API_KEY", "key"), ("RESET", "1")]).await;
    server.reconcile_one(id).await;
    let spec = server.backend.spec(id).unwrap();
    assert_eq!((spec.name, spec.attempt), (provision::container_name(id), 1));
    assert_eq!(spec.image.reference, "molecule-local/workspace-template-langgraph:latest");
    for (name, value) in [
        ("API_KEY", "key"),
        ("SECOND_KEY", "key"),
        ("PHASE", "create"),
        ("MODEL", "some-model"),
        ("LLM_PROVIDER", "hinted"),
        ("WORKSPACE_ID", &id.to_string()),
    ] {
        assert_eq!(spec.env.get(name).map(String::as_str), Some(value), "{name}");
    }
    let file = provision::ConfigFile { path: "notes.md".to_owned(), content: b"planned".to_vec() };
    assert_eq!(spec.files, [file]);
    let resets = |mount: &provision::Mount| matches!(mount, provision::Mount::Volume { reset: true, .. });
    assert_eq!(spec.mounts.iter().filter(|mount| resets(mount)).count(), 1);
    server.fleet.restart(id).await.unwrap();
    server.reconcile_one(id).await;
    assert_eq!(server.backend.spec(id).unwrap().env["PHASE"], "restart");
}

#[tokio::test]
async fn a_workspace_that_is_not_ready_fails_with_the_reason_and_reaches_no_backend() {
    let server = Server::new().await;
    for (secrets, error) in [
        (
            &[("NEEDY", "1")][..],
            "missing required env var \"API_KEY\" — add it under Config → Env Vars (or as a Global secret) and \
             retry",
        ),
        (&[("OBJECTION", "1")], "the adapter of runtime langgraph refuses the workspace: no such model"),
    ] {
        let id = server.create_with(secrets).await;
        assert_eq!(server.reconcile_one(id).await, None);
        let row = server.row(id).await;
        assert_eq!((row.status, row.last_sample_error.as_deref()), (Status::Failed, Some(error)));
    }
    let any = store::EventFilter {
        name: Some("WORKSPACE_PROVISION_FAILED".to_owned()),
        limit: 9,
        ..Default::default()
    };
    let failures = server.store.recent_events(&any).await.unwrap();
    let texts: Vec<String> = failures.iter().map(|event| event.payload().to_string()).collect();
    assert!(texts.iter().any(|text| text.contains("\"missing\":[\"API_KEY\"]")), "{texts:?}");
    assert!(server.backend.done().is_empty());
}

#[tokio::test]
async fn what_a_workspace_stored_is_removed_with_it_also_when_it_was_stopped_before() {
    use provision::WorkspaceIo as _;
    let server = Server::new().await;
    let id = server.running().await;
    server.backend.copy_in(id, "/workspace/a", b"a".to_vec()).await.unwrap();
    server.fleet.pause(id).await.unwrap();
    server.reconcile_one(id).await;
    assert!(server.backend.has_volumes(id), "a pause keeps what is stored");
    server.fleet.mark_removed(id, false).await.unwrap();
    assert_eq!(server.reconcile_one(id).await, None);
    assert!(!server.backend.has_volumes(id));
    assert_eq!(server.backend.done(), [Call::Ensure(id, 1), Call::Stop(id), Call::Remove(id)]);
}

#[tokio::test]
async fn a_running_container_answers_and_a_stopped_one_is_not_found() {
    use provision::{BackendError, WorkspaceIo as _};
    let server = Server::new().await;
    let id = server.running().await;
    let backend = &server.backend;
    let ran = backend.exec(id, &["echo".to_owned(), "hi".to_owned()]).await.unwrap();
    assert_eq!((ran.status, ran.output.as_slice()), (0, &b"echo hi"[..]));
    assert_eq!(backend.logs(id, 1).await.unwrap(), b"listening\n");
    assert_eq!(backend.logs(id, 9).await.unwrap(), b"attempt 1\nlistening\n");
    backend.copy_in(id, "/workspace/a", b"tar".to_vec()).await.unwrap();
    assert_eq!(backend.copy_out(id, "/workspace/a").await.unwrap(), b"tar");
    assert!(matches!(backend.copy_out(id, "/workspace/b").await, Err(BackendError::NotFound)));
    backend.kill(id);
    assert!(matches!(backend.exec(id, &[]).await, Err(BackendError::NotFound)));
    assert!(matches!(backend.copy_out(id, "/workspace/a").await, Err(BackendError::NotFound)));
}

#[tokio::test]
async fn a_changed_template_timeout_counts_from_the_next_start_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::sqlite(&dir.path().join("isomer.db")).await;
    let root = dir.path().join("templates");
    let write = |seconds: u32| {
        std::fs::create_dir_all(root.join("t")).unwrap();
        let config = format!("runtime: mock\nruntime_config: {{provision_timeout_seconds: {seconds}}}\n");
        std::fs::write(root.join("t/config.yaml"), config).unwrap();
    };
    write(7);
    let templates = crate::RuntimeTemplates::open(Some(root.clone()));
    let (fleet, _) = testing::open_with(store, None, testing::limits(), templates).await;
    assert_eq!(fleet.template_timeout_ms("mock"), Some(7_000));
    write(900);
    assert_eq!(fleet.template_timeout_ms("mock"), Some(7_000), "no file is read for a row that is shown");
    fleet.create(testing::new("one", "mock", None), "test").await.unwrap();
    assert_eq!(fleet.template_timeout_ms("mock"), Some(900_000));
}

impl Server {
    /// A workspace of a runtime whose guest is not in service yet.
    async fn compiling(&self, desired: DesiredState) -> WorkspaceId {
        let row =
            WorkspaceRow { desired, runtime: "compiling".to_owned(), ..self.row(self.create().await).await };
        let id = row.id;
        let update = Change::of(UpdateWorkspaces(vec![row.revised(store::now())]));
        self.fleet.state().commit(update).await.unwrap();
        id
    }
}

#[tokio::test]
async fn a_workspace_that_is_not_to_run_waits_for_no_guest() {
    let server = Server::new().await;
    let id = server.compiling(DesiredState::Removed).await;
    let _ = timeout(testing::PATIENCE, server.fleet.step(id, &server.fence)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_heartbeat_is_recorded_before_the_guest_is_ready() {
    let server = Server::new().await;
    let id = server.compiling(DesiredState::Running).await;
    let report = Report {
        id,
        error_rate: 0.0,
        sample_error: String::new(),
        active_tasks: 1,
        current_task: "reading".to_owned(),
        uptime_seconds: 5,
        monthly_spend: 0,
        runtime_state: None,
        metadata: None,
        proved: true,
    };
    let recorded = until("presence is recorded", &server.fleet, async || {
        let workspace = server.fleet.workspaces().get(id).unwrap();
        workspace.presence.as_ref().is_some_and(|presence| presence.current_task == "reading")
    });
    tokio::select! {
        judged = server.fleet.heartbeat(report) => panic!("judged without the guest: {judged:?}"),
        () = recorded => {}
    }
}
