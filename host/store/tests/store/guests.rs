//! Components of guests: stored whole, repaired when damaged, swept when no release has them.

use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use sea_orm::ConnectionTrait as _;
use serde_json::json;
use store::{
    CommitError, Store,
    guests::{Counters, GuestRow, PutGuest, ReleaseMutation, ReleaseRow, ReleaseState},
};
use tokio::time::timeout;

use crate::database::{Database, WAIT_TIMEOUT, on_both};

const BYTES: &[u8] = b"a component";

fn guest(revision: i64) -> GuestRow {
    GuestRow {
        name: "mine".to_owned(),
        world: "adapter".to_owned(),
        component: None,
        trusted: false,
        enabled: true,
        pooled: false,
        settings: json!({}),
        description: None,
        revision,
        created_at: DateTime::UNIX_EPOCH,
    }
}

fn release(digest: &str, component: Option<&'static [u8]>) -> ReleaseMutation {
    let release = ReleaseRow {
        guest: "mine".to_owned(),
        digest: digest.to_owned(),
        version: None,
        size_bytes: BYTES.len() as u64,
        source: "upload".to_owned(),
        pushed_by: "test".to_owned(),
        pushed_at: store::now(),
        activated_at: None,
        refused_at: None,
        state: ReleaseState::Staged,
        reason: None,
        counters: Counters::default(),
    };
    ReleaseMutation::Put { release: Box::new(release), component: component.map(Bytes::from_static) }
}

async fn commit(store: &Store, revision: i64, release: ReleaseMutation) -> Result<(), CommitError> {
    store.commit_guests(vec![PutGuest { row: guest(revision), releases: vec![release] }]).await
}

async fn execute(database: &Database, sql: &str) {
    let raw = database.raw().await;
    raw.execute_unprepared(sql).await.unwrap();
    raw.close().await.unwrap();
}

on_both! {
    async fn a_damaged_component_is_missing_until_it_is_stored_again(database: &Database) {
        let store = database.store().await;
        commit(&store, 0, release("d", Some(BYTES))).await.unwrap();
        assert!(store.missing_components().await.unwrap().is_empty());
        assert!(!store.put_component("d", BYTES).await.unwrap(), "it is there and whole");

        execute(database, "UPDATE guest_components SET bytes = substr(bytes, 1, 4)").await;
        assert_eq!(store.missing_components().await.unwrap(), ["d"]);
        assert!(store.put_component("d", BYTES).await.unwrap());
        assert_eq!(store.component("d").await.unwrap().unwrap(), BYTES);
        assert!(store.missing_components().await.unwrap().is_empty());

        // Other damage than a lost end, and damage that a push of the same release finds.
        assert!(store.put_component("d", b"another one").await.unwrap());
        assert!(store.put_component("d", BYTES).await.unwrap());
        execute(database, "UPDATE guest_components SET bytes = substr(bytes, 1, 4)").await;
        commit(&store, 1, release("d", Some(BYTES))).await.unwrap();
        assert_eq!(store.component("d").await.unwrap().unwrap(), BYTES);

        execute(database, "DELETE FROM guest_components").await;
        assert_eq!(store.missing_components().await.unwrap(), ["d"]);
    }

    async fn a_component_without_a_release_can_be_swept(database: &Database) {
        let store = database.store().await;
        for digest in ["kept", "left"] {
            store.put_component(digest, BYTES).await.unwrap();
        }
        assert_eq!(store.orphaned_components().await.unwrap().len(), 2);
        // Its release is registered between the two steps of the sweep.
        commit(&store, 0, release("kept", Some(BYTES))).await.unwrap();
        let swept = ["kept", "left"].map(str::to_owned).to_vec();
        assert_eq!(store.delete_orphaned_components(swept).await.unwrap(), 1);
        assert!(store.orphaned_components().await.unwrap().is_empty());
        assert!(store.component("kept").await.unwrap().is_some());

        // A deletion between the two steps of a push: the second step stores the bytes again.
        commit(&store, 1, release("left", Some(BYTES))).await.unwrap();
        assert_eq!(store.component("left").await.unwrap().unwrap(), BYTES);
    }

    async fn a_commit_beside_the_writer_is_signaled(database: &Database) {
        let store = database.store().await;
        assert!(timeout(Duration::ZERO, store.committed_beside_writer()).await.is_err());
        commit(&store, 0, release("d", None)).await.unwrap();
        timeout(WAIT_TIMEOUT, store.committed_beside_writer()).await.unwrap();
        assert!(matches!(commit(&store, 7, release("d", None)).await, Err(CommitError::Conflict)));
        assert!(timeout(Duration::ZERO, store.committed_beside_writer()).await.is_err());
    }
}
