//! What is written behind: the newest wins, nothing is lost in an orderly end, nothing of what is gone
//! comes back, and changes don't starve it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chrono::DateTime;
use futures::future::join_all;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use store::{
    Change, CommitError, Store, Writer,
    activity::ActivityRow,
    message_keys::{MessageClaim, ReleaseMessage},
    presence::PresenceRow,
    tokens::{InsertToken, RevokeTokensOf, RevokedBy, TokenKind, TokenUsed},
    workspaces::{InsertWorkspaces, PurgeWorkspaces, WorkspaceRow},
};
use tokio::time::timeout;
use types::{Owner, ServerId, TokenId, WorkspaceId};

use crate::{
    database::{Database, WAIT_TIMEOUT, Witness, on_both, token, workspace, writer},
    messaging::{all, said},
};

fn presence(workspace_id: WorkspaceId, uptime_seconds: i64) -> PresenceRow {
    PresenceRow { workspace_id, uptime_seconds, ..PresenceRow::default() }
}

async fn uptime(store: &Store, id: WorkspaceId) -> Option<i64> {
    let loaded = store.workspaces(&[id]).await.unwrap().pop()?;
    Some(loaded.presence?.uptime_seconds)
}

/// The numbers that rows of activity have for a summary, oldest first.
async fn summaries(store: &Store, id: WorkspaceId) -> Vec<usize> {
    let rows = store.activity(&all(id)).await.unwrap().rows;
    rows.into_iter().rev().map(|row| row.summary.unwrap().parse().unwrap()).collect()
}

fn many(count: usize) -> Vec<WorkspaceRow> {
    (0..count).map(|number| workspace(&number.to_string())).collect()
}

on_both! {
    async fn the_newest_presence_wins_and_is_stored_at_the_end(database: &Database) {
        let store = database.store().await;
        let (writer, written, _) = writer(&store);
        let rows = many(300);
        let mine = token(Owner::Workspace(rows[0].id), TokenKind::User);
        let mut change = Change::of(InsertWorkspaces(rows.clone()));
        change.push(InsertToken(mine.clone()));
        writer.commit(change).await.unwrap();
        for uptime in 1..=5 {
            for row in &rows {
                writer.write_behind(presence(row.id, uptime)).await;
            }
        }
        let at = store::now();
        writer.write_behind(TokenUsed { id: mine.id, at }).await;
        drop(writer);
        timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        let stored = store.live_workspaces().await.unwrap();
        assert!(stored.iter().all(|it| it.presence.as_ref().is_some_and(|it| it.uptime_seconds == 5)));
        assert_eq!(store.token(mine.id).await.unwrap().unwrap().last_used_at, Some(at));
    }

    async fn a_row_that_can_not_be_stored_blocks_no_other(database: &Database) {
        let store = database.store().await;
        let (writer, written, _) = writer(&store);
        let rows = many(3);
        writer.commit(Change::of(InsertWorkspaces(rows.clone()))).await.unwrap();
        let raw = database.raw().await;
        raw.execute_unprepared("CREATE UNIQUE INDEX poison ON presence (uptime_seconds)").await.unwrap();
        for (row, uptime) in rows.iter().zip([7, 7, 8]) {
            writer.write_behind(presence(row.id, uptime)).await;
        }
        let nul = PresenceRow {
            workspace_id: rows[2].id,
            uptime_seconds: 9,
            current_task: "a\0b".to_owned(),
            ..PresenceRow::default()
        };
        writer.write_behind(nul).await;
        drop(writer);
        timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        let (one, other) = (uptime(&store, rows[0].id).await, uptime(&store, rows[1].id).await);
        assert!(one.xor(other) == Some(7), "one of the two is lost: {one:?}, {other:?}");
        let last = store.workspaces(&[rows[2].id]).await.unwrap().pop().unwrap().presence.unwrap();
        assert_eq!((last.uptime_seconds, last.current_task.as_str()), (9, "a\u{fffd}b"));
        raw.close().await.unwrap();
    }

    async fn an_older_presence_never_replaces_a_newer_one(database: &Database) {
        let store = database.store().await;
        let row = workspace("one");
        let (writer, ..) = writer(&store);
        writer.commit(Change::of(InsertWorkspaces(vec![row.clone()]))).await.unwrap();
        let at = |seconds: Option<i64>| seconds.map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap());
        // When it was seen, when it sent a message, and what is stored then; each by a server of its own.
        for (uptime, seen, sent, expected) in [
            (1, None, Some(50), (1, None, Some(50))),
            (2, Some(100), None, (2, Some(100), Some(50))),
            (3, Some(99), Some(60), (2, Some(100), Some(60))),
            (4, None, Some(55), (2, Some(100), Some(60))),
            (5, Some(100), Some(40), (5, Some(100), Some(60))),
            (6, Some(101), Some(70), (6, Some(101), Some(70))),
        ] {
            let (writer, written, _) = crate::database::writer(&store);
            let presence = PresenceRow {
                workspace_id: row.id,
                last_seen_at: at(seen),
                last_outbound_at: at(sent),
                uptime_seconds: uptime,
                ..PresenceRow::default()
            };
            writer.write_behind(presence).await;
            drop(writer);
            timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
            let stored = store.workspaces(&[row.id]).await.unwrap().pop().unwrap().presence.unwrap();
            let (uptime, seen, sent) = expected;
            let found = (stored.uptime_seconds, stored.last_seen_at, stored.last_outbound_at);
            assert_eq!(found, (uptime, at(seen), at(sent)));
        }
    }

    async fn rows_of_purged_workspaces_are_dropped(database: &Database) {
        let store = database.store().await;
        let (writer, written, _) = writer(&store);
        let [gone, kept] = [workspace("gone"), workspace("kept")];
        writer.commit(Change::of(InsertWorkspaces(vec![gone.clone(), kept.clone()]))).await.unwrap();
        writer.write_behind(presence(gone.id, 1)).await;
        writer.commit(Change::of(PurgeWorkspaces(vec![gone.id]))).await.unwrap();
        for id in [gone.id, WorkspaceId::random(), kept.id] {
            writer.write_behind(presence(id, 2)).await;
        }
        writer.write_behind(TokenUsed { id: TokenId::random(), at: store::now() }).await;
        drop(writer);
        timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        assert_eq!(store.workspaces(&[gone.id]).await.unwrap(), []);
        assert_eq!(uptime(&store, kept.id).await, Some(2));
    }

    async fn continuous_changes_do_not_starve_write_behind(database: &Database) {
        let store = database.store().await;
        let (writer, _written, _) = writer(&store);
        let row = workspace("one");
        writer.commit(Change::of(InsertWorkspaces(vec![row.clone()]))).await.unwrap();
        let enough = Arc::new(AtomicBool::new(false));
        // Twice a full group: whenever one is made, the next waits already.
        let busy = (0..256).map(|_| {
            let (writer, enough) = (writer.clone(), Arc::clone(&enough));
            tokio::spawn(async move {
                while !enough.load(Ordering::Relaxed) {
                    writer.commit(Change::default()).await.unwrap();
                }
            })
        });
        let busy: Vec<_> = busy.collect();
        writer.write_behind(presence(row.id, 7)).await;
        let stored = timeout(WAIT_TIMEOUT, async {
            while uptime(&store, row.id).await != Some(7) {
                tokio::task::yield_now().await;
            }
        });
        let stored = stored.await;
        enough.store(true, Ordering::Relaxed);
        join_all(busy).await;
        stored.expect("it was stored while changes went on");
    }

    async fn many_rows_at_once_are_all_stored_in_their_order(database: &Database) {
        let store = database.store().await;
        let (writer, written, _) = writer(&store);
        let rows = many(2_000);
        writer.commit(Change::of(InsertWorkspaces(rows.clone()))).await.unwrap();
        // Not polled in between, so that more than fit into a transaction wait.
        join_all(rows.iter().map(|row| writer.write_behind(presence(row.id, 3)))).await;
        join_all((0..2_000).map(|number| writer.write_behind(said(rows[0].id, &number.to_string())))).await;
        drop(writer);
        timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        let stored = store.live_workspaces().await.unwrap();
        assert!(stored.iter().all(|it| it.presence.as_ref().is_some_and(|it| it.uptime_seconds == 3)));
        assert!(summaries(&store, rows[0].id).await.iter().eq(&(0..2_000).collect::<Vec<_>>()));
    }

    async fn rows_wait_within_their_limit_while_the_database_is_locked(database: &Database) {
        const LIMIT: usize = 64 << 10;
        let store = database.store().await;
        let (writer, written) = Writer::start_with(store.clone(), Arc::new(Witness::default()), LIMIT);
        let [one, other] = [workspace("one"), workspace("other")];
        writer.commit(Change::of(InsertWorkspaces(vec![one.clone(), other.clone()]))).await.unwrap();
        let raw = database.raw().await;
        let lock = raw.begin().await.unwrap();
        lock.execute_unprepared("UPDATE event_head SET seq = seq").await.unwrap();
        // What waits in the moment of the failure is kept, too.
        writer.write_behind(said(one.id, "0")).await;
        let refused = timeout(WAIT_TIMEOUT, writer.commit(Change::default())).await.unwrap();
        assert!(matches!(refused, Err(CommitError::Store(_) | CommitError::OutcomeUnknown)), "{refused:?}");
        assert!(writer.is_failing() && !writer.is_losing_rows());
        let body = Some(format!("\"{}\"", "x".repeat(1_000)));
        let flood = async {
            for number in 1..200 {
                let row = ActivityRow { request_body: body.clone(), ..said(one.id, &number.to_string()) };
                writer.write_behind(row).await;
                writer.write_behind(presence(other.id, number)).await;
            }
        };
        timeout(WAIT_TIMEOUT, flood).await.expect("no sender waits");
        assert!(writer.is_losing_rows());
        // Each row says whether it is lost. The release of a claim that was made never is.
        let row = ActivityRow { request_body: body, ..said(one.id, "lost") };
        assert!(!writer.write_behind(row).await);
        let claim = MessageClaim { key: "x".repeat(64), owner: ServerId::random(), at: store::now(), hops: 0 };
        let release = |is_made| ReleaseMessage { claim: claim.clone(), is_made, is_row_lost: false };
        while writer.try_write_behind(release(false)) {}
        assert!(writer.try_write_behind(release(true)));
        lock.rollback().await.unwrap();
        timeout(WAIT_TIMEOUT, writer.commit(Change::default())).await.unwrap().unwrap();
        assert!(!writer.is_failing());
        drop(writer);
        timeout(WAIT_TIMEOUT, written).await.unwrap().unwrap();
        let kept = summaries(&store, one.id).await;
        assert!((30..LIMIT / 1_000).contains(&kept.len()), "{} rows", kept.len());
        assert!(kept.iter().eq(&(0..kept.len()).collect::<Vec<_>>()), "the first ones, in order: {kept:?}");
        assert_eq!(uptime(&store, other.id).await, Some(199));
        raw.close().await.unwrap();
    }

    async fn write_behind_and_changes_do_not_deadlock(database: &Database) {
        let store = database.store().await;
        let (one, one_written, _) = writer(&store);
        let (other, other_written, _) = writer(&database.store().await);
        let rows = many(60);
        let tokens: Vec<_> = rows.iter().map(|row| token(Owner::Workspace(row.id), TokenKind::User)).collect();
        let mut change = Change::of(InsertWorkspaces(rows.clone()));
        tokens.iter().for_each(|row| change.push(InsertToken(row.clone())));
        one.commit(change).await.unwrap();
        let all: Vec<WorkspaceId> = rows.iter().map(|row| row.id).collect();
        let used = async {
            for number in 0..10 {
                for (row, token) in rows.iter().zip(&tokens) {
                    one.write_behind(TokenUsed { id: token.id, at: store::now() }).await;
                    other.write_behind(TokenUsed { id: token.id, at: store::now() }).await;
                    one.write_behind(presence(row.id, number)).await;
                    other.write_behind(presence(row.id, number)).await;
                }
            }
        };
        let changed = async {
            for ids in all.chunks(4) {
                let workspaces = all.iter().rev().copied().collect();
                let revoke = RevokeTokensOf { workspaces, by: RevokedBy::Sweep };
                other.commit(Change::of(revoke).with(PurgeWorkspaces(ids.to_vec()))).await.unwrap();
            }
        };
        timeout(WAIT_TIMEOUT, futures::future::join(used, changed)).await.unwrap();
        drop((one, other));
        timeout(WAIT_TIMEOUT, one_written).await.unwrap().unwrap();
        timeout(WAIT_TIMEOUT, other_written).await.unwrap().unwrap();
        assert!(store.live_workspaces().await.unwrap().is_empty());
    }
}
