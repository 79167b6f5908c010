//! The reconciler with a backend that doesn't do what it is asked, and as a task that leads.

use std::sync::Arc;

use chrono::TimeDelta;
use store::{
    Change, Store,
    workspaces::{Container, DesiredState, Status, UpdateWorkspaces},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    Limits, Removal,
    scripted::{Action, Script, Scripted},
    testing::{self, until},
};

/// A fleet on a database of its own.
struct Server {
    fleet: Fleet,
    store: Store,
    backend: Scripted,
    fence: Fence,
    _dir: TempDir,
}

impl Server {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::sqlite(&dir.path().join("isomer.db")).await;
        let backend = Scripted::default();
        let limits = Limits { lease: Duration::from_millis(400), ..Limits::default() };
        let (fleet, _) = testing::open(store.clone(), Some(Arc::new(backend.clone())), limits).await;
        let lease = store.lease("test", Uuid::new_v4(), Duration::from_secs(60)).await.unwrap().unwrap();
        Self { fleet, store, backend, fence: lease.fence, _dir: dir }
    }

    async fn create(&self) -> Uuid {
        self.fleet.create(testing::new("one", "langgraph", None), "test").await.unwrap().row.id
    }

    async fn running(&self) -> Uuid {
        let id = self.create().await;
        self.look(id).await;
        assert_eq!(self.backend.runs().get(&id), Some(&1));
        id
    }

    async fn look(&self, id: Uuid) -> Option<DateTime<Utc>> {
        self.fleet.look(id, &self.fence).await.unwrap()
    }

    async fn row(&self, id: Uuid) -> WorkspaceRow {
        self.store.workspaces(&[id]).await.unwrap().pop().unwrap().row
    }

    fn leads(&self) -> JoinHandle<()> {
        let fleet = self.fleet.clone();
        tokio::spawn(async move { fleet.reconcile(|| {}).await.unwrap() })
    }
}

#[tokio::test]
async fn a_refused_stop_is_asked_again_later_each_time_and_ends_when_it_is_done() {
    let server = Server::new().await;
    let id = server.running().await;
    server.fleet.pause(id).await.unwrap();
    server.backend.script([Script::Refuses; 3]);
    let first = server.look(id).await.expect("it is looked at again");
    let row = server.row(id).await;
    assert_eq!((row.status, row.failures, row.retry_at), (Status::Paused, 1, Some(first)));
    assert_eq!(row.conditions[0]["reason"], "Refused");
    // Poked all the time, it isn't asked again before then.
    for _ in 0..5 {
        assert_eq!(server.look(id).await, Some(first));
    }
    assert_eq!(server.backend.done(), [Action::Ensure(id, 1)]);
    assert_eq!(server.row(id).await.revision, row.revision, "nothing new is written");
    // Whoever wants something anew is heard at once.
    server.fleet.resume(id).await.unwrap();
    server.look(id).await;
    let row = server.row(id).await;
    assert_eq!(row.status, Status::Failed, "what can't be stopped can't be started again");
    server.backend.works();
    server.fleet.mark_removed(id, false).await.unwrap();
    assert_eq!(server.look(id).await, None);
    assert_eq!(server.row(id).await.container, Container::Absent);
    assert_eq!(server.row(id).await.conditions[0]["status"], "True");
    assert!(server.backend.runs().is_empty());
}

#[tokio::test]
async fn a_refused_start_has_failed_and_an_unanswered_one_is_tried_again() {
    let server = Server::new().await;
    let id = server.create().await;
    server.backend.script([Script::Unreachable]);
    let again = server.look(id).await.expect("it is looked at again");
    let row = server.row(id).await;
    assert_eq!((row.status, row.retry_at), (Status::Provisioning, Some(again)));
    assert_eq!(row.conditions[0]["reason"], "NoAnswer");
    server.fleet.restart(id).await.unwrap();
    server.backend.script([Script::Refuses]);
    assert_eq!(server.look(id).await, None);
    let row = server.row(id).await;
    assert_eq!((row.status, row.last_sample_error.as_deref()), (Status::Failed, Some(START_FAILED)));
    assert!(server.backend.done().is_empty());
}

#[tokio::test]
async fn a_refused_start_of_one_that_works_is_tried_again_later() {
    let server = Server::new().await;
    let id = server.create().await;
    let row = server.row(id).await;
    let (card, delivery_mode) = (serde_json::json!({}), store::workspaces::DeliveryMode::Push);
    let registered = Input::Registered { url: None, card, delivery_mode };
    server.fleet.commit(transitions([(&row, registered)], store::now())).await.unwrap();
    server.backend.script([Script::Refuses]);
    let again = server.look(id).await;
    let row = server.row(id).await;
    assert_eq!((row.status, row.retry_at), (Status::Online, again));
    assert!(again.is_some_and(|again| again > store::now()));
}

#[tokio::test]
async fn an_action_that_never_answers_ends_with_its_deadline() {
    let server = Server::new().await;
    let id = server.create().await;
    server.backend.script([Script::Hangs]);
    let again = server.look(id).await;
    let row = server.row(id).await;
    assert_eq!((row.status, row.retry_at), (Status::Provisioning, again));
    assert_eq!(row.conditions[0]["message"], "no answer in time");
}

#[tokio::test]
async fn who_lost_the_lease_does_nothing() {
    let server = Server::new().await;
    let id = server.create().await;
    server.store.release_leases(server.fence.holder).await.unwrap();
    let length = Duration::from_secs(60);
    let next = server.store.lease("test", Uuid::new_v4(), length).await.unwrap().unwrap().fence;
    let before = server.row(id).await;
    let looked = server.fleet.look(id, &server.fence).await;
    assert!(matches!(looked, Err(Interrupted::Deposed)), "{looked:?}");
    assert_eq!(server.row(id).await, before);
    assert!(server.backend.done().is_empty());
    server.fleet.look(id, &next).await.unwrap();
    assert_eq!(server.backend.done(), [Action::Ensure(id, 1)]);
}

#[tokio::test]
async fn a_late_answer_about_an_attempt_that_is_over_starts_nothing_twice() {
    let server = Server::new().await;
    let id = server.create().await;
    // Seen by a reconciler that doesn't know yet of the restart.
    let row = server.row(id).await;
    server.fleet.restart(id).await.unwrap();
    server.fleet.take(&row, Step::Ensure, &server.fence).await.unwrap();
    assert_eq!(server.row(id).await.container, Container::None, "the late answer is not written");
    server.look(id).await;
    assert_eq!(server.backend.done(), [Action::Ensure(id, 1), Action::Stop(id), Action::Ensure(id, 2)]);
}

#[tokio::test]
async fn a_leader_does_what_people_want_and_survives_the_end_of_the_hub() {
    let server = Server::new().await;
    let leads = server.leads();
    let id = server.create().await;
    let runs = async || server.row(id).await.container == Container::Running;
    until("it is started", &server.fleet, runs).await;
    // Nothing is heard any more, but pokes are.
    server.fleet.hub().close();
    server.fleet.pause(id).await.unwrap();
    let stands = async || server.row(id).await.container == Container::Absent;
    until("it is stopped", &server.fleet, stands).await;
    server.fleet.remove(id, Removal::default()).await.unwrap();
    assert!(server.backend.runs().is_empty());
    leads.abort();
}

#[tokio::test]
async fn many_are_removed_at_once_and_waited_for() {
    let server = Server::new().await;
    let leads = server.leads();
    let root = server.create().await;
    for number in 0..100 {
        let new = testing::new(&format!("child {number}"), "langgraph", Some(root));
        server.fleet.create(new, "test").await.unwrap();
    }
    until("all are started", &server.fleet, async || server.backend.runs().len() == 101).await;
    let removal = Removal { confirmed: true, purge: true };
    assert_eq!(server.fleet.remove(root, removal).await.unwrap(), 100);
    assert!(server.backend.runs().is_empty());
    assert!(server.fleet.directory().is_empty());
    let any = store::EventFilter { limit: 1, ..Default::default() };
    let theirs = server.store.recent_events(&any);
    assert!(theirs.await.unwrap().is_empty(), "a purge takes their events, too");
    leads.abort();
}

#[tokio::test]
async fn hibernation_is_answered_when_it_happened() {
    let server = Server::new().await;
    let leads = server.leads();
    let id = server.create().await;
    let runs = async || server.row(id).await.container == Container::Running;
    until("it is started", &server.fleet, runs).await;
    let row = server.row(id).await;
    let (card, delivery_mode) = (serde_json::json!({}), store::workspaces::DeliveryMode::Push);
    let registered = Input::Registered { url: None, card, delivery_mode };
    server.fleet.commit(transitions([(&row, registered)], store::now())).await.unwrap();
    server.fleet.hibernate(id, false).await.unwrap();
    assert!(server.backend.runs().is_empty());
    assert_eq!(server.fleet.directory().get(id).unwrap().row.status, Status::Hibernated);
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
        server.fleet.commit(transitions([(&row, registered)], store::now())).await.unwrap();
    };
    register().await;
    assert!(!server.fleet.wake(id).await.unwrap(), "the workspace is online");
    server.fleet.hibernate(id, false).await.unwrap();
    assert!(server.backend.runs().is_empty());

    let woken = futures::future::join_all((0..8).map(|_| server.fleet.wake(id))).await;
    assert!(woken.into_iter().all(|waking| waking.unwrap()));
    until("it runs again", &server.fleet, async || server.backend.runs().get(&id) == Some(&2)).await;
    register().await;
    assert_eq!(server.row(id).await.status, Status::Online);
    assert_eq!(server.backend.done(), [Action::Ensure(id, 1), Action::Stop(id), Action::Ensure(id, 2)]);
    leads.abort();
}

#[tokio::test]
async fn below_a_paused_workspace_a_hibernated_one_is_not_woken() {
    let server = Server::new().await;
    let leads = server.leads();
    let root = server.create().await;
    let id =
        server.fleet.create(testing::new("child", "langgraph", Some(root)), "test").await.unwrap().row.id;
    until("both run", &server.fleet, async || server.backend.runs().len() == 2).await;
    // A root that is paused takes its children along; one that moves below it later is as it was.
    let row =
        WorkspaceRow { status: Status::Hibernated, wanted: DesiredState::Hibernated, ..server.row(id).await };
    let update = UpdateWorkspaces(vec![row.revised(store::now())]);
    server.fleet.commit(Change::of(update)).await.unwrap();
    let row = WorkspaceRow { status: Status::Paused, wanted: DesiredState::Paused, ..server.row(root).await };
    let update = UpdateWorkspaces(vec![row.revised(store::now())]);
    server.fleet.commit(Change::of(update)).await.unwrap();
    let woken = server.fleet.wake(id).await;
    assert!(matches!(woken, Err(crate::FleetError::ParentPaused { .. })), "{woken:?}");
    assert_eq!(server.row(id).await.status, Status::Hibernated);
    leads.abort();
}

#[tokio::test]
async fn who_begins_to_lead_gives_everybody_the_time_to_call() {
    let server = Server::new().await;
    let external = crate::NewWorkspace {
        url: Some("http://localhost:9".to_owned()),
        delivery_mode: Some("push".to_owned()),
        ..testing::new("one", "external", None)
    };
    let row = server.fleet.create(external, "test").await.unwrap().row;
    assert_eq!(row.status, Status::Online);
    // Nobody listened for an hour.
    let long_ago = store::now() - TimeDelta::hours(1);
    let old = WorkspaceRow { status_since: long_ago, ..row.clone() }.revised(store::now());
    server.fleet.commit(Change::of(UpdateWorkspaces(vec![old]))).await.unwrap();
    let leads = server.leads();
    until("it leads", &server.fleet, async || server.fleet.inner.pokes.since().is_some()).await;
    let since = server.fleet.inner.pokes.since().unwrap();
    let silent_at = since + server.fleet.inner.limits.operator_silence;
    assert_eq!(server.look(row.id).await, Some(silent_at));
    assert_eq!(server.row(row.id).await.status, Status::Online);
    let awaiting = server.fleet.explain(row.id).await.unwrap().awaiting.unwrap();
    assert_eq!(awaiting.deadline, Some(silent_at), "the same is said of it");
    // Afterwards only what is known counts.
    leads.abort();
    server.fleet.inner.pokes.open(false);
    server.look(row.id).await;
    assert_eq!(server.row(row.id).await.status, Status::AwaitingAgent);
}
