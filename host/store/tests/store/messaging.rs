//! Activity in the order of commits, and the queue of messages.

use std::{collections::HashSet, time::Duration as StdDuration};

use chrono::Duration;
use futures::future::join_all;
use store::{
    Change, Store, Writer,
    activity::{ActivityFilter, ActivityRow, InsertActivity, StartedActivity},
    message_keys::{ClaimHolder, MessageClaim, ReleaseMessage},
    queue::{Capacity, Claim, Enqueued, NewQueued, Outcome, QueueFull, QueueStatus, QueuedRow, Room, Swept},
    workspaces::{InsertWorkspaces, PurgeWorkspaces, Status, UpdateWorkspaces, WorkspaceRow},
};
use tokio::time::timeout;
use types::{ActivityId, QueueItemId, ServerId, WorkspaceId};

use crate::database::{Database, WAIT_TIMEOUT, on_both, workspace, writer};

pub fn said(workspace_id: WorkspaceId, summary: &str) -> ActivityRow {
    ActivityRow {
        id: ActivityId::random(),
        workspace_id,
        activity_type: "agent_log".to_owned(),
        source_id: None,
        target_id: None,
        method: None,
        summary: Some(summary.to_owned()),
        request_body: None,
        response_body: None,
        tool_trace: None,
        duration_ms: None,
        status: "ok".to_owned(),
        error_detail: None,
        key: None,
        answer: None,
        created_at: store::now(),
    }
}

pub fn all(workspace: WorkspaceId) -> ActivityFilter {
    ActivityFilter {
        workspace,
        activity_type: None,
        by_agents: None,
        peer: None,
        before: None,
        since: None,
        after: None,
        oldest_first: false,
        limit: 10_000,
        bytes: u64::MAX,
    }
}

fn message(workspace_id: WorkspaceId, key: &str) -> NewQueued {
    NewQueued {
        workspace_id,
        caller_id: None,
        body: format!("\"{key}\""),
        method: "m".to_owned(),
        key: Some(key.to_owned()),
        expires_at: None,
        hops: 0,
        headers: None,
    }
}

async fn with_one(database: &Database) -> (Store, Writer, WorkspaceRow) {
    let store = database.store().await;
    let (writer, ..) = writer(&store);
    let row = workspace("one");
    writer.commit(Change::of(InsertWorkspaces(vec![row.clone()]))).await.unwrap();
    (store, writer, row)
}

const MAX: i32 = 2;

fn capacity(max: i32) -> Capacity {
    Capacity { max, active: 0, reported_at: None }
}

async fn claim(store: &Store, workspace: WorkspaceId, server: ServerId) -> Option<QueuedRow> {
    let claim = store.claim_queued(workspace, server, capacity(100), Duration::minutes(5)).await.unwrap();
    match claim {
        Claim::Taken(row) => Some(*row),
        Claim::Later | Claim::Empty => None,
    }
}

const ROOM: Room = Room { messages: 1_000, bytes: 1 << 30, total_bytes: 1 << 30 };

async fn enqueue(store: &Store, new: NewQueued) -> (QueueItemId, u64) {
    match store.enqueue(new, None, store::now() - Duration::hours(1), &ROOM).await.unwrap() {
        Enqueued::Waits(queued) => (queued.id, queued.depth),
        Enqueued::Full(full) => panic!("{full}"),
    }
}

/// What there is no room for, if there is none.
async fn enqueue_in(store: &Store, new: NewQueued, room: Room) -> Option<QueueFull> {
    match store.enqueue(new, None, store::now() - Duration::hours(1), &room).await.unwrap() {
        Enqueued::Waits(_) => None,
        Enqueued::Full(full) => Some(full),
    }
}

/// The ids of the workspaces for which messages wait.
async fn sweep(store: &Store, server: ServerId, requeue_others: bool) -> Vec<WorkspaceId> {
    let running = HashSet::new();
    let sweep = Swept {
        server,
        running: &running,
        requeue_others,
        max_attempts: MAX,
        longest_wait: Duration::minutes(5),
    };
    store.sweep_queue(&sweep).await.unwrap().into_iter().map(|waiting| waiting.id).collect()
}

fn attempted(error: &str) -> Outcome {
    Outcome::Attempted {
        error: error.to_owned(),
        max_attempts: MAX,
        not_before: store::now() + Duration::hours(1),
    }
}

on_both! {
    async fn times_increase_across_writers(database: &Database) {
        let (store, _writer, row) = with_one(database).await;
        let (one, one_written, _) = writer(&store);
        let (other, other_written, _) = writer(&database.store().await);
        let at = store::now();
        let write = async |writer: &Writer, number: i64| {
            // Clocks differ, and some wait longer than others.
            let row = ActivityRow { created_at: at + Duration::microseconds(number % 7), ..said(row.id, "x") };
            match number % 3 {
                0 => drop(writer.commit(Change::of(InsertActivity(vec![row]))).await.unwrap()),
                _ => assert!(writer.write_behind(row).await),
            }
        };
        join_all((0..300).map(|number| write(if number % 2 == 0 { &one } else { &other }, number))).await;
        drop((one, other));
        for written in [one_written, other_written] {
            timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        }
        let rows = store.activity(&all(row.id)).await.unwrap().rows;
        assert_eq!(rows.len(), 300);
        assert!(rows.is_sorted_by(|newer, older| newer.created_at > older.created_at));
        // From any row on, those after it and no others.
        let place = store.activity_place(row.id, rows[100].id).await.unwrap();
        let after = store.activity(&ActivityFilter { after: place, ..all(row.id) }).await.unwrap().rows;
        assert!(after.iter().eq(rows[..100].iter().rev()));
        assert_eq!(store.activity_place(WorkspaceId::random(), rows[100].id).await.unwrap(), None);
    }

    async fn activity_is_stored_once_and_for_existing_workspaces_only(database: &Database) {
        let (store, writer, row) = with_one(database).await;
        let twice = said(row.id, "twice");
        for _ in 0..2 {
            writer.commit(Change::of(InsertActivity(vec![twice.clone()]))).await.unwrap();
        }
        let (behind, written, _) = crate::database::writer(&store);
        behind.write_behind(said(WorkspaceId::random(), "of no workspace")).await;
        let odd = ActivityRow { method: Some("a\0b".to_owned()), ..said(row.id, "odd") };
        behind.write_behind(odd).await;
        drop(behind);
        timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        let rows = store.activity(&all(row.id)).await.unwrap().rows;
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].method.as_deref(), Some("a\u{fffd}b"));
        assert_eq!(rows[1], twice);
        assert_eq!(store.delete_activity_before(rows[0].created_at).await.unwrap(), 1);
        assert_eq!(store.activity(&all(row.id)).await.unwrap().rows, rows[..1]);
        writer.commit(Change::of(PurgeWorkspaces(vec![row.id]))).await.unwrap();
        assert_eq!(store.activity(&all(row.id)).await.unwrap().rows, []);
    }

    async fn a_delivery_that_is_known_by_its_key_leaves_no_row_that_never_ends(database: &Database) {
        let (store, writer, row) = with_one(database).await;
        let keyed = |text| ActivityRow { key: Some("key".to_owned()), ..said(row.id, text) };
        let first = keyed("first");
        writer.commit(Change::of(InsertActivity(vec![first.clone()]))).await.unwrap();
        let again = keyed("again");
        let started = ActivityRow { key: None, status: "pending".to_owned(), ..again.clone() };
        let (behind, written, _) = crate::database::writer(&store);
        behind.write_behind(StartedActivity { row: started, owner: ServerId::random() }).await;
        behind.write_behind(again).await;
        drop(behind);
        timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        let rows = store.activity(&all(row.id)).await.unwrap().rows;
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [first.id]);
    }

    async fn a_release_deletes_its_own_claim_only(database: &Database) {
        let (store, _writer, _) = with_one(database).await;
        let (one, other) = (ServerId::random(), ServerId::random());
        let claim = |owner, second| MessageClaim {
            key: "key".to_owned(), owner, at: store::now() + Duration::seconds(second), hops: 0,
        };
        let since = store::now() - Duration::hours(1);
        let ask = async |claim: &MessageClaim| store.claim_message(claim, since, false).await.unwrap();
        let release = async |claims: &[&MessageClaim]| {
            let (behind, written, _) = writer(&store);
            for claim in claims {
                let claim = (*claim).clone();
                behind.write_behind(ReleaseMessage { claim, is_made: true, is_row_lost: false }).await;
            }
            drop(behind);
            timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        };
        // The release of a delivery that failed waits, while the same server delivers the message again.
        let (first, again, of_other) = (claim(one, 1), claim(one, 2), claim(other, 3));
        assert_eq!(ask(&first).await, ClaimHolder::This);
        assert_eq!(ask(&again).await, ClaimHolder::This);
        release(&[&first, &of_other]).await;
        assert_eq!(ask(&of_other).await, ClaimHolder::Ended, "the second claim is still there");
        release(&[&again, &first]).await;
        assert_eq!(ask(&of_other).await, ClaimHolder::This);
    }

    async fn a_claim_whose_row_is_lost_has_no_owner_from_then_on(database: &Database) {
        let (store, _writer, _) = with_one(database).await;
        let (one, other) = (ServerId::random(), ServerId::random());
        let since = store::now() - Duration::hours(1);
        store.renew_server(one, StdDuration::from_secs(60)).await.unwrap();
        let claims = [0, 1, 2].map(|number| MessageClaim {
            key: number.to_string(), owner: one, at: store::now(), hops: 7,
        });
        let (behind, written, _) = writer(&store);
        for (number, claim) in claims.iter().enumerate() {
            assert_eq!(store.claim_message(claim, since, false).await.unwrap(), ClaimHolder::This);
            if number > 0 {
                let claim = claim.clone();
                behind.write_behind(ReleaseMessage { claim, is_made: true, is_row_lost: number == 2 }).await;
            }
        }
        drop(behind);
        timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        let holder_for = async |claim: &MessageClaim, owner, hops| {
            let claim = MessageClaim { owner, hops, ..claim.clone() };
            store.claim_message(&claim, since, false).await.unwrap()
        };
        let [held, released, lost] = &claims;
        for hops in [0, 7, 8] {
            let (held_by, lost_by) = match (store.is_single_process(), hops) {
                // No other server is there.
                (true, _) => (ClaimHolder::Ended, ClaimHolder::Ended),
                (false, 8) => (ClaimHolder::Loop, ClaimHolder::Ended),
                (false, _) => (ClaimHolder::Another, ClaimHolder::Ended),
            };
            assert_eq!(holder_for(held, other, hops).await, held_by);
            assert_eq!(holder_for(lost, other, hops).await, lost_by);
            // The server itself may not deliver it again either.
            assert_eq!(holder_for(lost, one, hops).await, lost_by);
        }
        assert_eq!(holder_for(released, other, 0).await, ClaimHolder::This);
    }

    async fn messages_are_claimed_once_and_in_order(database: &Database) {
        let (store, _writer, row) = with_one(database).await;
        let server = ServerId::random();
        let mut ids = Vec::new();
        for (number, key) in ["a", "b", "c"].into_iter().enumerate() {
            let (id, depth) = enqueue(&store, message(row.id, key)).await;
            assert_eq!(depth, number as u64 + 1);
            ids.push(id);
        }
        assert_eq!(enqueue(&store, message(row.id, "b")).await, (ids[1], 2), "as deep as it was then");
        let gone = NewQueued { expires_at: Some(store::now()), ..message(row.id, "late") };
        assert_eq!(enqueue(&store, gone).await.1, 4);
        let nameless = || NewQueued { key: None, ..message(row.id, "") };
        assert_eq!(enqueue(&store, nameless()).await.1, 4);
        assert_eq!(enqueue(&store, nameless()).await.1, 5);
        let taken = join_all((0..8).map(|_| claim(&store, row.id, server))).await;
        let mut taken: Vec<QueueItemId> = taken.into_iter().flatten().map(|row| row.id).collect();
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 5, "each once");
        // On its way and delivered, it still is the same message; given up, no more.
        assert_eq!(enqueue(&store, message(row.id, "b")).await.0, ids[1]);
        store.finish_claim(ids[1], 1, &Outcome::Completed).await.unwrap();
        assert_eq!(enqueue(&store, message(row.id, "b")).await.0, ids[1]);
        let found = store.queued_by_key("b", store::now() - Duration::hours(1)).await.unwrap();
        assert_eq!(found.map(|queued| queued.id), Some(ids[1]));
        assert_eq!(store.queued_by_key("b", store::now()).await.unwrap(), None, "a day later, it is another one");
        store.finish_claim(ids[2], 1, &Outcome::Failed("no".to_owned())).await.unwrap();
        let (again, depth) = enqueue(&store, message(row.id, "c")).await;
        assert!(again != ids[2] && depth == 1);
        let of_none = message(WorkspaceId::random(), "x");
        assert!(store.enqueue(of_none, None, store::now(), &ROOM).await.is_err());
        // Keys and methods may be as long as a body.
        let long = NewQueued { method: "m".repeat(600_000), ..message(row.id, "long") };
        enqueue(&store, long).await;
    }

    async fn the_room_of_a_queue_is_counted_for_all_servers(database: &Database) {
        let (store, writer, row) = with_one(database).await;
        let (other, server) = (database.store().await, ServerId::random());
        let two = Room { messages: 2, ..ROOM };
        let full = Some(QueueFull::Messages(2));
        assert_eq!(enqueue_in(&store, message(row.id, "a"), two).await, None);
        assert_eq!(enqueue_in(&other, message(row.id, "b"), two).await, None);
        assert_eq!(enqueue_in(&store, message(row.id, "c"), two).await, full);
        assert_eq!(enqueue_in(&other, message(row.id, "c"), two).await, full);
        // The same message takes no more room, and activity of one without room is not stored.
        assert_eq!(enqueue_in(&other, message(row.id, "a"), two).await, None);
        let refused = store.enqueue(message(row.id, "c"), Some(&said(row.id, "c")), store::now(), &two).await;
        assert_eq!(refused.unwrap(), Enqueued::Full(QueueFull::Messages(2)));
        assert_eq!(store.activity(&all(row.id)).await.unwrap().rows.len(), 0);
        // One on its way takes room until it has ended.
        let taken = claim(&store, row.id, server).await.unwrap();
        assert_eq!(enqueue_in(&store, message(row.id, "c"), two).await, full);
        store.finish_claim(taken.id, taken.claim, &attempted("busy")).await.unwrap();
        assert_eq!(enqueue_in(&store, message(row.id, "c"), two).await, full);
        store.drop_stale_queued(store::now() + Duration::hours(1), None).await.unwrap();
        let soon = NewQueued { expires_at: Some(store::now()), ..message(row.id, "d") };
        assert_eq!(enqueue_in(&store, soon, two).await, None);
        assert_eq!(enqueue_in(&store, message(row.id, "e"), two).await, None);
        assert_eq!(enqueue_in(&store, message(row.id, "f"), two).await, full);
        sweep(&other, server, true).await;
        assert_eq!(enqueue_in(&store, message(row.id, "f"), two).await, None, "one has expired");
        // By bytes, of one workspace and of all. What is deleted with its workspace takes none.
        let second = workspace("two");
        writer.commit(Change::of(InsertWorkspaces(vec![second.clone()]))).await.unwrap();
        let large = |id, key| NewQueued { body: "é".repeat(500), headers: Some("h".repeat(100)), ..message(id, key) };
        let (each, total) = (Room { bytes: 1_100, ..ROOM }, Room { total_bytes: 1_150, ..ROOM });
        assert_eq!(enqueue_in(&store, large(second.id, "a"), each).await, None);
        assert_eq!(enqueue_in(&store, message(second.id, "b"), each).await, Some(QueueFull::Bytes(1_100)));
        assert_eq!(enqueue_in(&store, large(row.id, "g"), total).await, Some(QueueFull::TotalBytes(1_150)));
        for purged in [second, row] {
            writer.commit(Change::of(PurgeWorkspaces(vec![purged.id]))).await.unwrap();
        }
        let third = workspace("three");
        writer.commit(Change::of(InsertWorkspaces(vec![third.clone()]))).await.unwrap();
        assert_eq!(enqueue_in(&store, large(third.id, "a"), total).await, None);
        assert_eq!(enqueue_in(&store, large(third.id, "b"), total).await, Some(QueueFull::TotalBytes(1_150)));
    }

    async fn an_agent_gets_no_more_messages_at_once_than_it_has_capacity_for(database: &Database) {
        let (store, _writer, row) = with_one(database).await;
        let other = database.store().await;
        for number in 0..9 {
            enqueue(&store, message(row.id, &number.to_string())).await;
        }
        let server = ServerId::random();
        let claim = async |store: &Store, capacity: Capacity| {
            match store.claim_queued(row.id, server, capacity, Duration::minutes(5)).await.unwrap() {
                Claim::Taken(row) => Some(*row),
                Claim::Later => None,
                Claim::Empty => panic!("messages wait"),
            }
        };
        // Two servers at the same time.
        let claims = join_all((0..12).map(|number| {
            let store = if number % 2 == 0 { &store } else { &other };
            claim(store, capacity(3))
        })).await;
        let claims: Vec<QueuedRow> = claims.into_iter().flatten().collect();
        assert_eq!(claims.len(), 3);
        // Three tasks that the agent reports now may be these three; of an earlier report, they are others.
        let report = |active, reported_at| Capacity { max: 5, active, reported_at };
        assert_eq!(claim(&store, report(3, Some(claims[0].enqueued_at))).await, None);
        assert!(claim(&store, report(3, Some(store::now() + Duration::minutes(1)))).await.is_some());
        assert_eq!(claim(&store, report(5, Some(store::now() + Duration::minutes(1)))).await, None);
        // A delivery that ended makes room.
        store.finish_claim(claims[0].id, claims[0].claim, &Outcome::Completed).await.unwrap();
        assert!(claim(&store, capacity(4)).await.is_some());
        assert_eq!(claim(&store, capacity(4)).await, None);
    }

    async fn activity_of_a_queued_message_is_stored_with_it_or_not_at_all(database: &Database) {
        let (store, _writer, row) = with_one(database).await;
        let listed = async || store.activity(&all(row.id)).await.unwrap().rows;
        let enqueue = async |new, said| store.enqueue(new, Some(&said), store::now() - Duration::hours(1), &ROOM).await;
        enqueue(message(row.id, "a"), said(row.id, "first")).await.unwrap();
        enqueue(message(row.id, "a"), said(row.id, "second")).await.unwrap();
        let summaries: Vec<_> = listed().await.into_iter().map(|row| row.summary.unwrap()).collect();
        assert_eq!(summaries, ["second", "first"]);
        let of_no_workspace = message(WorkspaceId::random(), "b");
        assert!(enqueue(of_no_workspace, said(row.id, "third")).await.is_err());
        assert_eq!(listed().await.len(), 2);
    }

    async fn messages_in_flight_at_a_crash_are_requeued_until_the_attempt_limit(database: &Database) {
        let (store, writer, row) = with_one(database).await;
        let [one, other] = [ServerId::random(), ServerId::random()];
        let (id, _) = enqueue(&store, message(row.id, "a")).await;
        let late = NewQueued { expires_at: Some(store::now()), ..message(row.id, "late") };
        let (late, _) = enqueue(&store, late).await;
        store.renew_server(one, std::time::Duration::from_secs(60)).await.unwrap();
        let first = claim(&store, row.id, one).await.unwrap();
        // Its server lives.
        assert!(sweep(&store, other, true).await.is_empty());
        assert_eq!(store.queued(id).await.unwrap().unwrap().status, QueueStatus::Dispatched);
        let expired = store.queued(late).await.unwrap().unwrap();
        assert_eq!((expired.status, expired.last_error.as_deref()), (QueueStatus::Dropped, Some("expired")));
        store.release_leases(one).await.unwrap();
        assert!(sweep(&store, other, false).await.is_empty(), "others may just not have renewed their leases yet");
        assert_eq!(sweep(&store, other, true).await, [row.id]);
        let second = claim(&store, row.id, other).await.unwrap();
        assert_eq!((second.id, second.attempts, second.claim), (id, 2, 2));
        // The earlier claim can no longer record an outcome.
        for outcome in [Outcome::Completed, attempted("late"), Outcome::Returned] {
            store.finish_claim(id, first.claim, &outcome).await.unwrap();
            assert_eq!(store.queued(id).await.unwrap().unwrap(), second);
        }
        store.finish_claim(id, second.claim, &attempted("no")).await.unwrap();
        let failed = store.queued(id).await.unwrap().unwrap();
        assert_eq!((failed.status, failed.last_error.as_deref(), failed.dispatched_at), (QueueStatus::Failed, Some("no"), None));

        enqueue(&store, message(row.id, "b")).await;
        let (c, _) = enqueue(&store, message(row.id, "c")).await;
        let b = claim(&store, row.id, one).await.unwrap();
        store.finish_claim(b.id, b.claim, &attempted("busy")).await.unwrap();
        let earlier = store::now() - Duration::minutes(1);
        assert_eq!(store.drop_stale_queued(earlier, None).await.unwrap(), 0);
        assert_eq!(store.drop_stale_queued(store::now(), Some(WorkspaceId::random())).await.unwrap(), 0);
        assert_eq!(store.drop_stale_queued(store::now(), Some(row.id)).await.unwrap(), 2);
        let notes = [b.id, c].map(|id| store.queued(id));
        let notes: Vec<String> = join_all(notes).await.into_iter().filter_map(|row| row.unwrap()?.last_error).collect();
        assert!(notes[0].starts_with("busy; dropped as stale at 2"), "{notes:?}");
        assert!(notes[1].starts_with("dropped as stale at 2"), "{notes:?}");
        assert_eq!(claim(&store, row.id, one).await, None);
        writer.commit(Change::of(PurgeWorkspaces(vec![row.id]))).await.unwrap();
        assert_eq!(store.queued(id).await.unwrap(), None);
    }

    async fn a_message_that_was_requeued_too_early_is_not_sent_again_once_it_is_known_to_be_delivered(database: &Database) {
        let (store, _writer, row) = with_one(database).await;
        let [one, other] = [ServerId::random(), ServerId::random()];
        let (id, _) = enqueue(&store, message(row.id, "a")).await;
        let first = claim(&store, row.id, one).await.unwrap();
        assert_eq!(sweep(&store, other, true).await, [row.id]);
        store.finish_claim(id, first.claim, &Outcome::Completed).await.unwrap();
        assert_eq!(store.queued(id).await.unwrap().unwrap().status, QueueStatus::Completed);
        assert_eq!(claim(&store, row.id, other).await, None);
    }

    async fn tries_that_do_not_reach_the_agent_are_no_attempts_and_wait(database: &Database) {
        let (store, _writer, row) = with_one(database).await;
        let server = ServerId::random();
        let (id, _) = enqueue(&store, message(row.id, "a")).await;
        let unreached = |not_before| Outcome::Unreached { error: "away".to_owned(), not_before };
        for number in 1..=7 {
            let claimed = claim(&store, row.id, server).await.unwrap();
            assert_eq!((claimed.attempts, claimed.claim), (1, number));
            store.finish_claim(id, claimed.claim, &unreached(store::now())).await.unwrap();
        }
        let seen = store.queued(id).await.unwrap().unwrap();
        assert_eq!((seen.status, seen.attempts, seen.unreached), (QueueStatus::Queued, 0, 7));
        let claimed = claim(&store, row.id, server).await.unwrap();
        store.finish_claim(id, claimed.claim, &unreached(store::now() + Duration::minutes(4))).await.unwrap();
        assert_eq!(claim(&store, row.id, server).await, None, "too early");
        assert_eq!(sweep(&store, server, true).await, [row.id], "it waits");
        store.end_back_off(row.id).await.unwrap();
        let early = claim(&store, row.id, server).await;
        assert!(early.is_some(), "its agent reported");
        // The clock was set back by an hour.
        let far = unreached(store::now() + Duration::hours(1));
        store.finish_claim(id, claimed.claim + 1, &far).await.unwrap();
        let claimed = claim(&store, row.id, server).await.unwrap();
        store.finish_claim(id, claimed.claim, &Outcome::Returned).await.unwrap();
        let seen = store.queued(id).await.unwrap().unwrap();
        assert_eq!((seen.status, seen.attempts, seen.not_before, seen.owner), (QueueStatus::Queued, 0, None, None));
    }

    async fn finished_messages_are_deleted_and_those_of_removed_workspaces_dropped(database: &Database) {
        let (store, writer, row) = with_one(database).await;
        let server = ServerId::random();
        let (done, _) = enqueue(&store, message(row.id, "a")).await;
        let (waiting, _) = enqueue(&store, message(row.id, "b")).await;
        let claimed = claim(&store, row.id, server).await.unwrap();
        store.finish_claim(done, claimed.claim, &Outcome::Completed).await.unwrap();
        let removed = WorkspaceRow { status: Status::Removed, removed_at: Some(store::now()), revision: row.revision + 1, ..row };
        writer.commit(Change::of(UpdateWorkspaces(vec![removed]))).await.unwrap();
        assert_eq!(sweep(&store, server, true).await, []);
        let dropped = store.queued(waiting).await.unwrap().unwrap();
        assert_eq!((dropped.status, dropped.last_error.as_deref()), (QueueStatus::Dropped, Some("its workspace was removed")));
        let before = store::now() - Duration::minutes(1);
        assert_eq!(store.delete_finished_queued(before).await.unwrap(), 0);
        assert_eq!(store.delete_finished_queued(store::now()).await.unwrap(), 2);
        assert_eq!(store.queued(waiting).await.unwrap(), None);
    }
}
