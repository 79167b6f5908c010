//! Leases: one holder at a time, handed over after their end, each holding with an epoch of its own.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait as _, Statement};
use store::{Change, CommitError, Lease, LeaseIsHeld, Store};
use tokio::time::timeout;
use types::ServerId;

use crate::database::{Database, WAIT_TIMEOUT, on_both, writer};

const NAME: &str = "test";
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

async fn take(store: &Store, holder: ServerId, length: Duration) -> Option<Lease> {
    store.lease(NAME, holder, length).await.unwrap()
}

on_both! {
    async fn a_lease_has_one_holder_and_renewal_keeps_the_epoch(database: &Database) {
        let store = database.store().await;
        let [one, other] = [ServerId::random(), ServerId::random()];
        let first = take(&store, one, LONG).await.unwrap();
        assert!(take(&store, other, LONG).await.is_none());
        let renewed = take(&store, one, LONG).await.unwrap();
        assert_eq!(renewed.fence, first.fence);
        assert!(renewed.until > first.until && renewed.until < Instant::now() + LONG);
        assert!(store.is_held(&first.fence).await.unwrap());
        // Another name is another lease.
        assert!(store.lease("another", other, LONG).await.unwrap().is_some());
    }

    async fn an_expired_lease_is_taken_over_and_its_fence_is_refused(database: &Database) {
        let store = database.store().await;
        let (writer, ..) = writer(&store);
        let [one, other] = [ServerId::random(), ServerId::random()];
        let began = Instant::now();
        let first = take(&store, one, SHORT).await.unwrap();
        let second = timeout(WAIT_TIMEOUT, async {
            loop {
                if let Some(lease) = take(&store, other, LONG).await {
                    break lease;
                }
                tokio::task::yield_now().await;
            }
        });
        let second = second.await.unwrap();
        // Databases count whole milliseconds.
        assert!(began.elapsed() + Duration::from_millis(2) >= SHORT, "it was handed over before its end");
        assert!(first.until < began + SHORT, "its holder stops before another server begins");
        assert_eq!(second.fence.epoch, first.fence.epoch + 1);
        assert!(!store.is_held(&first.fence).await.unwrap());
        let late = writer.commit(Change::default().require(LeaseIsHeld(first.fence))).await;
        assert!(matches!(late, Err(CommitError::PreconditionFailed(failed)) if failed.is::<LeaseIsHeld>()));
        writer.commit(Change::default().require(LeaseIsHeld(second.fence))).await.unwrap();
        assert!(take(&store, one, SHORT).await.is_none());
    }

    async fn a_lease_from_before_the_clock_was_set_back_is_free(database: &Database) {
        let store = database.store().await;
        let [one, other] = [ServerId::random(), ServerId::random()];
        let first = take(&store, one, SHORT).await.unwrap();
        let raw = database.raw().await;
        for ahead in ["1800000", "3600000"] {
            let sql = format!("UPDATE leases SET expires_ms = expires_ms + {ahead} WHERE name = '{NAME}'");
            raw.execute_unprepared(&sql).await.unwrap();
        }
        let second = take(&store, other, LONG).await.expect("it would be held for more than an hour");
        assert_eq!(second.fence.epoch, first.fence.epoch + 1);
        assert!(take(&store, one, SHORT).await.is_none(), "this one is not too long");
        raw.close().await.unwrap();
    }

    async fn the_lease_of_a_dead_server_ends_though_the_clock_was_set_back(database: &Database) {
        let store = database.store().await;
        let [dead, live] = [ServerId::random(), ServerId::random()];
        store.renew_server(dead, SHORT).await.unwrap();
        let raw = database.raw().await;
        let ahead = "UPDATE leases SET expires_ms = expires_ms + 3600000";
        raw.execute_unprepared(ahead).await.unwrap();
        let ends = async || {
            let sql = format!("SELECT expires_ms FROM leases WHERE name = 'server:{dead}'");
            let statement = Statement::from_string(raw.get_database_backend(), sql);
            raw.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap()
        };
        let before = ends().await;
        store.renew_server(live, SHORT).await.unwrap();
        // A minute longer than a lease of this length.
        assert!(before - ends().await > 3_500_000);
        raw.close().await.unwrap();
    }

    async fn a_released_lease_is_free_at_once(database: &Database) {
        let store = database.store().await;
        let [one, other] = [ServerId::random(), ServerId::random()];
        let mut epoch = 0;
        for holder in [one, other, one, other] {
            let lease = take(&store, holder, LONG).await.unwrap();
            assert!(lease.fence.epoch > epoch, "the epoch grows with each holder");
            epoch = lease.fence.epoch;
            store.release_leases(holder).await.unwrap();
        }
    }
}

/// A database in a file of this process has no other holder.
#[tokio::test]
async fn a_new_process_frees_leases_on_sqlite() {
    let database = Database::sqlite();
    let store = database.store().await;
    let first = take(&store, ServerId::random(), LONG).await.unwrap();
    store.close().await.unwrap();
    let store = database.store().await;
    let second = take(&store, ServerId::random(), LONG).await.unwrap();
    assert_eq!(second.fence.epoch, first.fence.epoch + 1);
}
