//! The one order of changes: 64 writers over three stores on one database, and readers meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use events::{
    Event,
    definitions::{Empty, Task},
};
use futures::future::join_all;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use store::{Change, Notification, Store};
use tokio::time::timeout;
use types::{EventSeq, WorkspaceId};

use crate::database::{Database, WAIT_TIMEOUT, on_both, writer};

/// Writers, and changes of each.
const WRITERS: usize = 64;
const CHANGES: usize = 6;

/// Events of the changes of one writer: 1, 2 and 3 by turns.
const EVENTS: usize = WRITERS * CHANGES * 2;

/// Reads from a number on until the writers are done, and gives what it found.
async fn read(store: Store, from: i64, done: Arc<AtomicBool>) -> Vec<i64> {
    let (mut at, mut found) = (from, Vec::new());
    loop {
        let last = done.load(Ordering::Acquire);
        let events = store.events_after(EventSeq(at), 7).await.unwrap();
        found.extend(events.iter().filter_map(|event| event.seq()).map(|seq| seq.0));
        at = found.last().copied().unwrap_or(from);
        if events.is_empty() && last {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

on_both! {
    async fn sequence_numbers_have_no_gaps_and_times_increase(database: &Database) {
        let stores = [database.store().await, database.store().await, database.store().await];
        let writers: Vec<_> = stores.iter().map(writer).collect();
        let done = Arc::new(AtomicBool::new(false));
        let readers = stores.iter().zip([0, 5, 40]).map(|(store, from)| {
            (from, tokio::spawn(read(store.clone(), from, Arc::clone(&done))))
        });
        let readers: Vec<_> = readers.collect();
        let tasks = (0..WRITERS).map(|number| {
            let writer = writers[number % 3].0.clone();
            tokio::spawn(async move {
                for change in 0..CHANGES {
                    let mut telling = Change::default();
                    for _ in 0..=change % 3 {
                        telling = telling.with_event(WorkspaceId::random(), Event::WorkspaceOffline(Empty {}));
                    }
                    let events = writer.commit(telling).await.unwrap();
                    let seqs: Vec<EventSeq> = events.iter().filter_map(|event| event.seq()).collect();
                    assert!(seqs.windows(2).all(|pair| pair[0].next() == pair[1]), "a change is in one piece");
                }
            })
        });
        timeout(WAIT_TIMEOUT * 2, join_all(tasks)).await.unwrap().into_iter().for_each(Result::unwrap);
        done.store(true, Ordering::Release);
        let all = stores[0].events_after(EventSeq::START, 10_000).await.unwrap();
        let seqs: Vec<i64> = all.iter().filter_map(|event| event.seq()).map(|seq| seq.0).collect();
        assert_eq!(seqs, (1..=EVENTS as i64).collect::<Vec<_>>());
        assert!(all.windows(2).all(|pair| pair[0].at() < pair[1].at()), "no two at the same time");
        assert_eq!(stores[2].last_event().await.unwrap(), EventSeq(EVENTS as i64));
        // Readers missed nothing and read nothing twice, wherever they began.
        for (from, reader) in readers {
            let found = timeout(WAIT_TIMEOUT, reader).await.unwrap().unwrap();
            assert_eq!(found, (from + 1..=EVENTS as i64).collect::<Vec<_>>(), "from {from}");
        }
        // Each observer got the changes of its own writer, in order.
        let mut observed = 0;
        for (_, _, witness) in &writers {
            assert!(witness.seqs().is_sorted());
            observed += witness.seqs().len();
            assert!(witness.changes() > 0);
        }
        assert_eq!(observed, EVENTS);
    }
}

#[tokio::test]
async fn ephemeral_events_have_increasing_times_too() {
    let database = Database::sqlite();
    let (writer, _written, _) = writer(&database.store().await);
    let id = WorkspaceId::random();
    let task = || Event::TaskUpdated(Task { active_tasks: 1, current_task: String::new() });
    let mut last = store::next_event_time();
    let raw = database.raw().await;
    for _ in 0..20 {
        // Another server was first, and its clock is ahead.
        raw.execute_unprepared("UPDATE event_head SET at_us = at_us + 1000").await.unwrap();
        let change =
            Change::default().with_event(id, task()).with_event(id, Event::WorkspaceOffline(Empty {}));
        for event in writer.commit(change.with_event(id, task()).with_event(id, task())).await.unwrap() {
            assert!(last < event.at(), "{}: {last} and {}", event.name(), event.at());
            last = event.at();
        }
        for _ in 0..100 {
            let next = store::next_event_time();
            assert!(last < next);
            last = next;
        }
    }
    drop((writer, raw));
}

#[tokio::test]
async fn old_events_are_deleted_in_batches_between_changes() {
    let database = Database::sqlite();
    let store = database.store().await;
    let (writer, _written, _) = writer(&store);
    let mut change = Change::default();
    for _ in 0..4_500 {
        change = change.with_event(WorkspaceId::random(), Event::WorkspaceOffline(Empty {}));
    }
    let events = writer.commit(change).await.unwrap();
    let raw = database.raw().await;
    let turns = "CREATE TABLE turns (seq BIGINT); CREATE TRIGGER turn AFTER UPDATE ON event_head \
                 BEGIN INSERT INTO turns VALUES (new.seq); END";
    raw.execute_unprepared(turns).await.unwrap();
    assert_eq!(store.delete_events_before(events[4_400].at()).await.unwrap(), 4_400);
    assert_eq!(store.first_event().await.unwrap(), Some(EventSeq(4_401)));
    let sql = "SELECT COUNT(*) FROM turns";
    let turns = raw.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap().unwrap();
    assert_eq!(turns.try_get_by_index::<i64>(0).unwrap(), 3, "others had their turn in between");
    drop((writer, raw));
}

#[tokio::test]
#[ignore = "needs TEST_DATABASE_URL"]
async fn commits_notify_other_servers_on_postgres() {
    let database = Database::postgres().await;
    let (one, other) = (database.store().await, database.store().await);
    let mut listener = other.listen().await.unwrap();
    let (writer, ..) = writer(&one);
    writer.commit(Change::default().with_event(None, Event::WorkspaceOffline(Empty {}))).await.unwrap();
    assert_eq!(timeout(WAIT_TIMEOUT, listener.recv()).await.unwrap(), Notification::Committed);
    // A commit without events sends no notification: the next one received is that of a later commit.
    writer.commit(Change::default()).await.unwrap();
    let longest = "x".repeat(store::EPHEMERAL_BYTES);
    one.notify_ephemeral(&longest).await.unwrap();
    assert_eq!(timeout(WAIT_TIMEOUT, listener.recv()).await.unwrap(), Notification::Ephemeral(longest));
    drop(writer);
}
