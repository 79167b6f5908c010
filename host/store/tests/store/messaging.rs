//! Activity in the order of commits, and the queue of messages.

use chrono::Duration;
use futures::future::join_all;
use store::{
    Change, Store, Writer,
    activity::{ActivityFilter, ActivityRow, InsertActivity},
    queue::{NewQueued, Outcome, QueueStatus},
    workspaces::{InsertWorkspaces, PurgeWorkspaces, WorkspaceRow},
};
use tokio::time::timeout;
use types::{ActivityId, QueueItemId, WorkspaceId};

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
        idempotency_key: Some(key.to_owned()),
        expires_at: None,
    }
}

async fn with_one(database: &Database) -> (Store, Writer, WorkspaceRow) {
    let store = database.store().await;
    let (writer, ..) = writer(&store);
    let row = workspace("one");
    writer.commit(Change::of(InsertWorkspaces(vec![row.clone()]))).await.unwrap();
    (store, writer, row)
}

async fn keys(store: &Store, workspace: WorkspaceId) -> Vec<String> {
    let mut keys = Vec::new();
    while let Some(row) = store.dequeue(workspace).await.unwrap() {
        keys.extend(row.idempotency_key);
    }
    keys
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
                _ => writer.write_behind(row).await,
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

    async fn messages_are_dequeued_once_and_in_order(database: &Database) {
        let (store, _writer, row) = with_one(database).await;
        let mut ids = Vec::new();
        for (number, key) in ["a", "b", "c"].into_iter().enumerate() {
            let (id, depth) = store.enqueue(message(row.id, key), None).await.unwrap();
            assert_eq!(depth, number as u64 + 1);
            ids.push(id);
        }
        assert_eq!(store.enqueue(message(row.id, "b"), None).await.unwrap(), (ids[1], 3));
        let gone = NewQueued { expires_at: Some(store::now()), ..message(row.id, "late") };
        assert_eq!(store.enqueue(gone, None).await.unwrap().1, 3);
        let nameless = NewQueued { idempotency_key: None, ..message(row.id, "") };
        assert_eq!(store.enqueue(nameless, None).await.unwrap().1, 4);
        let taken = join_all((0..8).map(|_| store.dequeue(row.id))).await;
        let mut taken: Vec<QueueItemId> = taken.into_iter().filter_map(Result::unwrap).map(|row| row.id).collect();
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 4, "each once");
        // On its way, it still is the same one; delivered, no more.
        assert_eq!(store.enqueue(message(row.id, "b"), None).await.unwrap().0, ids[1]);
        let b = store.queued(ids[1]).await.unwrap().unwrap();
        store.complete(&b, Outcome::Completed).await.unwrap();
        let (again, depth) = store.enqueue(message(row.id, "b"), None).await.unwrap();
        assert!(again != ids[1] && depth == 1);
        assert!(store.enqueue(message(WorkspaceId::random(), "x"), None).await.is_err());
    }

    async fn activity_of_a_queued_message_is_stored_with_it_or_not_at_all(database: &Database) {
        let (store, _writer, row) = with_one(database).await;
        let listed = async || store.activity(&all(row.id)).await.unwrap().rows;
        store.enqueue(message(row.id, "a"), Some(&said(row.id, "first"))).await.unwrap();
        store.enqueue(message(row.id, "a"), Some(&said(row.id, "second"))).await.unwrap();
        let summaries: Vec<_> = listed().await.into_iter().map(|row| row.summary.unwrap()).collect();
        assert_eq!(summaries, ["second", "first"]);
        let of_no_workspace = message(WorkspaceId::random(), "b");
        assert!(store.enqueue(of_no_workspace, Some(&said(row.id, "third"))).await.is_err());
        assert_eq!(listed().await.len(), 2);
    }

    async fn messages_in_flight_at_a_crash_are_requeued_until_the_attempt_limit(database: &Database) {
        let (store, writer, row) = with_one(database).await;
        let (id, _) = store.enqueue(message(row.id, "a"), None).await.unwrap();
        let late = NewQueued { expires_at: Some(store::now()), ..message(row.id, "late") };
        let (late, _) = store.enqueue(late, None).await.unwrap();
        let first = store.dequeue(row.id).await.unwrap().unwrap();
        // It may still be on its way.
        let earlier = store::now() - Duration::minutes(1);
        assert!(store.requeue_expired(earlier, 2).await.unwrap().is_empty());
        assert_eq!(store.queued(id).await.unwrap().unwrap().status, QueueStatus::Dispatched);
        let expired = store.queued(late).await.unwrap().unwrap();
        assert_eq!((expired.status, expired.last_error.as_deref()), (QueueStatus::Dropped, Some("expired")));
        assert_eq!(store.requeue_expired(store::now(), 2).await.unwrap(), [row.id]);
        let second = store.dequeue(row.id).await.unwrap().unwrap();
        assert_eq!((second.id, second.attempts), (id, 2));
        // The earlier attempt can no longer record an outcome.
        store.complete(&first, Outcome::Completed).await.unwrap();
        assert_eq!(store.queued(id).await.unwrap().unwrap().status, QueueStatus::Dispatched);
        store.complete(&second, Outcome::Undelivered { error: "no", max_attempts: 2 }).await.unwrap();
        let failed = store.queued(id).await.unwrap().unwrap();
        assert_eq!((failed.status, failed.last_error.as_deref(), failed.dispatched_at), (QueueStatus::Failed, Some("no"), None));

        store.enqueue(message(row.id, "b"), None).await.unwrap();
        let (c, _) = store.enqueue(message(row.id, "c"), None).await.unwrap();
        let b = store.dequeue(row.id).await.unwrap().unwrap();
        store.complete(&b, Outcome::Undelivered { error: "busy", max_attempts: 5 }).await.unwrap();
        assert_eq!(store.drop_stale_queued(earlier, None).await.unwrap(), 0);
        assert_eq!(store.drop_stale_queued(store::now(), Some(WorkspaceId::random())).await.unwrap(), 0);
        assert_eq!(store.drop_stale_queued(store::now(), Some(row.id)).await.unwrap(), 2);
        let notes = [b.id, c].map(|id| store.queued(id));
        let notes: Vec<String> = join_all(notes).await.into_iter().filter_map(|row| row.unwrap()?.last_error).collect();
        assert!(notes[0].starts_with("busy; dropped as stale at 2"), "{notes:?}");
        assert!(notes[1].starts_with("dropped as stale at 2"), "{notes:?}");
        assert_eq!(keys(&store, row.id).await, [] as [String; 0]);
        writer.commit(Change::of(PurgeWorkspaces(vec![row.id]))).await.unwrap();
        assert_eq!(store.queued(id).await.unwrap(), None);
    }
}
