//! Indexes keep the newest of what they are given; commits publish in order.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use chrono::DateTime;
use events::{
    Event, Hub, Received,
    definitions::{Empty, Task},
};
use store::{
    Change, Store,
    guests::{GuestRow, PutGuest},
    presence::PresenceRow,
    tokens::{InsertToken, RevokeToken, RevokedBy, TokenKind, TokenRow},
    workspaces::{
        Container, DeliveryMode, DesiredState, Hosting, InsertWorkspaces, LoadedWorkspace, PurgeWorkspaces,
        Status, UpdateWorkspaces, WorkspaceAccess, WorkspaceRow,
    },
};
use types::{Owner, TokenId, WorkspaceId, WorkspaceSpec};

use crate::{Index as _, State, TokenIndex, WorkspaceIndex};

async fn open(dir: &Path) -> State {
    let store = Store::connect(&format!("sqlite:{}", dir.join("isomer.db").display())).await.unwrap();
    State::open(store, Hub::default()).await.unwrap().0
}

fn token(workspace: WorkspaceId) -> TokenRow {
    let id = TokenId::random();
    TokenRow {
        id,
        kind: TokenKind::User,
        owner: Owner::Workspace(workspace),
        hash: [id.0.into_bytes(), id.0.into_bytes()].concat(),
        prefix: "abcdefgh".to_owned(),
        name: None,
        created_by: None,
        org_id: None,
        created_at: store::now(),
        last_used_at: None,
        revoked_at: None,
        revoked_by: None,
        root: None,
    }
}

pub(crate) fn row(name: &str) -> WorkspaceRow {
    let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    WorkspaceRow {
        id: WorkspaceId::random(),
        name: name.to_owned(),
        role: None,
        tier: 3,
        runtime: "langgraph".to_owned(),
        hosting: Hosting::Container,
        parent_id: None,
        delivery_mode: DeliveryMode::Push,
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        budget_limit: None,
        max_concurrent_tasks: 1,
        hibernation_idle_minutes: None,
        spec: WorkspaceSpec::default(),
        desired: DesiredState::Running,
        generation: 1,
        status: Status::Provisioning,
        status_since: at,
        observed_generation: 0,
        container: Container::None,
        attempt: 0,
        attempt_at: None,
        failures: 0,
        retry_at: None,
        conditions: Vec::new(),
        url: None,
        agent_card: None,
        last_sample_error: None,
        revision: 1,
        created_at: at,
        updated_at: at,
        removed_at: None,
    }
}

#[test]
fn an_older_read_does_not_restore_a_revoked_token() {
    let (tokens, workspace) = (TokenIndex::default(), WorkspaceId::random());
    let new = || token(workspace);
    let insert = |new: &TokenRow| Change::of(InsertToken(new.clone()));
    let [revoked, dropped, ended] = [new(), new(), new()];
    for new in [&revoked, &dropped, &ended] {
        // Its event may be read before the writer applies its change.
        tokens.refresh_row(new.id, Some(new.clone()));
        tokens.apply(&insert(new));
    }
    assert_eq!(tokens.of(Owner::Workspace(workspace)).len(), 3, "each is there once");
    tokens.apply(&Change::of(RevokeToken { id: revoked.id, by: RevokedBy::Request }));
    tokens.refresh_row(ended.id, None);
    assert_eq!(tokens.of(Owner::Workspace(workspace)).len(), 1);
    tokens.drop_of(&[workspace]);
    for new in [&revoked, &dropped, &ended] {
        tokens.refresh_row(new.id, Some(new.clone()));
        tokens.apply(&insert(new));
        assert!(!tokens.of(Owner::Workspace(workspace)).iter().any(|live| live.row.id == new.id));
    }
    assert!(!tokens.has_any(workspace) && tokens.is_empty());
    assert!(tokens.ever_had_any(workspace));
    tokens.apply(&Change::of(PurgeWorkspaces(vec![workspace])));
    assert!(!tokens.ever_had_any(workspace));
}

#[test]
fn an_older_read_does_not_restore_a_removed_workspace() {
    let index = WorkspaceIndex::default();
    let loaded = |row: &WorkspaceRow| LoadedWorkspace { row: row.clone(), layout: None, presence: None };
    let [purged, removed, coming] = ["purged", "removed", "coming"].map(row);
    for row in [&purged, &removed] {
        index.refresh_rows(&[row.id], vec![loaded(row)]);
    }
    index.refresh_rows(&[purged.id], Vec::new());
    let (status, desired) = (Status::Removed, DesiredState::Removed);
    let gone = WorkspaceRow { status, desired, ..removed.clone() }.revised(store::now());
    index.refresh_rows(&[removed.id], vec![loaded(&gone)]);
    for row in [&purged, &removed] {
        index.refresh_rows(&[row.id], vec![loaded(row)]);
        index.apply(&Change::of(UpdateWorkspaces(vec![row.clone()])));
    }
    assert!(index.is_empty());
    assert!(index.children(None).is_empty());
    // An id that was read before its row was inserted was not purged.
    index.refresh_rows(&[coming.id], Vec::new());
    index.apply(&Change::of(InsertWorkspaces(vec![coming.clone()])));
    assert_eq!(index.len(), 1);
}

#[test]
fn a_purged_id_is_used_again_also_after_the_clock_was_set_back() {
    let (index, first) = (WorkspaceIndex::default(), row("first"));
    index.apply(&Change::of(InsertWorkspaces(vec![first.clone()])));
    let (status, desired) = (Status::Removed, DesiredState::Removed);
    let removed = WorkspaceRow { status, desired, ..first.clone() }.revised(store::now());
    index.apply(&Change::of(UpdateWorkspaces(vec![removed])));
    index.apply(&Change::of(PurgeWorkspaces(vec![first.id])));
    let created_at = first.created_at - chrono::Duration::hours(1);
    let second = WorkspaceRow { name: "second".to_owned(), created_at, ..first };
    index.apply(&Change::of(InsertWorkspaces(vec![second.clone()])));
    assert_eq!(index.get(second.id).unwrap().row.name, "second");
}

#[test]
fn the_newer_presence_wins() {
    let (index, row) = (WorkspaceIndex::default(), row("one"));
    let at = |seconds| DateTime::from_timestamp(seconds, 0);
    let presence = |seen, sent, active_tasks| PresenceRow {
        workspace_id: row.id,
        last_seen_at: at(seen),
        last_outbound_at: at(sent),
        active_tasks,
        ..PresenceRow::default()
    };
    for (number, (read, expected)) in [
        (presence(100, 50, 1), presence(100, 50, 1)),
        (presence(90, 60, 2), presence(100, 60, 1)),
        (presence(110, 40, 3), presence(110, 60, 3)),
    ]
    .into_iter()
    .enumerate()
    {
        // The last time without anything new in the row itself.
        let row = WorkspaceRow { revision: 1 + (number as i64).min(1), ..row.clone() };
        index.refresh_rows(&[row.id], vec![LoadedWorkspace { row, layout: None, presence: Some(read) }]);
        assert_eq!(index.get(expected.workspace_id).unwrap().presence.as_deref(), Some(&expected));
    }
}

#[tokio::test]
async fn a_commit_publishes_durable_and_ephemeral_events_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path()).await;
    let mut events = state.hub().subscribe(9, |_| true);
    let task = Event::TaskUpdated(Task { active_tasks: 1, current_task: "x".to_owned() });
    let recorded = Event::WorkspaceOffline(Empty {});
    state.commit(Change::default().with_event(None, task.clone())).await.unwrap();
    state
        .commit(Change::default().with_event(None, recorded.clone()).with_event(None, task.clone()))
        .await
        .unwrap();
    for expected in [&task, &recorded, &task] {
        let Some(Received::Event(event)) = events.try_next() else { panic!("no event") };
        assert_eq!(event.event().as_ref(), Some(expected));
    }
    assert!(events.try_next().is_none());
}

#[tokio::test]
async fn event_times_strictly_grow() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path()).await;
    let mut events = state.hub().subscribe(1_000, |_| true);
    let (id, task) = (WorkspaceId::random(), Task { active_tasks: 1, current_task: "x".to_owned() });
    for _ in 0..5 {
        for _ in 0..100 {
            state.publish_ephemeral(id, &Event::TaskUpdated(task.clone()));
        }
        state.commit(Change::default().with_event(id, Event::WorkspaceOffline(Empty {}))).await.unwrap();
    }
    let mut times = Vec::new();
    while let Some(Received::Event(event)) = events.try_next() {
        times.push(event.at());
    }
    assert_eq!(times.len(), 505);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
}

fn guest() -> PutGuest {
    let row = GuestRow {
        name: "mine".to_owned(),
        world: "adapter".to_owned(),
        component: None,
        trusted: false,
        enabled: true,
        pooled: false,
        settings: serde_json::json!({}),
        description: None,
        revision: 0,
        created_at: store::now(),
    };
    PutGuest { row, releases: Vec::new() }
}

#[tokio::test]
async fn a_change_of_guests_is_published_without_another_commit() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path()).await;
    let mut events = state.hub().subscribe(16, |_| true);
    state.store().commit_guests(vec![guest()]).await.unwrap();
    tokio::select! {
        ended = state.follow(|| {}) => panic!("{ended:?}"),
        received = events.next() => {
            let Received::Event(event) = received else { panic!("{received:?}") };
            assert_eq!(event.name(), "isomer.guest.changed");
        }
    }
}

#[tokio::test]
async fn ephemeral_events_of_a_change_come_after_its_stored_ones_also_after_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path()).await;
    let one = row("one");
    state.commit(Change::of(InsertWorkspaces(vec![one.clone()]))).await.unwrap();
    let mut events = state.hub().subscribe(16, |_| true);
    // Takes a number that the observer of the writer is not given.
    state.store().commit_guests(vec![guest()]).await.unwrap();
    let task = Event::TaskUpdated(Task { active_tasks: 1, current_task: String::new() });
    let mut change = Change::default();
    change.events = vec![(Some(one.id), Event::WorkspaceOffline(Empty {})), (Some(one.id), task.clone())];
    state.commit(change).await.unwrap();
    let mut later = Change::default();
    later.events = vec![(Some(one.id), task)];
    state.commit(later).await.unwrap();
    let received = async {
        let mut names = Vec::new();
        while names.len() < 4 {
            let Received::Event(event) = events.next().await else { panic!("the hub closed") };
            names.push(event.name().to_owned());
        }
        names
    };
    let names = tokio::select! {
        ended = state.follow(|| {}) => panic!("{ended:?}"),
        names = received => names,
    };
    assert_eq!(names, ["isomer.guest.changed", "WORKSPACE_OFFLINE", "TASK_UPDATED", "TASK_UPDATED"]);
}
