//! Jobs: asked twice they are one, left behind they are taken over, and an earlier owner is refused.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use store::jobs::{JobState, NewJob};
use uuid::Uuid;

use crate::database::{Database, on_both};

const LONG: Duration = Duration::from_secs(60);

/// A job whose first step may take this long: none, where its owner is to be late at once.
fn new(key: Option<&str>, patience: Duration) -> NewJob {
    NewJob {
        kind: "import".to_owned(),
        idempotency_key: key.map(str::to_owned),
        step: "first".to_owned(),
        patience,
        request: json!({"a": 1}),
    }
}

on_both! {
    async fn asked_again_with_the_same_key_it_is_the_same(database: &Database) {
        let store = database.store().await;
        let owner = Uuid::new_v4();
        let all = join_all((0..8).map(|_| store.start_job(new(Some("key"), LONG), owner))).await;
        let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(all.iter().filter(|(_, new)| *new).count(), 1);
        assert!(all.iter().all(|(job, _)| *job == all[0].0));
        assert_eq!(store.job(all[0].0.id).await.unwrap().as_ref(), Some(&all[0].0));
        let (other, new_one) = store.start_job(new(None, LONG), owner).await.unwrap();
        assert!(new_one && other.id != all[0].0.id);
        assert!(store.start_job(new(None, LONG), owner).await.unwrap().1);
    }

    async fn one_whose_owner_is_late_is_taken_over_and_the_owner_refused(database: &Database) {
        let store = database.store().await;
        let [first, second] = [Uuid::new_v4(), Uuid::new_v4()];
        let (job, _) = store.start_job(new(None, LONG), first).await.unwrap();
        assert_eq!(store.adopt_job("import", second, LONG).await.unwrap(), None, "it isn't late yet");
        assert!(store.step_job(&job, "second", Duration::ZERO).await.unwrap());
        assert_eq!(store.adopt_job("another kind", second, LONG).await.unwrap(), None);
        let adopted = store.adopt_job("import", second, LONG).await.unwrap().unwrap();
        assert_eq!((adopted.id, adopted.epoch, adopted.owner), (job.id, 2, Some(second)));
        assert_eq!((adopted.step.as_str(), &adopted.request), ("second", &json!({"a": 1})));
        assert!(!store.step_job(&job, "third", LONG).await.unwrap());
        assert!(!store.end_job(&job, Ok(json!({}))).await.unwrap());
        assert!(store.end_job(&adopted, Err("no".to_owned())).await.unwrap());
        let ended = store.job(job.id).await.unwrap().unwrap();
        assert_eq!((ended.state, ended.error.as_deref(), ended.result), (JobState::Failed, Some("no"), None));
        assert!(!store.end_job(&adopted, Ok(json!({}))).await.unwrap(), "it ends once");
        assert_eq!(store.adopt_job("import", first, LONG).await.unwrap(), None, "what ended is nobody's");
    }

    async fn a_result_is_kept(database: &Database) {
        let store = database.store().await;
        let (job, _) = store.start_job(new(None, LONG), Uuid::new_v4()).await.unwrap();
        assert!(store.end_job(&job, Ok(json!({"made": 3}))).await.unwrap());
        let ended = store.job(job.id).await.unwrap().unwrap();
        assert_eq!((ended.state, ended.result, ended.error), (JobState::Done, Some(json!({"made": 3})), None));
    }

    async fn many_adopters_at_once_get_different_ones(database: &Database) {
        let store = database.store().await;
        for _ in 0..8 {
            store.start_job(new(None, Duration::ZERO), Uuid::new_v4()).await.unwrap();
        }
        let adopted = join_all((0..8).map(|_| store.adopt_job("import", Uuid::new_v4(), LONG))).await;
        let mut ids: Vec<Uuid> = adopted.into_iter().filter_map(|job| Some(job.unwrap()?.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }
}
