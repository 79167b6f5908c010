//! Workspaces: their enums, and how their rows are read and written.

mod mutations;
mod preconditions;

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbErr, DeriveActiveEnum,
    EntityTrait, EnumIter, QueryFilter as _, QueryOrder as _, QueryResult, QuerySelect as _, QueryTrait as _,
    Select,
};
use serde::Serialize;
use uuid::Uuid;

pub use crate::entity::workspace::Model as WorkspaceRow;
use crate::{
    Store, StoreError,
    commit::IDS,
    entity::{layout, presence, workspace},
    layouts::LayoutRow,
    presence::PresenceRow,
};
pub use mutations::{InsertWorkspaces, PurgeWorkspaces, UpdateWorkspaces, rows_written};
pub use preconditions::{NoCycle, NoOtherChildren, WorkspaceIsLive};

/// An enum that is stored, and shown to clients, as text.
macro_rules! string_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, EnumIter, DeriveActiveEnum)]
        #[sea_orm(rs_type = "String", db_type = "Text")]
        pub enum $name {
            $($(#[$variant_doc])* #[sea_orm(string_value = $word)] #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All variants.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The text of a variant.
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
pub(crate) use string_enum;

string_enum! {
    /// The status that clients see.
    Status {
        /// Is being started, or has not heard from its agent yet.
        Provisioning = "provisioning",
        /// The agent works.
        Online = "online",
        /// The container is gone.
        Offline = "offline",
        /// The agent reports that it works badly.
        Degraded = "degraded",
        /// Could not be started.
        Failed = "failed",
        /// Final.
        Removed = "removed",
        /// Stopped by a user, until resumed.
        Paused = "paused",
        /// Is being stopped because it was idle.
        Hibernating = "hibernating",
        /// Stopped because it was idle, until there is work.
        Hibernated = "hibernated",
        /// Has an operator's agent that hasn't called yet, or not for long.
        AwaitingAgent = "awaiting_agent",
    }
}

string_enum! {
    /// What was asked of a workspace.
    DesiredState {
        /// To work.
        Running = "running",
        /// To stand still until resumed.
        Paused = "paused",
        /// To stand still until there is work.
        Hibernated = "hibernated",
        /// To be gone.
        Removed = "removed",
    }
}

string_enum! {
    /// What runs a workspace's agent.
    Hosting {
        /// A container of the backend.
        Container = "container",
        /// An operator; the agent reports in.
        Operator = "operator",
        /// Nothing: the adapter answers.
        Synthetic = "synthetic",
    }
}

string_enum! {
    /// The container as last observed. An unreachable backend is a condition of the workspace, not a
    /// value of this.
    Container {
        /// There never was one.
        None = "none",
        /// It runs.
        Running = "running",
        /// It certainly doesn't run.
        Absent = "gone",
        /// One of an earlier attempt may still run, and is stopped before another one is started.
        Superseded = "stale",
    }
}

/// A workspace row with its layout and presence.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedWorkspace {
    /// From `workspaces`.
    pub row: WorkspaceRow,
    /// From `layouts`.
    pub layout: Option<LayoutRow>,
    /// From `presence`.
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

    /// Removed workspaces whose container was not observed to be gone, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn removed_unsettled(&self) -> Result<Vec<WorkspaceRow>, StoreError> {
        Ok(workspace::Entity::find()
            .filter(workspace::Column::Status.eq(Status::Removed))
            .filter(workspace::Column::Hosting.eq(Hosting::Container))
            .filter(workspace::Column::Container.is_in([Container::Running, Container::Superseded]))
            .order_by_asc(workspace::Column::RemovedAt)
            .all(&self.read)
            .await?)
    }
}

/// Parts that all workspaces are read in: more bring nothing, readers then contend for memory.
const PARTS: u8 = 2;

/// The smallest id of a part: ids are random, so parts by their first byte are of one size.
fn first_id(part: u8) -> Uuid {
    let mut bytes = [0; 16];
    bytes[0] = part * (u8::MAX / PARTS + 1);
    Uuid::from_bytes(bytes)
}

/// A query that owns its connection, so that it can be spawned.
trait AllOf<M> {
    fn all_of(self, db: DatabaseConnection) -> impl Future<Output = Result<Vec<M>, DbErr>> + Send + 'static;
}

impl<E: EntityTrait> AllOf<E::Model> for Select<E> {
    async fn all_of(self, db: DatabaseConnection) -> Result<Vec<E::Model>, DbErr> {
        self.all(&db).await
    }
}

/// Runs a query and reads its columns by position. By name, as `all` reads them, takes half as long again.
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

/// Which of these workspaces exist, removed ones included.
pub(crate) async fn existing_ids(
    tx: &DatabaseTransaction,
    ids: HashSet<Uuid>,
) -> Result<HashSet<Uuid>, StoreError> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let existing = workspace::Entity::find()
        .select_only()
        .column(workspace::Column::Id)
        .filter(workspace::Column::Id.is_in(ids))
        .into_tuple()
        .all(tx)
        .await?;
    Ok(existing.into_iter().collect())
}

impl WorkspaceRow {
    /// Is the workspace removed for good?
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.status == Status::Removed
    }

    /// The next revision of the row, written at `at`.
    #[must_use]
    pub fn revised(mut self, at: DateTime<Utc>) -> Self {
        self.revision += 1;
        self.updated_at = at;
        self
    }
}
