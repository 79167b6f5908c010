//! Setups of workspaces: long texts are stored once, and deleted with the last workspace that has them.

use sea_orm::{ConnectionTrait as _, Statement};
use store::{
    Change,
    setups::{DeleteSetups, InsertSetups, SetupRow},
    workspaces::{InsertWorkspaces, PurgeWorkspaces},
};
use types::{InitialMemory, ScheduleSpec, SharedText, WorkspaceId, WorkspaceSetup};

use crate::database::{Database, on_both, workspace, writer};

fn setup(prompt: &SharedText, own: &str) -> WorkspaceSetup {
    let schedule = ScheduleSpec {
        name: "s".to_owned(),
        cron_expr: "0 9 * * 1".to_owned(),
        timezone: "UTC".to_owned(),
        prompt: prompt.clone(),
        enabled: true,
    };
    WorkspaceSetup {
        initial_prompt: Some(prompt.clone()),
        idle_prompt: Some("short".into()),
        initial_memories: vec![
            InitialMemory { content: own.into(), scope: "LOCAL".to_owned() },
            InitialMemory { content: prompt.clone(), scope: "TEAM".to_owned() },
        ],
        schedules: vec![schedule],
        ..WorkspaceSetup::default()
    }
}

async fn texts(database: &Database) -> Vec<i64> {
    let raw = database.raw().await;
    let sql = "SELECT CAST(length(content) AS BIGINT) FROM setup_texts ORDER BY 1";
    let rows = raw.query_all_raw(Statement::from_string(raw.get_database_backend(), sql)).await.unwrap();
    raw.close().await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

on_both! {
    async fn long_texts_are_stored_once_and_read_in_their_places(database: &Database) {
        let store = database.store().await;
        let (writer, ..) = writer(&store);
        let prompt = SharedText::from("p".repeat(3 << 20));
        let rows: Vec<_> = (0..40).map(|number| workspace(&format!("w{number}"))).collect();
        let ids: Vec<WorkspaceId> = rows.iter().map(|row| row.id).collect();
        let expected = |number: usize| setup(&prompt, &format!("{number}{}", "o".repeat(500)));
        let setups = ids.iter().enumerate().filter_map(|(number, id)| SetupRow::of(*id, &expected(number)));
        let setups: Vec<SetupRow> = setups.collect();
        assert!(setups.iter().all(|row| row.own_bytes() < 2_000));
        writer.commit(Change::of(InsertWorkspaces(rows)).with(InsertSetups(setups))).await.unwrap();
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(store.setup(*id).await.unwrap(), expected(number));
        }
        assert_eq!(texts(database).await.len(), 41, "the prompt, and a memory of each");
        assert_eq!(store.setup(WorkspaceId::random()).await.unwrap(), WorkspaceSetup::default());

        // The last workspace that has a text takes it along, when it is removed or purged.
        writer.commit(Change::of(DeleteSetups(ids[..20].to_vec()))).await.unwrap();
        assert_eq!(store.setup(ids[0]).await.unwrap(), WorkspaceSetup::default());
        assert_eq!(texts(database).await.len(), 21);
        writer.commit(Change::of(PurgeWorkspaces(ids[20..39].to_vec()))).await.unwrap();
        assert_eq!(store.setup(ids[39]).await.unwrap(), expected(39));
        assert_eq!(texts(database).await, [502, 3 << 20]);
        writer.commit(Change::of(PurgeWorkspaces(ids)).with(DeleteSetups(Vec::new()))).await.unwrap();
        assert_eq!(texts(database).await, [0_i64; 0]);
    }

    async fn a_text_that_was_deleted_can_come_back(database: &Database) {
        let store = database.store().await;
        let (writer, ..) = writer(&store);
        let prompt = SharedText::from("p".repeat(300));
        for name in ["one", "two"] {
            let row = workspace(name);
            let id = row.id;
            let rows = SetupRow::of(id, &setup(&prompt, "")).into_iter().collect();
            writer.commit(Change::of(InsertWorkspaces(vec![row])).with(InsertSetups(rows))).await.unwrap();
            assert_eq!(store.setup(id).await.unwrap(), setup(&prompt, ""));
            writer.commit(Change::of(DeleteSetups(vec![id]))).await.unwrap();
        }
        assert_eq!(texts(database).await, [0_i64; 0]);
    }
}
