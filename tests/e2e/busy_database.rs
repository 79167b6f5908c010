//! A database that another program holds a lock on: 503 with a time for another try, never 500.

use futures::future::join_all;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::json;

use support::{Answer, Database, Server, on_both_databases};

/// An answer for want of the database, or 200 where it could do without. Returns whether it is the former.
fn is_unavailable(answer: &Answer) -> bool {
    if answer.status == 200 {
        return false;
    }
    assert_eq!(
        (answer.status.as_u16(), &answer.json["code"]),
        (503, &json!("platform_unavailable")),
        "{}",
        answer.json
    );
    true
}

on_both_databases! {
    async fn changes_and_reads_that_find_the_database_locked_or_its_pool_full_are_503(database: Database) {
        let server = Server::start(database).await;
        let id = server.workspace(json!({ "name": "A", "runtime": "mock" })).await;
        let other = server.connect().await;
        let lock = other.begin().await.unwrap();
        // The row that every transaction takes first; on SQLite, the right to write.
        lock.execute_unprepared("UPDATE event_head SET at_us = at_us").await.unwrap();
        // More than there are connections.
        let sweeps = (0..40).map(|_| server.post("/admin/a2a-queue/drop-stale", json!({})));
        let reads = (0..8).map(|_| server.get("/events"));
        let path = format!("/workspaces/{id}/tokens");
        let (sweeps, reads, created, token) = futures::join!(
            join_all(sweeps), join_all(reads),
            server.post("/workspaces", json!({ "name": "B", "runtime": "mock" })), server.post(&path, json!({})),
        );
        for refused in sweeps {
            assert!(is_unavailable(&refused));
            assert_eq!(refused.retry_after.as_deref(), Some("5"));
        }
        // Where it is unknown whether a change was made, there is no time for another try.
        for refused in [&created, &token] {
            assert!(is_unavailable(refused));
        }
        let may_be_made = usize::from(created.retry_after.is_none());
        // SQLite reads what was committed before, on connections of its own. On Postgres, a read may have been first.
        let without_pool = reads.iter().filter(|answer| is_unavailable(answer)).count();
        assert!(without_pool == 0 || server.database().postgres_url().is_some());
        lock.rollback().await.unwrap();
        server.post("/workspaces", json!({ "name": "B", "runtime": "mock" })).await;
        server.until("it can be written again", async |server| {
            server.post("/admin/a2a-queue/drop-stale", json!({})).await.status == 200
        }).await;
        let list = server.get("/workspaces").await.ok();
        let made = list.as_array().unwrap().len();
        assert!(made <= 2 + may_be_made, "a refused workspace is not made later: {list}");
    }
}
