//! The core: workspaces with desired and observed state, tokens, secrets, ordered events, leases, and jobs.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::{flag, integer, json, of_workspace, text, time, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Without a transaction, a killed process would leave half of the migration on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            workspaces(),
            presence(),
            layouts(),
            tokens(),
            workspace_secrets(),
            global_secrets(),
            inbound_secrets(),
            events(),
            event_head(),
            leases(),
            jobs(),
        ] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        let head = Query::insert()
            .into_table("event_head")
            .columns(["id", "seq", "at_us"])
            .values_panic([1.into(), 0_i64.into(), 0_i64.into()])
            .to_owned();
        manager.execute(head).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "jobs",
            "leases",
            "event_head",
            "events",
            "inbound_secrets",
            "global_secrets",
            "workspace_secrets",
            "tokens",
            "layouts",
            "presence",
            "workspaces",
        ] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

fn workspaces() -> TableCreateStatement {
    Table::create()
        .table("workspaces")
        .col(uuid("id").primary_key())
        // Identity.
        .col(text("name").not_null())
        .col(text("role"))
        .col(integer("tier").not_null())
        .col(text("runtime").not_null())
        .col(text("hosting").not_null())
        .col(uuid("parent_id"))
        .col(text("delivery_mode").not_null())
        .col(text("workspace_dir"))
        .col(text("workspace_access").not_null())
        .col(ColumnDef::new("budget_limit").big_integer())
        .col(integer("max_concurrent_tasks").not_null())
        .col(integer("hibernation_idle_minutes"))
        .col(json("spec").not_null())
        // Desired state.
        .col(text("wanted").not_null())
        .col(ColumnDef::new("generation").big_integer().not_null())
        // Observed state.
        .col(text("status").not_null())
        .col(time("status_since").not_null())
        .col(ColumnDef::new("observed_generation").big_integer().not_null())
        .col(text("container").not_null())
        .col(integer("attempt").not_null())
        .col(time("attempt_at"))
        .col(integer("failures").not_null())
        .col(time("retry_at"))
        .col(json("conditions").not_null())
        .col(text("url"))
        .col(json("agent_card"))
        .col(text("last_sample_error"))
        // Housekeeping.
        .col(ColumnDef::new("revision").big_integer().not_null())
        .col(time("created_at").not_null())
        .col(time("updated_at").not_null())
        .col(time("removed_at"))
        .foreign_key(ForeignKey::create().from("workspaces", "parent_id").to("workspaces", "id"))
        .to_owned()
}

/// Separate from `workspaces`, because presence is written much more often.
fn presence() -> TableCreateStatement {
    Table::create()
        .table("presence")
        .col(uuid("workspace_id").primary_key())
        .col(time("last_seen_at"))
        .col(time("last_outbound_at"))
        .col(integer("active_tasks").not_null())
        .col(text("current_task").not_null())
        .col(ColumnDef::new("uptime_seconds").big_integer().not_null())
        .col(ColumnDef::new("error_rate").double().not_null())
        .col(text("sample_error"))
        .col(ColumnDef::new("monthly_spend").big_integer().not_null())
        .foreign_key(&mut of_workspace("presence"))
        .to_owned()
}

fn layouts() -> TableCreateStatement {
    Table::create()
        .table("layouts")
        .col(uuid("workspace_id").primary_key())
        .col(ColumnDef::new("x").double().not_null())
        .col(ColumnDef::new("y").double().not_null())
        .col(flag("collapsed").not_null())
        .foreign_key(&mut of_workspace("layouts"))
        .to_owned()
}

fn tokens() -> TableCreateStatement {
    Table::create()
        .table("tokens")
        .col(uuid("id").primary_key())
        .col(text("kind").not_null())
        .col(uuid("workspace_id"))
        .col(ColumnDef::new("hash").binary_len(32).not_null().unique_key())
        .col(text("prefix").not_null())
        .col(text("name"))
        .col(text("created_by"))
        .col(uuid("org_id"))
        .col(time("created_at").not_null())
        .col(time("last_used_at"))
        .col(time("revoked_at"))
        .col(text("revoked_by"))
        .foreign_key(&mut of_workspace("tokens"))
        .to_owned()
}

fn workspace_secrets() -> TableCreateStatement {
    Table::create()
        .table("workspace_secrets")
        .col(uuid("workspace_id").not_null())
        .col(text("key").not_null())
        .col(ColumnDef::new("value").binary().not_null())
        .col(integer("version").not_null())
        .col(time("created_at").not_null())
        .col(time("updated_at").not_null())
        .primary_key(Index::create().col("workspace_id").col("key"))
        .foreign_key(&mut of_workspace("workspace_secrets"))
        .to_owned()
}

fn global_secrets() -> TableCreateStatement {
    Table::create()
        .table("global_secrets")
        .col(text("key").primary_key())
        .col(ColumnDef::new("value").binary().not_null())
        .col(integer("version").not_null())
        .col(time("created_at").not_null())
        .col(time("updated_at").not_null())
        .to_owned()
}

/// Credentials of the platform for calls into a workspace.
fn inbound_secrets() -> TableCreateStatement {
    Table::create()
        .table("inbound_secrets")
        .col(uuid("workspace_id").primary_key())
        .col(ColumnDef::new("value").binary().not_null())
        .col(integer("version").not_null())
        .foreign_key(&mut of_workspace("inbound_secrets"))
        .to_owned()
}

/// No foreign key: events outlive the workspace.
fn events() -> TableCreateStatement {
    Table::create()
        .table("events")
        .col(ColumnDef::new("seq").big_integer().not_null().primary_key())
        .col(uuid("id").not_null().unique_key())
        .col(text("event_type").not_null())
        .col(uuid("workspace_id"))
        // Text, not JSON: clients get its bytes unchanged.
        .col(text("payload").not_null())
        .col(time("created_at").not_null())
        .to_owned()
}

/// One row. Every writing transaction locks it first, which puts all changes into one order.
fn event_head() -> TableCreateStatement {
    Table::create()
        .table("event_head")
        .col(integer("id").primary_key())
        .col(ColumnDef::new("seq").big_integer().not_null())
        // Microseconds since 1970 of the last event: no two events have the same time.
        .col(ColumnDef::new("at_us").big_integer().not_null())
        .to_owned()
}

fn leases() -> TableCreateStatement {
    Table::create()
        .table("leases")
        .col(text("name").primary_key())
        .col(uuid("holder").not_null())
        .col(ColumnDef::new("epoch").big_integer().not_null())
        // Milliseconds since 1970 by the database's clock, so that servers needn't agree on theirs.
        .col(ColumnDef::new("expires_ms").big_integer().not_null())
        .to_owned()
}

fn jobs() -> TableCreateStatement {
    Table::create()
        .table("jobs")
        .col(uuid("id").primary_key())
        .col(text("kind").not_null())
        .col(text("idempotency_key").unique_key())
        .col(text("state").not_null())
        .col(text("step").not_null())
        .col(uuid("owner"))
        .col(ColumnDef::new("epoch").big_integer().not_null())
        .col(time("deadline").not_null())
        .col(json("request").not_null())
        .col(json("result"))
        .col(text("error"))
        .col(time("created_at").not_null())
        .col(time("updated_at").not_null())
        .to_owned()
}

fn indexes() -> Vec<IndexCreateStatement> {
    vec![
        Index::create().name("workspaces_parent").table("workspaces").col("parent_id").to_owned(),
        // Two indexes for one rule: NULLs are never equal, and a root has no parent.
        Index::create()
            .name("workspaces_child_name")
            .table("workspaces")
            .col("parent_id")
            .col("name")
            .unique()
            .and_where(Expr::col("status").ne("removed").and(Expr::col("parent_id").is_not_null()))
            .to_owned(),
        Index::create()
            .name("workspaces_root_name")
            .table("workspaces")
            .col("name")
            .unique()
            .and_where(Expr::col("status").ne("removed").and(Expr::col("parent_id").is_null()))
            .to_owned(),
        Index::create()
            .name("tokens_workspace_live")
            .table("tokens")
            .col("workspace_id")
            .and_where(Expr::col("revoked_at").is_null())
            .to_owned(),
        Index::create().name("events_workspace").table("events").col("workspace_id").col("seq").to_owned(),
        Index::create().name("events_created").table("events").col("created_at").to_owned(),
        Index::create().name("jobs_state").table("jobs").col("state").col("deadline").to_owned(),
    ]
}
