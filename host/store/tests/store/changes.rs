//! Changes: all or nothing, checks, compare-and-swap, names, many rows at once, purge.

use events::{
    Event,
    definitions::{Empty, Task},
};
use futures::future::join_all;
use store::{
    Change, CommitError, EventFilter, Fence, LeaseIsHeld, Precondition, Store, Writer,
    layouts::{LayoutRow, PutLayouts},
    secrets::{PutSecrets, SecretRow},
    tokens::{FewerTokensThan, InsertToken, RevokeToken, RevokeTokensOf, RevokedBy, TokenKind},
    workspaces::{
        DesiredState, InsertWorkspaces, NoCycle, NoOtherChildren, PausedAbove, PurgeWorkspaces, Status,
        UpdateWorkspaces, WorkspaceIsLive, WorkspaceRow,
    },
};
use types::{EventId, EventSeq, Owner, ServerId, WorkspaceId};

use crate::database::{Database, child, on_both, stored, token, workspace, writer};

fn inserting(rows: &[WorkspaceRow]) -> Change {
    Change::of(InsertWorkspaces(rows.to_vec()))
}

fn updating(rows: &[WorkspaceRow]) -> Change {
    Change::of(UpdateWorkspaces(rows.to_vec()))
}

fn offline() -> Event {
    Event::WorkspaceOffline(Empty {})
}

fn renamed(row: &WorkspaceRow, name: &str) -> WorkspaceRow {
    WorkspaceRow { name: name.to_owned(), ..row.clone() }.revised(store::now())
}

fn removed(row: &WorkspaceRow) -> WorkspaceRow {
    let (status, desired, now) = (Status::Removed, DesiredState::Removed, store::now());
    WorkspaceRow { status, desired, removed_at: Some(now), ..row.clone() }.revised(now)
}

async fn allowed(writer: &Writer, precondition: impl Precondition) -> bool {
    match writer.commit(Change::default().require(precondition)).await {
        Ok(_) => true,
        Err(CommitError::PreconditionFailed(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn setup(database: &Database) -> (Store, Writer) {
    let store = database.store().await;
    let (writer, ..) = writer(&store);
    (store, writer)
}

on_both! {
    async fn a_row_is_read_as_it_was_written(database: &Database) {
        let (store, writer) = setup(database).await;
        let one = workspace("one");
        let layout = LayoutRow { workspace_id: one.id, x: 1.5, y: -2.0, collapsed: true };
        let mut change = inserting(std::slice::from_ref(&one));
        change.push(PutLayouts(vec![layout]));
        let events = writer.commit(change.with_event(one.id, offline())).await.unwrap();
        assert_eq!(events.len(), 1);
        let loaded = store.live_workspaces().await.unwrap().pop().unwrap();
        assert_eq!((&loaded.row, loaded.layout, loaded.presence), (&one, Some(layout), None));
        let read = store.events_after(EventSeq::START, 9).await.unwrap();
        assert_eq!(read[0].frame(), events[0].frame());
        assert_eq!(read[0].id(), events[0].id());
        assert_eq!(stored(&store, WorkspaceId::random()).await, None);
    }

    async fn a_change_is_atomic(database: &Database) {
        let (store, writer) = setup(database).await;
        let one = workspace("one");
        writer.commit(inserting(std::slice::from_ref(&one))).await.unwrap();
        // The last write fails, after others that didn't.
        let mut change = inserting(&[workspace("two")]).with_event(one.id, offline());
        change.push(UpdateWorkspaces(vec![one.clone()]));
        assert!(matches!(writer.commit(change).await, Err(CommitError::Conflict)));
        assert_eq!(store.live_workspaces().await.unwrap().len(), 1);
        assert_eq!(store.last_event().await.unwrap(), EventSeq::START);
    }

    async fn a_conflict_fails_its_own_change_and_no_other_of_the_group(database: &Database) {
        let (store, writer) = setup(database).await;
        let one = workspace("one");
        writer.commit(inserting(std::slice::from_ref(&one))).await.unwrap();
        let good = (0..20).map(|number| inserting(&[workspace(&number.to_string())]).with_event(one.id, offline()));
        // Both begin from the same revision: one of them is made.
        let rivals = ["left", "right"].map(|name| updating(&[renamed(&one, name)]).with_event(one.id, offline()));
        let refused = inserting(&[workspace("refused")]).require(WorkspaceIsLive(WorkspaceId::random()));
        let all: Vec<Change> = good.chain(rivals).chain([refused]).collect();
        let made = join_all(all.into_iter().map(|change| writer.commit(change))).await;
        assert!(made[..20].iter().all(Result::is_ok));
        assert!(matches!(
            (&made[20], &made[21]),
            (Ok(_), Err(CommitError::Conflict)) | (Err(CommitError::Conflict), Ok(_))
        ));
        let Err(CommitError::PreconditionFailed(failed)) = &made[22] else { panic!("{:?}", made[22]) };
        assert!(failed.is::<WorkspaceIsLive>());
        assert_eq!(store.live_workspaces().await.unwrap().len(), 21);
        let seqs: Vec<_> = store.events_after(EventSeq::START, 99).await.unwrap().iter().filter_map(|it| it.seq()).collect();
        assert_eq!(seqs, (1..=21).map(EventSeq).collect::<Vec<_>>());
    }

    async fn only_the_next_revision_is_written(database: &Database) {
        let (store, writer) = setup(database).await;
        let one = workspace("one");
        writer.commit(inserting(std::slice::from_ref(&one))).await.unwrap();
        for revision in [-1, 0, 1, 3, 9] {
            let wrong = WorkspaceRow { revision, ..one.clone() };
            assert!(matches!(writer.commit(updating(&[wrong])).await, Err(CommitError::Conflict)), "{revision}");
        }
        let next = renamed(&one, "next");
        writer.commit(updating(std::slice::from_ref(&next))).await.unwrap();
        assert_eq!(stored(&store, one.id).await, Some(next));
        let unknown = workspace("unknown").revised(store::now());
        assert!(matches!(writer.commit(updating(&[unknown])).await, Err(CommitError::Conflict)));
    }

    async fn many_rows_are_written_as_one(database: &Database) {
        let (store, writer) = setup(database).await;
        for count in [0, 1, 2, 1_200] {
            let rows: Vec<_> = (0..count).map(|number| workspace(&format!("{number} of {count}"))).collect();
            writer.commit(inserting(&rows)).await.unwrap();
            let next: Vec<_> = rows.iter().map(|row| renamed(row, &format!("{} again", row.name))).collect();
            let mut change = updating(&next);
            change.events = next.iter().map(|row| (Some(row.id), offline())).collect();
            assert_eq!(writer.commit(change).await.unwrap().len(), count);
            let Some(last) = next.last() else { continue };
            assert_eq!(stored(&store, last.id).await.as_ref(), Some(last));
            // One of them is not as it was, or not there: none is written.
            let mut mixed: Vec<_> = next.iter().map(|row| renamed(row, &format!("{} thrice", row.name))).collect();
            mixed.last_mut().unwrap().revision += 1;
            assert!(matches!(writer.commit(updating(&mixed)).await, Err(CommitError::Conflict)));
            mixed.pop();
            mixed.push(workspace("unknown"));
            assert!(matches!(writer.commit(updating(&mixed)).await, Err(CommitError::Conflict)));
            let ids: Vec<WorkspaceId> = next.iter().map(|row| row.id).collect();
            let mut read: Vec<_> = store.workspaces(&ids).await.unwrap().into_iter().map(|it| it.row).collect();
            let mut next = next;
            read.sort_by_key(|row| row.id);
            next.sort_by_key(|row| row.id);
            assert_eq!(read, next);
        }
    }

    async fn checks_hold_or_refuse(database: &Database) {
        let (store, writer) = setup(database).await;
        let root = workspace("root");
        let [middle, other] = [child("middle", root.id), child("other", root.id)];
        let leaf = child("leaf", middle.id);
        writer.commit(inserting(&[root.clone(), middle.clone(), other.clone(), leaf.clone()])).await.unwrap();

        assert!(allowed(&writer, WorkspaceIsLive(leaf.id)).await);
        assert!(!allowed(&writer, WorkspaceIsLive(WorkspaceId::random())).await);

        let all_but_leaf = vec![root.id, middle.id, other.id];
        assert!(!allowed(&writer, NoOtherChildren(vec![root.id])).await);
        assert!(!allowed(&writer, NoOtherChildren(all_but_leaf.clone())).await);
        assert!(allowed(&writer, NoOtherChildren(vec![leaf.id])).await);

        for (child, parent, holds) in [
            (root.id, leaf.id, false),
            (root.id, middle.id, false),
            (root.id, root.id, false),
            (leaf.id, root.id, true),
            (middle.id, other.id, true),
            (other.id, leaf.id, true),
        ] {
            assert_eq!(allowed(&writer, NoCycle { child, parent }).await, holds);
        }

        for (id, is_paused) in [(root.id, false), (middle.id, true), (leaf.id, true), (other.id, false)] {
            let paused = WorkspaceRow { status: Status::Paused, ..middle.clone() }.revised(store::now());
            if id == root.id {
                assert!(allowed(&writer, PausedAbove { id: leaf.id, is_paused: false }).await);
                writer.commit(updating(&[paused])).await.unwrap();
            }
            assert!(allowed(&writer, PausedAbove { id, is_paused }).await);
            assert!(!allowed(&writer, PausedAbove { id, is_paused: !is_paused }).await);
        }

        for number in 0..3 {
            let few = |limit| FewerTokensThan { workspace: root.id, limit };
            assert!(allowed(&writer, few(number + 1)).await);
            assert!(!allowed(&writer, few(number)).await);
            let mint = InsertToken(token(Owner::Workspace(root.id), TokenKind::User));
            writer.commit(Change::of(mint)).await.unwrap();
        }

        let holder = ServerId::random();
        let held = store.lease("checks", holder, std::time::Duration::from_secs(9)).await.unwrap().unwrap();
        assert!(allowed(&writer, LeaseIsHeld(held.fence.clone())).await);
        assert!(!allowed(&writer, LeaseIsHeld(Fence { epoch: held.fence.epoch + 1, ..held.fence.clone() })).await);
        assert!(!allowed(&writer, LeaseIsHeld(Fence { holder: ServerId::random(), ..held.fence })).await);

        // Removed workspaces are not live and not listed as children.
        writer.commit(updating(&[removed(&leaf)])).await.unwrap();
        assert!(!allowed(&writer, WorkspaceIsLive(leaf.id)).await);
        assert!(allowed(&writer, NoOtherChildren(all_but_leaf)).await);
    }

    async fn names_are_unique_among_live_siblings(database: &Database) {
        let (_, writer) = setup(database).await;
        let [root, second] = [workspace("root"), workspace("second")];
        let one = child("one", root.id);
        writer.commit(inserting(&[root.clone(), second.clone(), one.clone()])).await.unwrap();
        let taken = |made: Result<_, CommitError>| matches!(made, Err(CommitError::NameTaken));
        assert!(taken(writer.commit(inserting(&[workspace("root")])).await));
        assert!(taken(writer.commit(inserting(&[child("one", root.id)])).await));
        assert!(taken(writer.commit(updating(&[renamed(&second, "root")])).await));
        writer.commit(inserting(&[child("one", second.id), child("root", root.id)])).await.unwrap();
        // By many at once, too.
        let both = [renamed(&root, "same"), renamed(&second, "same")];
        assert!(taken(writer.commit(updating(&both)).await));
        // A name is free again when its workspace is removed.
        writer.commit(updating(&[removed(&one)])).await.unwrap();
        writer.commit(inserting(&[child("one", root.id)])).await.unwrap();
        writer.commit(updating(&[removed(&second)])).await.unwrap();
        writer.commit(inserting(&[workspace("second")])).await.unwrap();
    }

    async fn a_token_is_revoked_once(database: &Database) {
        let (store, writer) = setup(database).await;
        let one = workspace("one");
        let [mine, yours] = [token(Owner::Workspace(one.id), TokenKind::User), token(Owner::Organization, TokenKind::Org)];
        let mut change = inserting(std::slice::from_ref(&one));
        [&mine, &yours].into_iter().for_each(|row| change.push(InsertToken(row.clone())));
        writer.commit(change).await.unwrap();
        assert_eq!(store.live_tokens().await.unwrap().len(), 2);
        let revoke = |by| Change::of(RevokeToken { id: yours.id, by });
        writer.commit(revoke(RevokedBy::Request)).await.unwrap();
        assert!(matches!(writer.commit(revoke(RevokedBy::Sweep)).await, Err(CommitError::Conflict)));
        let ended = store.token(yours.id).await.unwrap().unwrap();
        assert_eq!(ended.revoked_by, Some(RevokedBy::Request));
        let all = RevokeTokensOf { workspaces: vec![one.id], by: RevokedBy::Removal };
        writer.commit(Change::of(all)).await.unwrap();
        assert!(store.live_tokens().await.unwrap().is_empty());
        let hash: [u8; 32] = mine.hash.as_slice().try_into().unwrap();
        let ended = store.token_by_hash(&hash).await.unwrap().unwrap();
        assert_eq!((ended.id, ended.revoked_by), (mine.id, Some(RevokedBy::Removal)));
    }

    async fn secrets_are_replaced_and_keep_their_age(database: &Database) {
        let (store, writer) = setup(database).await;
        let one = workspace("one");
        writer.commit(inserting(std::slice::from_ref(&one))).await.unwrap();
        for owner in [Owner::Workspace(one.id), Owner::Organization] {
            let now = store::now();
            let first = SecretRow {
                owner,
                key: "KEY".to_owned(),
                value: vec![1, 2, 3],
                version: 1,
                created_at: now,
                updated_at: now,
            };
            let later = now + chrono::TimeDelta::seconds(9);
            let second = SecretRow { value: vec![4], version: 2, created_at: later, updated_at: later, ..first.clone() };
            writer.commit(Change::of(PutSecrets(vec![first.clone()]))).await.unwrap();
            writer.commit(Change::of(PutSecrets(vec![second.clone()]))).await.unwrap();
            let read = match owner {
                Owner::Workspace(id) => store.workspace_secrets(id).await.unwrap(),
                Owner::Organization => store.global_secrets().await.unwrap(),
            };
            assert_eq!(read, [SecretRow { created_at: first.created_at, ..second }]);
        }
    }

    async fn a_purge_deletes_all_rows_of_its_workspaces_and_no_others(database: &Database) {
        let (store, writer) = setup(database).await;
        let [gone, kept] = [workspace("gone"), workspace("kept")];
        let orphan = child("orphan", gone.id);
        let now = store::now();
        let mut change = inserting(&[gone.clone(), kept.clone(), orphan.clone()]);
        for id in [gone.id, kept.id] {
            change.push(InsertToken(token(Owner::Workspace(id), TokenKind::Agent)));
            change.push(PutLayouts(vec![LayoutRow { workspace_id: id, x: 0.0, y: 0.0, collapsed: false }]));
            change.push(PutSecrets(vec![SecretRow {
                owner: Owner::Workspace(id), key: "KEY".to_owned(), value: vec![1], version: 1, created_at: now, updated_at: now,
            }]));
            change.events.push((Some(id), offline()));
        }
        writer.commit(change).await.unwrap();
        let last = Change::of(PurgeWorkspaces(vec![gone.id])).with_event(gone.id, offline());
        writer.commit(last).await.unwrap();
        assert_eq!(stored(&store, gone.id).await, None);
        assert_eq!(stored(&store, orphan.id).await.unwrap().parent_id, None);
        let tokens = store.live_tokens().await.unwrap();
        assert_eq!(tokens.iter().map(|it| it.owner).collect::<Vec<_>>(), [Owner::Workspace(kept.id)]);
        assert!(store.workspace_secrets(gone.id).await.unwrap().is_empty());
        assert_eq!(store.workspace_secrets(kept.id).await.unwrap().len(), 1);
        let of = |workspace| EventFilter { workspace: Some(workspace), limit: 9, ..EventFilter::default() };
        assert_eq!(store.recent_events(&of(kept.id)).await.unwrap().len(), 1);
        // The event of the purge stays, because other servers learn of the purge by it.
        let left = store.recent_events(&of(gone.id)).await.unwrap();
        assert_eq!(left.iter().map(events::Envelope::seq).collect::<Vec<_>>(), [Some(EventSeq(3))]);
    }

    async fn ephemeral_events_take_no_number(database: &Database) {
        let (store, writer) = setup(database).await;
        let task = || Event::TaskUpdated(Task { active_tasks: 1, current_task: "x".to_owned() });
        let change = Change::default().with_event(None, offline()).with_event(None, task()).with_event(None, offline());
        let events = writer.commit(change).await.unwrap();
        let seqs: Vec<_> = events.iter().map(|event| event.seq()).collect();
        assert_eq!(seqs, [Some(EventSeq(1)), None, Some(EventSeq(2))]);
        assert_eq!(store.events_after(EventSeq::START, 9).await.unwrap().len(), 2);
        assert_eq!(store.last_event().await.unwrap(), EventSeq(2));
    }

    async fn the_newest_events_are_found_by_page_and_by_name(database: &Database) {
        let (store, writer) = setup(database).await;
        let one = WorkspaceId::random();
        for _ in 0..3 {
            let internal = Event::WorkspaceChanged(Empty {});
            writer.commit(Change::default().with_event(one, offline()).with_event(one, internal)).await.unwrap();
        }
        let page = |before| EventFilter { workspace: Some(one), before, limit: 2, ..EventFilter::default() };
        let first = store.recent_events(&page(None)).await.unwrap();
        assert_eq!(first.iter().map(events::Envelope::seq).collect::<Vec<_>>(), [Some(EventSeq(5)), Some(EventSeq(3))]);
        let next = store.recent_events(&page(Some(first[1].id()))).await.unwrap();
        assert_eq!(next.iter().map(events::Envelope::seq).collect::<Vec<_>>(), [Some(EventSeq(1))]);
        assert!(store.recent_events(&page(Some(EventId::random()))).await.unwrap().is_empty());
        let named = EventFilter { name: Some("WORKSPACE_ONLINE".to_owned()), limit: 9, ..EventFilter::default() };
        assert!(store.recent_events(&named).await.unwrap().is_empty());
    }

    async fn removed_workspaces_are_found_by_parent_and_until_they_converge(database: &Database) {
        let (store, writer) = setup(database).await;
        let root = workspace("root");
        let middle = child("middle", root.id);
        let leaf = child("leaf", middle.id);
        writer.commit(inserting(&[root.clone(), middle.clone(), leaf.clone()])).await.unwrap();
        let stale = WorkspaceRow { container: store::workspaces::Container::Superseded, ..removed(&leaf) };
        writer.commit(updating(&[removed(&middle), stale])).await.unwrap();
        assert_eq!(store.removed_below(root.id).await.unwrap(), [middle.id, leaf.id]);
        let unsettled: Vec<_> = store.removed_unsettled().await.unwrap().iter().map(|row| row.id).collect();
        assert_eq!(unsettled, [leaf.id]);
        let live: Vec<_> = store.live_workspaces().await.unwrap().iter().map(|it| it.row.id).collect();
        assert_eq!(live, [root.id]);
    }
}
