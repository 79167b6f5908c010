//! Group commit: changes a second, by one writer and by 64 at once.

use std::time::{Duration, Instant};

use fleet::{Edit, Fleet};
use sea_orm::ConnectionTrait as _;
use types::WorkspaceId;
use uuid::Uuid;

use crate::rows::{fleet, seed, sqlite};

const LONG: Duration = Duration::from_secs(2);

pub async fn throughput() {
    println!("edits of workspaces, each durable before the answer, with an event each");
    let data = tempfile::tempdir().expect("a directory");
    let url = sqlite(data.path());
    on("SQLite", &url).await;
    // On Postgres where TEST_DATABASE_URL is set, in a new database.
    let Ok(server) = std::env::var("TEST_DATABASE_URL") else {
        println!("  Postgres: not measured, TEST_DATABASE_URL isn't set");
        return;
    };
    let name = format!("isomer_bench_{}", Uuid::new_v4().simple());
    let administrator = sea_orm::Database::connect(&server).await.expect("Postgres answers");
    administrator.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("it is made");
    let (base, _) = server.rsplit_once('/').expect("the URL names a database");
    on("Postgres", &format!("{base}/{name}")).await;
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    administrator.execute_unprepared(&drop).await.expect("it is dropped");
}

async fn on(name: &str, url: &str) {
    let ids = seed(url, 64).await;
    let (fleet, _written) = fleet(url).await;
    for writers in [1, 64] {
        let before = fleet.state().last_published().0;
        let started = Instant::now();
        let edits = ids.iter().take(writers).map(|id| edit_for(&fleet, *id, started));
        let done: usize = futures::future::join_all(edits).await.into_iter().sum();
        let rate = done as f64 / started.elapsed().as_secs_f64();
        assert!(
            fleet.state().last_published().0 - before >= i64::try_from(done).expect("few"),
            "each change published an event"
        );
        println!("  {name:<9} {writers:>2} writers  {rate:>9.0} a second");
    }
}

async fn edit_for(fleet: &Fleet, id: WorkspaceId, started: Instant) -> usize {
    let mut done = 0;
    while started.elapsed() < LONG {
        let edit = Edit { role: Some(Some(format!("Role {done}"))), ..Edit::default() };
        fleet.edit(id, edit).await.expect("it is made");
        done += 1;
    }
    done
}
