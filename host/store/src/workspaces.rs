//! Workspaces: the words their rows are written in, and how they are read. They are written by
//! [`Change`](crate::Change)s only.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseConnection, DbErr, DeriveActiveEnum, EntityTrait,
    EnumIter, QueryFilter as _, QueryOrder as _, QueryResult, QuerySelect as _, QueryTrait as _, Select,
};
use serde::Serialize;
use uuid::Uuid;

pub use crate::entity::{
    layout::Model as LayoutRow, presence::Model as PresenceRow, workspace::Model as WorkspaceRow,
};
use crate::{
    Store, StoreError,
    apply::IDS,
    entity::{layout, presence, workspace},
};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, EnumIter, DeriveActiveEnum)]
        #[sea_orm(rs_type = "String", db_type = "Text")]
        pub enum $name {
            $($(#[$variant_doc])* #[sea_orm(string_value = $word)] #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What clients are told of a workspace.
    Status {
        /// Being started, or waiting for its agent's first call.
        Provisioning = "provisioning",
        /// Its agent works.
        Online = "online",
        /// Its container is gone.
        Offline = "offline",
        /// Its agent works badly, by its own account.
        Degraded = "degraded",
        /// It could not be started.
        Failed = "failed",
        /// Gone for good.
        Removed = "removed",
        /// Stopped by a person, until one resumes it.
        Paused = "paused",
        /// Being stopped because it had nothing to do.
        Hibernating = "hibernating",
        /// Stopped because it had nothing to do, until it has.
        Hibernated = "hibernated",
        /// Run by somebody else, who hasn't called yet or not for long.
        AwaitingAgent = "awaiting_agent",
    }
}

words! {
    /// What people want of a workspace.
    Wanted {
        /// That it works.
        Running = "running",
        /// That it stands still until resumed.
        Paused = "paused",
        /// That it stands still until there is work.
        Hibernated = "hibernated",
        /// That it is gone.
        Removed = "removed",
    }
}

words! {
    /// Who runs a workspace's agent.
    Hosting {
        /// We do, in a container.
        Container = "container",
        /// Somebody else; the agent reports in.
        Operator = "operator",
        /// Nobody: the adapter answers.
        Synthetic = "synthetic",
    }
}

words! {
    /// What was last known of a workspace's container. That the backend can't tell is a condition of
    /// the workspace, not something known.
    Container {
        /// There never was one.
        None = "none",
        /// It runs.
        Running = "running",
        /// It certainly doesn't run.
        Gone = "gone",
        /// One of an earlier attempt may still run, and is stopped before anything is started.
        Stale = "stale",
    }
}

/// A workspace with what belongs to it, as the directory keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedWorkspace {
    /// The row.
    pub row: WorkspaceRow,
    /// Its place on the canvas, if it has one.
    pub layout: Option<LayoutRow>,
    /// What its agent said last, if it said anything.
    pub presence: Option<PresenceRow>,
}

impl Store {
    /// Every workspace that is not removed, in no order. Read in parts, side by side: making rows of
    /// what the database answers is most of the work.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn live_workspaces(&self) -> Result<Vec<LoadedWorkspace>, StoreError> {
        let layouts = tokio::spawn(layout::Entity::find().all_of(self.read.clone()));
        let presences = tokio::spawn(presence::Entity::find().all_of(self.read.clone()));
        let parts: Vec<_> = (0..PARTS)
            .map(|part| {
                let query = workspace::Entity::find()
                    .filter(workspace::Column::Status.ne(Status::Removed))
                    .filter(workspace::Column::Id.gte(first_id(part)));
                let query = match part + 1 {
                    PARTS => query,
                    next => query.filter(workspace::Column::Id.lt(first_id(next))),
                };
                tokio::spawn(rows_of(query, self.read.clone()))
            })
            .collect();
        let mut rows = Vec::new();
        for part in parts {
            rows.extend(part.await.map_err(|_| StoreError::Gone)??);
        }
        let (layouts, presences) = (layouts.await, presences.await);
        let gone = |_| StoreError::Gone;
        Ok(joined(rows, layouts.map_err(gone)??, presences.map_err(gone)??))
    }

    /// Workspaces by id, removed ones too. Unknown ids are left out.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn workspaces(&self, ids: &[Uuid]) -> Result<Vec<LoadedWorkspace>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS) {
            let some = || ids.iter().copied();
            let rows = workspace::Entity::find().filter(workspace::Column::Id.is_in(some()));
            let layouts = layout::Entity::find().filter(layout::Column::WorkspaceId.is_in(some()));
            let presences = presence::Entity::find().filter(presence::Column::WorkspaceId.is_in(some()));
            found.extend(joined(
                rows.all(&self.read).await?,
                layouts.all(&self.read).await?,
                presences.all(&self.read).await?,
            ));
        }
        Ok(found)
    }

    /// Ids of the removed workspaces below `root`, at any depth.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn removed_below(&self, root: Uuid) -> Result<Vec<Uuid>, StoreError> {
        let mut all = Vec::new();
        let mut level = vec![root];
        while !level.is_empty() {
            let mut children: Vec<(Uuid, Status)> = Vec::new();
            for parents in level.chunks(IDS) {
                let below = workspace::Entity::find()
                    .select_only()
                    .columns([workspace::Column::Id, workspace::Column::Status])
                    .filter(workspace::Column::ParentId.is_in(parents.iter().copied()));
                children.extend(below.into_tuple::<(Uuid, Status)>().all(&self.read).await?);
            }
            level = children.iter().map(|(id, _)| *id).collect();
            all.extend(
                children.into_iter().filter(|(_, status)| *status == Status::Removed).map(|(id, _)| id),
            );
        }
        Ok(all)
    }

    /// Removed workspaces whose container was not seen to be gone, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn removed_unsettled(&self) -> Result<Vec<WorkspaceRow>, StoreError> {
        Ok(workspace::Entity::find()
            .filter(workspace::Column::Status.eq(Status::Removed))
            .filter(workspace::Column::Hosting.eq(Hosting::Container))
            .filter(workspace::Column::Container.is_in([Container::Running, Container::Stale]))
            .order_by_asc(workspace::Column::RemovedAt)
            .all(&self.read)
            .await?)
    }
}

/// Parts that all workspaces are read in: more bring nothing, readers then wait for each other's memory.
const PARTS: u8 = 2;

/// The smallest id of a part: ids are random, so parts by their first byte are of one size.
fn first_id(part: u8) -> Uuid {
    let mut bytes = [0; 16];
    bytes[0] = part * (u8::MAX / PARTS + 1);
    Uuid::from_bytes(bytes)
}

/// A query that can be sent away with its connection.
trait AllOf<M> {
    fn all_of(self, db: DatabaseConnection) -> impl Future<Output = Result<Vec<M>, DbErr>> + Send + 'static;
}

impl<E: EntityTrait> AllOf<E::Model> for Select<E> {
    async fn all_of(self, db: DatabaseConnection) -> Result<Vec<E::Model>, DbErr> {
        self.all(&db).await
    }
}

/// What a query finds, read by the place of each column. By name, as `all` reads, takes half as long
/// again, which shows when there are many.
async fn rows_of(
    query: Select<workspace::Entity>,
    db: DatabaseConnection,
) -> Result<Vec<WorkspaceRow>, DbErr> {
    let found = db.query_all_raw(query.build(db.get_database_backend())).await?;
    found.iter().map(row_at).collect()
}

/// Columns come in the order of the entity's fields.
fn row_at(found: &QueryResult) -> Result<WorkspaceRow, DbErr> {
    let mut at = 0..;
    macro_rules! next {
        () => {
            found.try_get_by_index(at.next().unwrap_or_default())?
        };
    }
    Ok(WorkspaceRow {
        id: next!(),
        name: next!(),
        role: next!(),
        tier: next!(),
        runtime: next!(),
        hosting: next!(),
        parent_id: next!(),
        delivery_mode: next!(),
        workspace_dir: next!(),
        workspace_access: next!(),
        budget_limit: next!(),
        max_concurrent_tasks: next!(),
        hibernation_idle_minutes: next!(),
        spec: next!(),
        wanted: next!(),
        generation: next!(),
        status: next!(),
        status_since: next!(),
        observed_generation: next!(),
        container: next!(),
        attempt: next!(),
        attempt_at: next!(),
        failures: next!(),
        retry_at: next!(),
        conditions: next!(),
        url: next!(),
        agent_card: next!(),
        last_sample_error: next!(),
        revision: next!(),
        created_at: next!(),
        updated_at: next!(),
        removed_at: next!(),
    })
}

fn joined(
    rows: Vec<WorkspaceRow>,
    layouts: Vec<LayoutRow>,
    presences: Vec<PresenceRow>,
) -> Vec<LoadedWorkspace> {
    use std::collections::HashMap;
    let mut layouts: HashMap<Uuid, LayoutRow> =
        layouts.into_iter().map(|row| (row.workspace_id, row)).collect();
    let mut presences: HashMap<Uuid, PresenceRow> =
        presences.into_iter().map(|row| (row.workspace_id, row)).collect();
    rows.into_iter()
        .map(|row| LoadedWorkspace {
            layout: layouts.remove(&row.id),
            presence: presences.remove(&row.id),
            row,
        })
        .collect()
}

impl WorkspaceRow {
    /// Is this the row of a workspace that is gone for good?
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.status == Status::Removed
    }

    /// Marks that the row was written at `at`, once more.
    #[must_use]
    pub fn revised(mut self, at: DateTime<Utc>) -> Self {
        self.revision += 1;
        self.updated_at = at;
        self
    }
}
