//! Workspaces: their enums, and how their rows are read and written.

mod mutations;
mod preconditions;
mod row;

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, DbErr, EntityTrait, QueryFilter as _, QueryOrder as _,
    QueryResult, QuerySelect as _, QueryTrait as _, Select,
};
use types::WorkspaceId;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    entity::{json_column::JsonColumn, layout, presence, text_column::TextColumn, workspace},
    guarded::{Pool, Tx},
    layouts::LayoutRow,
    presence::PresenceRow,
    statement::IDS,
};
pub use mutations::{InsertWorkspaces, PurgeWorkspaces, UpdateWorkspaces, rows_written};
pub use preconditions::{NoCycle, NoOtherChildren, NoneHasRuntime, PausedAbove, WorkspaceIsLive};
pub use row::WorkspaceRow;
pub use types::{Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceAccess};

/// Selects workspaces that aren't removed and have one of these runtimes.
fn has_runtime(runtimes: &[String]) -> Condition {
    Condition::all()
        .add(workspace::Column::Runtime.is_in(runtimes))
        .add(workspace::Column::Status.ne(TextColumn(Status::Removed)))
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
                    .filter(workspace::Column::Status.ne(TextColumn(Status::Removed)))
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
        let layouts = layouts.map_err(gone)??.into_iter().map(LayoutRow::from).collect();
        let presences = presences.map_err(gone)??.into_iter().map(PresenceRow::from).collect();
        Ok(joined(rows, layouts, presences))
    }

    /// Name and runtime of a workspace that isn't removed and has one of these runtimes, if there is one.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn workspace_of_runtimes(
        &self,
        runtimes: &[String],
    ) -> Result<Option<(String, String)>, StoreError> {
        let found = workspace::Entity::find()
            .select_only()
            .columns([workspace::Column::Name, workspace::Column::Runtime])
            .filter(has_runtime(runtimes))
            .order_by_asc(workspace::Column::CreatedAt)
            .limit(1)
            .into_tuple();
        Ok(found.one(&self.read).await?)
    }

    /// Workspaces by id, removed ones too. Unknown ids are left out.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn workspaces(&self, ids: &[WorkspaceId]) -> Result<Vec<LoadedWorkspace>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS) {
            let some = || ids.iter().map(|id| id.0);
            let rows = workspace::Entity::find().filter(workspace::Column::Id.is_in(some()));
            let layouts = layout::Entity::find().filter(layout::Column::WorkspaceId.is_in(some()));
            let presences = presence::Entity::find().filter(presence::Column::WorkspaceId.is_in(some()));
            found.extend(joined(
                rows.all(&self.read).await?.into_iter().map(WorkspaceRow::from).collect(),
                layouts.all(&self.read).await?.into_iter().map(LayoutRow::from).collect(),
                presences.all(&self.read).await?.into_iter().map(PresenceRow::from).collect(),
            ));
        }
        Ok(found)
    }

    /// Ids of the removed workspaces below `root`, at any depth.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn removed_below(&self, root: WorkspaceId) -> Result<Vec<WorkspaceId>, StoreError> {
        let mut all = Vec::new();
        let mut level = vec![root];
        while !level.is_empty() {
            let mut children: Vec<(Uuid, TextColumn<Status>)> = Vec::new();
            for parents in level.chunks(IDS) {
                let below = workspace::Entity::find()
                    .select_only()
                    .columns([workspace::Column::Id, workspace::Column::Status])
                    .filter(workspace::Column::ParentId.is_in(parents.iter().map(|id| id.0)));
                children.extend(below.into_tuple::<(Uuid, TextColumn<Status>)>().all(&self.read).await?);
            }
            level = children.iter().map(|(id, _)| WorkspaceId(*id)).collect();
            all.extend(
                children
                    .into_iter()
                    .filter(|(_, status)| status.0 == Status::Removed)
                    .map(|(id, _)| WorkspaceId(id)),
            );
        }
        Ok(all)
    }

    /// Removed workspaces whose container was not observed to be gone, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn removed_unsettled(&self) -> Result<Vec<WorkspaceRow>, StoreError> {
        let rows = workspace::Entity::find()
            .filter(workspace::Column::Status.eq(TextColumn(Status::Removed)))
            .filter(workspace::Column::Hosting.eq(TextColumn(Hosting::Container)))
            .filter(
                workspace::Column::Container
                    .is_in([TextColumn(Container::Running), TextColumn(Container::Superseded)]),
            )
            .order_by_asc(workspace::Column::RemovedAt)
            .all(&self.read)
            .await?;
        Ok(rows.into_iter().map(WorkspaceRow::from).collect())
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
    fn all_of(self, db: Pool) -> impl Future<Output = Result<Vec<M>, DbErr>> + Send + 'static;
}

impl<E: EntityTrait> AllOf<E::Model> for Select<E> {
    async fn all_of(self, db: Pool) -> Result<Vec<E::Model>, DbErr> {
        self.all(&db).await
    }
}

/// Runs a query and reads its columns by position. By name, as `all` reads them, takes half as long again.
async fn rows_of(query: Select<workspace::Entity>, db: Pool) -> Result<Vec<WorkspaceRow>, DbErr> {
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
        ($column:ident) => {
            found.try_get_by_index::<$column<_>>(at.next().unwrap_or_default())?.0
        };
    }
    Ok(WorkspaceRow {
        id: WorkspaceId(next!()),
        name: next!(),
        role: next!(),
        tier: next!(),
        runtime: next!(),
        hosting: next!(TextColumn),
        parent_id: Option::<Uuid>::map(next!(), WorkspaceId),
        delivery_mode: next!(TextColumn),
        workspace_dir: next!(),
        workspace_access: next!(TextColumn),
        budget_limit: next!(),
        max_concurrent_tasks: next!(),
        hibernation_idle_minutes: next!(),
        spec: next!(JsonColumn),
        desired: next!(TextColumn),
        generation: next!(),
        status: next!(TextColumn),
        status_since: next!(),
        observed_generation: next!(),
        container: next!(TextColumn),
        attempt: next!(),
        attempt_at: next!(),
        failures: next!(),
        retry_at: next!(),
        conditions: next!(JsonColumn),
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
    let mut layouts: HashMap<WorkspaceId, LayoutRow> =
        layouts.into_iter().map(|row| (row.workspace_id, row)).collect();
    let mut presences: HashMap<WorkspaceId, PresenceRow> =
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
    tx: &Tx,
    ids: HashSet<WorkspaceId>,
) -> Result<HashSet<WorkspaceId>, StoreError> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let existing: Vec<Uuid> = workspace::Entity::find()
        .select_only()
        .column(workspace::Column::Id)
        .filter(workspace::Column::Id.is_in(ids.into_iter().map(Uuid::from)))
        .into_tuple()
        .all(tx)
        .await?;
    Ok(existing.into_iter().map(WorkspaceId).collect())
}
