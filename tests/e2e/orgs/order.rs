//! Lists of workspaces are in the order of the template, parents first.

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use support::{Database, Server, on_both_databases};

use super::{connect, import, inline, with_fixtures, workspaces};

fn names(all: &[Value]) -> Vec<&str> {
    all.iter().map(|it| it["name"].as_str().unwrap()).collect()
}

fn assert_strictly_rising(all: &[Value]) {
    let times: Vec<&str> = all.iter().map(|it| it["created_at"].as_str().unwrap()).collect();
    let times: Vec<chrono::DateTime<chrono::Utc>> = times.iter().map(|it| it.parse().unwrap()).collect();
    assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
}

on_both_databases! {
    async fn workspaces_are_listed_in_the_order_of_their_template(database: Database) {
        let server = with_fixtures(database).await;
        let made = import(&server, json!({ "dir": "acme" })).await.ok();
        let all = workspaces(&server).await;
        assert_eq!(names(&all), names(made["workspaces"].as_array().unwrap()));
        assert_strictly_rising(&all);
        // The next import goes on after the first one.
        let more = json!({ "name": "More", "workspaces": [{ "name": "CEO", "children": [
            { "name": "Z", "runtime": "mock", "children": [{ "name": "A", "runtime": "mock" }] },
        ]}]});
        inline(&server, more).await.ok();
        let all = workspaces(&server).await;
        assert_eq!(names(&all)[200..], ["Z", "A"]);
        assert_strictly_rising(&all);
        let again = workspaces(&server.restart().await).await;
        assert_eq!(names(&again), names(&all));
        assert_strictly_rising(&again);
    }

    async fn children_follow_their_parents_when_the_clock_has_gone_back(database: Database) {
        let server = Server::start(database).await;
        let parent = server.workspace(json!({ "name": "P", "runtime": "mock" })).await;
        // As if an hour passed since on the clock that made it.
        let connection = connect(&server).await;
        let sql = match connection.get_database_backend() {
            sea_orm::DbBackend::Postgres => "UPDATE workspaces SET created_at = created_at + interval '1 hour'".to_owned(),
            _ => "UPDATE workspaces SET created_at = strftime('%Y-%m-%d %H:%M:%f000+00:00', created_at, '+1 hour')".to_owned(),
        };
        connection.execute_unprepared(&sql).await.unwrap();
        connection.close().await.unwrap();
        let server = server.restart().await;
        let tree = json!({ "name": "C", "runtime": "mock", "children": [{ "name": "D", "runtime": "mock" }] });
        inline(&server, json!({ "name": "T", "workspaces": [{ "name": "P", "children": [tree] }] })).await.ok();
        server.workspace(json!({ "name": "E", "runtime": "mock", "parent_id": parent })).await;
        let all = workspaces(&server).await;
        assert_eq!(names(&all), ["P", "C", "D", "E"]);
        assert_strictly_rising(&all);
    }
}
