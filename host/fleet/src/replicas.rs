//! Several servers on one Postgres: changes of one reach the others in order, and when the leader dies
//! another server takes over without repeating an action.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use databases::Database;
use events::{
    Event, Received, Subscription,
    definitions::{AgentMessage, Task},
};
use futures::future::join_all;
use provision::Backend;
use store::{
    Change, Store,
    presence::PresenceRow,
    workspaces::{Container, DesiredState, Status, UpdateWorkspaces, WorkspaceRow},
};
use tokio::{task::JoinHandle, time::timeout};
use types::{Owner, ServerId, WorkspaceId};

use crate::{
    Edit, Fleet, Limits, Removal, Workspace, WorkspaceIndex,
    fake_backend::{Call, FakeBackend, Script},
    testing::{self, PATIENCE, new, until},
};

const LEASE: Duration = Duration::from_millis(300);

/// A server with its own hub and a subscriber to all durable events.
struct Replica {
    fleet: Fleet,
    subscription: Subscription,
    tasks: Vec<JoinHandle<()>>,
}

impl Replica {
    async fn new(database: &Database, backend: Option<FakeBackend>) -> Self {
        let store = Store::connect(&database.url()).await.unwrap();
        let limits = Limits { lease: LEASE, ..testing::limits() };
        let backend = backend.map(|backend| Arc::new(backend) as Arc<dyn Backend>);
        let (fleet, _) = testing::open(store, backend, limits).await;
        let subscription = fleet.hub().subscribe(100_000, |event| event.seq().is_some());
        Self { fleet, subscription, tasks: Vec::new() }
    }

    /// Begins to keep in step with the others.
    fn follows(mut self) -> Self {
        let fleet = self.fleet.clone();
        self.tasks.push(tokio::spawn(async move { fleet.state().follow(|| {}).await.unwrap() }));
        let fleet = self.fleet.clone();
        self.tasks.push(tokio::spawn(async move { fleet.state().send_ephemeral(|| ()).await }));
        self
    }

    fn reconciles(&self) -> JoinHandle<()> {
        let fleet = self.fleet.clone();
        tokio::spawn(async move { fleet.reconcile(|| {}).await.unwrap() })
    }

    fn seqs(&mut self) -> Vec<i64> {
        let mut seqs = Vec::new();
        while let Some(next) = self.subscription.try_next() {
            let Received::Event(event) = next else { panic!("{next:?}") };
            seqs.extend(event.seq().map(|seq| seq.0));
        }
        seqs
    }

    async fn row(&self, id: WorkspaceId) -> WorkspaceRow {
        self.fleet.store().workspaces(&[id]).await.unwrap().pop().unwrap().row
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn three(database: &Database) -> [Replica; 3] {
    let one = Replica::new(database, None).await.follows();
    let two = Replica::new(database, None).await.follows();
    [one, two, Replica::new(database, None).await.follows()]
}

fn by_id(mut all: Vec<Arc<Workspace>>) -> Vec<Workspace> {
    all.sort_by_key(|it| it.row.id);
    all.into_iter().map(|it| Workspace::clone(&it)).collect()
}

#[tokio::test]
#[ignore = "needs TEST_DATABASE_URL"]
async fn all_servers_publish_every_event_once_in_order_and_index_the_same_rows() {
    let database = Database::postgres().await;
    let mut replicas = three(&database).await;
    let writers = (0..64_usize).map(|number| {
        let (fleet, next) = (replicas[number % 3].fleet.clone(), replicas[(number + 1) % 3].fleet.clone());
        async move {
            let id = fleet.create(new(&format!("ws {number}"), "mock", None), "test").await.unwrap().row.id;
            fleet.edit(id, Edit { position: Some((1.0, 2.0)), ..Edit::default() }).await.unwrap();
            // The next server changes what the first made, as soon as it knows of it.
            until("it is known", &next, async || next.workspaces().get(id).is_some()).await;
            next.pause(id).await.unwrap();
            next.credentials().issue(id, "test", true).await.unwrap();
            if number % 4 == 0 {
                fleet.remove(id, Removal::default()).await.unwrap();
            }
        }
    });
    timeout(PATIENCE, join_all(writers)).await.unwrap();
    let store = replicas[0].fleet.store().clone();
    let last = store.last_event().await.unwrap();
    assert!(last.0 >= 64 * 5, "each writer publishes at least five events: {last}");
    let fresh = WorkspaceIndex::default();
    fresh.load(store.live_workspaces().await.unwrap());
    assert_eq!(fresh.len(), 48);
    for replica in &mut replicas {
        until("everything is published", &replica.fleet, async || {
            replica.fleet.state().last_published() == last
        })
        .await;
        assert_eq!(replica.seqs(), (1..=last.0).collect::<Vec<_>>());
        assert_eq!(by_id(replica.fleet.workspaces().list()), by_id(fresh.list()));
    }
    drop(replicas);
}

#[tokio::test]
#[ignore = "needs TEST_DATABASE_URL"]
async fn tokens_are_accepted_and_revoked_on_all_servers() {
    let database = Database::postgres().await;
    let [one, two, three] = three(&database).await;
    let id = one.fleet.create(new("one", "mock", None), "test").await.unwrap().row.id;
    let mine = one.fleet.credentials().issue(id, "test", true).await.unwrap();
    let everybodys = two.fleet.credentials().issue_for_org(None, None, "test", false).await.unwrap();
    for replica in [&one, &two, &three] {
        let fleet = &replica.fleet;
        let both = async || {
            [&mine, &everybodys].iter().all(|new| fleet.credentials().authenticate(&new.text).is_some())
        };
        until("both are known", fleet, both).await;
    }
    three.fleet.credentials().revoke(Owner::Workspace(id), mine.row.id).await.unwrap();
    assert!(three.fleet.credentials().authenticate(&mine.text).is_none(), "at once where it was revoked");
    one.fleet.credentials().revoke(Owner::Organization, everybodys.row.id).await.unwrap();
    for replica in [&one, &two, &three] {
        let fleet = &replica.fleet;
        let none = async || {
            [&mine, &everybodys].iter().all(|new| fleet.credentials().authenticate(&new.text).is_none())
        };
        until("none is known", fleet, none).await;
    }
    drop((one, two, three));
}

#[tokio::test]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_purge_reaches_a_server_that_missed_the_removal() {
    let database = Database::postgres().await;
    let one = Replica::new(&database, None).await;
    let id = one.fleet.create(new("one", "mock", None), "test").await.unwrap().row.id;
    let mine = one.fleet.credentials().issue(id, "test", true).await.unwrap();
    // It knows them from its start, and begins to follow only after the purge.
    let two = Replica::new(&database, None).await;
    assert!(two.fleet.credentials().authenticate(&mine.text).is_some());
    one.fleet.remove(id, Removal { confirmed: true, purge: true }).await.unwrap();
    let two = two.follows();
    // One index after the other.
    until("it is gone", &two.fleet, async || two.fleet.workspaces().get(id).is_none()).await;
    until("its tokens are gone", &two.fleet, async || !two.fleet.state().tokens().has_any(id)).await;
    assert!(two.fleet.credentials().authenticate(&mine.text).is_none());
    drop((one, two));
}

#[tokio::test]
#[ignore = "needs TEST_DATABASE_URL"]
async fn ephemeral_events_are_published_once_on_the_other_servers() {
    let database = Database::postgres().await;
    let replicas = three(&database).await;
    let live = |fleet: &Fleet| fleet.hub().subscribe(1_000, |event| event.seq().is_none());
    let mut subscriptions: Vec<Subscription> = replicas.iter().map(|replica| live(&replica.fleet)).collect();
    let id = WorkspaceId::random();
    let task = |number: usize| {
        Event::TaskUpdated(Task { active_tasks: 1, current_task: format!("{number} {}", "x".repeat(500)) })
    };
    // An event too large for a notification is published on this server only, and does not delay later ones.
    let long = AgentMessage {
        attachments: Vec::new(),
        message: "x".repeat(store::EPHEMERAL_BYTES),
        name: "one".to_owned(),
        workspace_id: id,
    };
    // A listener receives from some moment on: the first event is repeated until all servers have it.
    for subscription in &mut subscriptions {
        let received = async {
            loop {
                replicas[0].fleet.state().publish_ephemeral(id, &task(0));
                if timeout(Duration::from_millis(50), subscription.next()).await.is_ok() {
                    break;
                }
            }
        };
        timeout(PATIENCE, received).await.expect("it is published");
    }
    replicas[0].fleet.state().publish_ephemeral(id, &Event::AgentMessage(long));
    for number in 1..=40 {
        replicas[0].fleet.state().publish_ephemeral(id, &task(number));
    }
    for (which, subscription) in subscriptions.iter_mut().enumerate() {
        let mut found = Vec::new();
        while found.last() != Some(&task(40)) {
            let Received::Event(event) =
                timeout(PATIENCE, subscription.next()).await.expect("it is published")
            else {
                panic!("the hub ended")
            };
            assert_eq!(event.workspace_id(), Some(id));
            found.extend(event.event().filter(|event| *event != task(0)));
        }
        let messages = usize::from(which == 0);
        assert_eq!(found.len(), 40 + messages);
        assert_eq!(found[messages..], (1..=40).map(task).collect::<Vec<_>>());
    }
    drop(replicas);
}

#[tokio::test]
#[ignore = "needs TEST_DATABASE_URL"]
async fn another_server_takes_over_from_a_dead_leader_and_no_action_is_repeated() {
    let database = Database::postgres().await;
    for (script, wanted, done) in [
        // The container was started without a record of it, or it wasn't.
        (Script::ServerDies, DesiredState::Running, 1),
        (Script::Hangs, DesiredState::Running, 1),
        (Script::ServerDies, DesiredState::Paused, 2),
    ] {
        let backend = FakeBackend::default();
        let one = Replica::new(&database, Some(backend.clone())).await.follows();
        let two = Replica::new(&database, Some(backend.clone())).await.follows();
        let leader = one.reconciles();
        backend.script([script]);
        let id = one.fleet.create(new("one", "langgraph", None), "test").await.unwrap().row.id;
        timeout(PATIENCE, backend.stuck.notified()).await.expect("it is being started");
        let next = two.reconciles();
        leader.abort();
        let died = Instant::now();
        if wanted == DesiredState::Paused {
            until("it is known", &two.fleet, async || two.fleet.workspaces().get(id).is_some()).await;
            two.fleet.pause(id).await.unwrap();
        }
        let settled = async || {
            let row = two.row(id).await;
            match wanted {
                DesiredState::Running => row.container == Container::Running,
                _ => row.status == Status::Paused && backend.running().is_empty(),
            }
        };
        until("another one goes on", &two.fleet, settled).await;
        // The lease, a quarter of it until it is asked for, and what a busy machine takes.
        assert!(died.elapsed() < LEASE * 2 + Duration::from_secs(2), "{:?}", died.elapsed());
        let mut expected = vec![Call::Ensure(id, 1)];
        expected.extend((wanted == DesiredState::Paused).then_some(Call::Stop(id)));
        assert_eq!(backend.done(), expected);
        assert_eq!(expected.len(), done);
        let removing = two.fleet.remove(id, Removal { confirmed: true, purge: true });
        removing.await.unwrap();
        assert!(backend.running().is_empty());
        next.abort();
        one.fleet.store().release_leases(two.fleet.state().server()).await.unwrap();
    }
}

fn pushed(name: &str) -> crate::NewWorkspace {
    crate::NewWorkspace {
        url: Some("http://localhost:9".to_owned()),
        delivery_mode: Some("push".to_owned()),
        ..new(name, "external", None)
    }
}

#[tokio::test]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_heartbeat_on_another_server_counts() {
    let database = Database::postgres().await;
    let (one, two) = (Replica::new(&database, None).await, Replica::new(&database, None).await);
    let long_ago = store::now() - TimeDelta::hours(1);
    let lease = two.fleet.store().lease("test", ServerId::random(), Duration::from_secs(60)).await.unwrap();
    let fence = lease.unwrap().fence;
    // One agent that called, and one that never did.
    for (name, called) in [("called", store::now()), ("silent", long_ago)] {
        let row = one.fleet.create(pushed(name), "test").await.unwrap().row;
        assert_eq!(row.status, Status::Online);
        let old = WorkspaceRow { status_since: long_ago, ..row.clone() }.revised(store::now());
        one.fleet.state().commit(Change::of(UpdateWorkspaces(vec![old]))).await.unwrap();
        let presence =
            PresenceRow { workspace_id: row.id, last_seen_at: Some(called), ..PresenceRow::default() };
        one.fleet.state().write_behind(presence.clone()).await;
        let stored = async || one.fleet.store().workspaces(&[row.id]).await.unwrap()[0].presence.is_some();
        until("it is written down", &one.fleet, stored).await;
        two.fleet.state().refresh(&[row.id]).await.unwrap();
        two.fleet.workspaces().put_presence(PresenceRow { last_seen_at: Some(long_ago), ..presence });
        let again = two.fleet.reconcile_one(row.id, &fence).await.unwrap();
        if called == long_ago {
            assert_eq!(two.row(row.id).await.status, Status::AwaitingAgent);
        } else {
            assert!(again.is_some_and(|at| at > store::now()), "it is looked at when it may be silent");
            assert_eq!(two.row(row.id).await.status, Status::Online);
        }
    }
    drop((one, two));
}

#[tokio::test]
#[ignore = "needs TEST_DATABASE_URL"]
async fn presence_reaches_the_other_servers() {
    let database = Database::postgres().await;
    let [one, two, three] = three(&database).await;
    let id = one.fleet.create(pushed("one"), "test").await.unwrap().row.id;
    for replica in [&two, &three] {
        until("it is known", &replica.fleet, async || replica.fleet.workspaces().get(id).is_some()).await;
    }
    // No change of its status, so nothing is recorded; and each time by another server.
    for (number, here) in (1..).zip([&one, &two, &one]) {
        let report = crate::Report {
            id,
            error_rate: 0.25,
            active_tasks: number,
            current_task: format!("task {number}"),
            uptime_seconds: 60,
            monthly_spend: 7,
            ..crate::Report::default()
        };
        here.fleet.heartbeat(report).await.unwrap();
        let said = here.fleet.workspaces().get(id).unwrap().presence.clone().unwrap();
        assert_eq!(said.active_tasks, number);
        for there in [&one, &two, &three] {
            let known = || there.fleet.workspaces().get(id).unwrap().presence.clone();
            until("it is known", &there.fleet, async || known().as_ref() == Some(&said)).await;
        }
    }
    drop((one, two, three));
}

#[tokio::test]
async fn a_wedged_report_outlasts_the_server_that_received_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::sqlite(&dir.path().join("isomer.db")).await;
    for (state, after_a_beat_without_it) in [(Some("wedged"), Status::Degraded), (None, Status::Online)] {
        let (one, _) = testing::open(store.clone(), None, Limits::default()).await;
        let name = state.unwrap_or("failing");
        let id = one.create(pushed(name), "test").await.unwrap().row.id;
        let said = |state: Option<&str>, error_rate| crate::Report {
            id,
            error_rate,
            runtime_state: state.map(str::to_owned),
            ..crate::Report::default()
        };
        let status = |fleet: &Fleet| fleet.workspaces().get(id).unwrap().row.status;
        // A healthy report, which another server received as well.
        let (other, _) = testing::open(store.clone(), None, Limits::default()).await;
        other.heartbeat(said(Some(""), 0.0)).await.unwrap();
        one.heartbeat(said(state, 0.9)).await.unwrap();
        assert_eq!(status(&one), Status::Degraded);
        other.state().refresh(&[id]).await.unwrap();
        let (next, _) = testing::open(store.clone(), None, Limits::default()).await;
        for fleet in [&next, &other] {
            fleet.state().refresh(&[id]).await.unwrap();
            fleet.heartbeat(said(None, 0.0)).await.unwrap();
            assert_eq!(status(fleet), after_a_beat_without_it, "{name}");
        }
        next.state().refresh(&[id]).await.unwrap();
        next.heartbeat(said(Some(""), 0.0)).await.unwrap();
        assert_eq!(status(&next), Status::Online);
    }
}
