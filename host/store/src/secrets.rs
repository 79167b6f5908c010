//! Secrets, as they lie in their rows: sealed. What reads and seals them is the [`Cipher`](crate::Cipher).

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, sea_query::OnConflict,
};
use types::{Owner, WorkspaceId};

use crate::{
    CommitError, Mutation, Store, StoreError,
    entity::{global_secret, inbound_secret, workspace_secret},
    statement::ROWS,
    transaction::Transaction,
};

/// A sealed secret.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretRow {
    /// The organization's secrets are those of all workspaces.
    pub owner: Owner,
    /// Name of the variable.
    pub key: String,
    /// As the cipher sealed it.
    pub value: Vec<u8>,
    /// How.
    pub version: i32,
    /// When it was first set.
    pub created_at: DateTime<Utc>,
    /// When it was last set.
    pub updated_at: DateTime<Utc>,
}

/// What the platform shows when it calls into a workspace, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundSecretRow {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// As the cipher sealed it.
    pub value: Vec<u8>,
    /// How.
    pub version: i32,
}

impl From<InboundSecretRow> for inbound_secret::Model {
    fn from(row: InboundSecretRow) -> Self {
        Self { workspace_id: row.workspace_id.0, value: row.value, version: row.version }
    }
}

impl From<inbound_secret::Model> for InboundSecretRow {
    fn from(row: inbound_secret::Model) -> Self {
        Self { workspace_id: WorkspaceId(row.workspace_id), value: row.value, version: row.version }
    }
}

impl Store {
    /// What the platform shows when it calls into this workspace.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn inbound_secret(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Option<InboundSecretRow>, StoreError> {
        Ok(inbound_secret::Entity::find_by_id(workspace.0).one(&self.read).await?.map(InboundSecretRow::from))
    }

    /// A workspace's own secrets, by key.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn workspace_secrets(&self, workspace: WorkspaceId) -> Result<Vec<SecretRow>, StoreError> {
        let rows = workspace_secret::Entity::find()
            .filter(workspace_secret::Column::WorkspaceId.eq(workspace.0))
            .order_by_asc(workspace_secret::Column::Key)
            .all(&self.read)
            .await?;
        Ok(rows.into_iter().map(SecretRow::from).collect())
    }

    /// Global secrets, by key.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn global_secrets(&self) -> Result<Vec<SecretRow>, StoreError> {
        let rows =
            global_secret::Entity::find().order_by_asc(global_secret::Column::Key).all(&self.read).await?;
        Ok(rows.into_iter().map(SecretRow::from).collect())
    }
}

impl From<workspace_secret::Model> for SecretRow {
    fn from(row: workspace_secret::Model) -> Self {
        Self {
            owner: Owner::Workspace(WorkspaceId(row.workspace_id)),
            key: row.key,
            value: row.value,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<global_secret::Model> for SecretRow {
    fn from(row: global_secret::Model) -> Self {
        Self {
            owner: Owner::Organization,
            key: row.key,
            value: row.value,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

// === Mutations ===

/// New or changed secrets, of workspaces or global.
#[derive(Debug)]
pub struct PutSecrets(pub Vec<SecretRow>);

#[async_trait]
impl Mutation for PutSecrets {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        use global_secret::Column as Global;
        use workspace_secret::Column as Own;
        for rows in self.0.chunks(ROWS) {
            let (mut own, mut global) = (Vec::new(), Vec::new());
            for row in rows.iter().cloned() {
                let SecretRow { owner, key, value, version, created_at, updated_at } = row;
                match owner {
                    Owner::Workspace(WorkspaceId(workspace_id)) => own.push(
                        workspace_secret::Model { workspace_id, key, value, version, created_at, updated_at }
                            .into_active_model()
                            .reset_all(),
                    ),
                    Owner::Organization => global.push(
                        global_secret::Model { key, value, version, created_at, updated_at }
                            .into_active_model()
                            .reset_all(),
                    ),
                }
            }
            if !own.is_empty() {
                let mut conflict = OnConflict::columns([Own::WorkspaceId, Own::Key]);
                conflict.update_columns([Own::Value, Own::Version, Own::UpdatedAt]);
                let put = workspace_secret::Entity::insert_many(own).on_conflict(conflict);
                put.exec_without_returning(&tx.db).await?;
            }
            if !global.is_empty() {
                let mut conflict = OnConflict::column(Global::Key);
                conflict.update_columns([Global::Value, Global::Version, Global::UpdatedAt]);
                let put = global_secret::Entity::insert_many(global).on_conflict(conflict);
                put.exec_without_returning(&tx.db).await?;
            }
        }
        Ok(())
    }
}

/// The inbound secret of a workspace that has none. Conflicts when it has one.
#[derive(Debug)]
pub struct InsertInboundSecret(pub InboundSecretRow);

#[async_trait]
impl Mutation for InsertInboundSecret {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        let unless_present = OnConflict::column(inbound_secret::Column::WorkspaceId).do_nothing().to_owned();
        let inserted = inbound_secret::Entity::insert(
            inbound_secret::Model::from(self.0.clone()).into_active_model().reset_all(),
        )
        .on_conflict(unless_present)
        .exec_without_returning(&tx.db)
        .await?;
        if inserted == 1 { Ok(()) } else { Err(CommitError::Conflict) }
    }
}
