//! What workspaces are set up with leaves their rows, which every server holds in memory. Long texts are
//! stored once. Setups of existing workspaces are moved with their texts in place; removed workspaces need
//! none.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::columns::{of_workspace, text, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// NUL is possible in the column's type `json`, but not in `jsonb`.
const MOVE_ON_POSTGRES: [&str; 2] = [
    "INSERT INTO workspace_setups (workspace_id, document) \
     SELECT id, document::text FROM (\
       SELECT id, COALESCE(spec -> 'org', '{}') - 'dir' - 'name' || CASE WHEN spec ? 'initial_memories' \
         THEN jsonb_build_object('initial_memories', spec -> 'initial_memories') ELSE '{}' END AS document \
       FROM (SELECT id, replace(spec::text, '\\u0000', '\\ufffd')::jsonb AS spec FROM workspaces \
             WHERE status <> 'removed') AS live) AS setups \
     WHERE document <> '{}'",
    "UPDATE workspaces SET spec = (live.spec - 'initial_memories' || \
       CASE WHEN live.spec -> 'org' IS NULL THEN '{}' ELSE jsonb_build_object('org', jsonb_build_object(\
         'dir', live.spec #> '{org,dir}', 'name', live.spec #> '{org,name}')) END)::json \
     FROM (SELECT id, replace(spec::text, '\\u0000', '\\ufffd')::jsonb AS spec FROM workspaces) AS live \
     WHERE live.id = workspaces.id \
       AND (live.spec ->> 'org' IS NOT NULL OR live.spec ->> 'initial_memories' IS NOT NULL)",
];

const MOVE_ON_SQLITE: [&str; 2] = [
    "INSERT INTO workspace_setups (workspace_id, document) \
     SELECT id, document FROM (\
       SELECT id, json_patch(\
         json_remove(COALESCE(json_extract(spec, '$.org'), '{}'), '$.dir', '$.name'), \
         CASE WHEN json_type(spec, '$.initial_memories') IS NULL THEN '{}' \
           ELSE json_object('initial_memories', json_extract(spec, '$.initial_memories')) END) AS document \
       FROM workspaces WHERE status <> 'removed') \
     WHERE document <> '{}'",
    "UPDATE workspaces SET spec = CASE WHEN json_type(spec, '$.org') IS NULL \
       THEN json_remove(spec, '$.initial_memories') \
       ELSE json_set(json_remove(spec, '$.initial_memories'), '$.org', json_object(\
         'dir', json_extract(spec, '$.org.dir'), 'name', json_extract(spec, '$.org.name'))) END \
     WHERE json_type(spec, '$.org') IS NOT NULL OR json_type(spec, '$.initial_memories') IS NOT NULL",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: SQLite would otherwise keep the half that was done when the process died.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let setups = Table::create()
            .table("workspace_setups")
            .col(uuid("workspace_id").primary_key())
            .col(text("document").not_null())
            .foreign_key(&mut of_workspace("workspace_setups"))
            .to_owned();
        let texts = Table::create()
            .table("setup_texts")
            .col(text("digest").primary_key())
            .col(text("content").not_null())
            .to_owned();
        let uses = Table::create()
            .table("setup_text_uses")
            .col(uuid("workspace_id").not_null())
            .col(text("place").not_null())
            .col(text("digest").not_null())
            .primary_key(Index::create().col("workspace_id").col("place"))
            .foreign_key(&mut of_workspace("setup_text_uses"))
            .foreign_key(ForeignKey::create().from("setup_text_uses", "digest").to("setup_texts", "digest"))
            .to_owned();
        for table in [setups, texts, uses] {
            manager.create_table(table).await?;
        }
        let by_digest =
            Index::create().name("setup_text_uses_digest").table("setup_text_uses").col("digest").to_owned();
        manager.create_index(by_digest).await?;
        let connection = manager.get_connection();
        let statements = match manager.get_database_backend() {
            DbBackend::Postgres => MOVE_ON_POSTGRES,
            _ => MOVE_ON_SQLITE,
        };
        for statement in statements {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["setup_text_uses", "setup_texts", "workspace_setups"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
