//! Imports at the same time.

use serde_json::{Value, json};
use support::{Answer, Database, on_both_databases};

use super::{import, import_events, with_fixtures, workspaces};

on_both_databases! {
    async fn concurrent_imports_create_one_organization(database: Database) {
        let server = with_fixtures(database).await;
        let all = (0..4).map(|_| import(&server, json!({ "dir": "acme" })));
        let all = futures::future::join_all(all).await;
        let mut made = 0;
        let ids = |answer: &Answer| -> Vec<Value> {
            answer.json["workspaces"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect()
        };
        for answer in &all {
            assert_eq!(answer.status, 201);
            assert_eq!(ids(answer), ids(&all[0]), "all imports name the same workspaces");
            made += answer.json["workspaces"].as_array().unwrap().iter().filter(|it| it.get("skipped").is_none()).count();
        }
        assert_eq!((made, workspaces(&server).await.len()), (200, 200));
        let events = import_events(&server).await;
        let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["started", "completed"].repeat(4));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_DATABASE_URL"]
async fn concurrent_imports_on_two_servers_create_one_organization() {
    let database = Database::postgres().await;
    let servers = [with_fixtures(database.clone()).await, with_fixtures(database).await];
    let both = servers.iter().map(|server| import(server, json!({ "dir": "acme", "mode": "reconcile" })));
    let both = futures::future::join_all(both).await;
    let made: usize = both
        .iter()
        .map(|answer| {
            assert_eq!((answer.status.as_u16(), &answer.json["reconcile_removed_count"]), (201, &json!(0)));
            let entries = answer.json["workspaces"].as_array().unwrap();
            entries.iter().filter(|it| it.get("skipped").is_none()).count()
        })
        .sum();
    assert_eq!(made, 200);
    for server in &servers {
        server
            .until("each server lists all workspaces", async |server| workspaces(server).await.len() == 200)
            .await;
    }
}
