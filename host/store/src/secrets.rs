//! Secrets, as they lie in their rows: sealed. What reads and seals them is the [`Cipher`](crate::Cipher).

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    entity::{global_secret, inbound_secret, workspace_secret},
};

/// A sealed secret.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretRow {
    /// Its workspace; none when it is everybody's.
    pub workspace_id: Option<Uuid>,
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

pub use crate::entity::inbound_secret::Model as InboundSecretRow;

impl Store {
    /// What the platform shows when it calls into this workspace.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn inbound_secret(&self, workspace: Uuid) -> Result<Option<InboundSecretRow>, StoreError> {
        Ok(inbound_secret::Entity::find_by_id(workspace).one(&self.read).await?)
    }

    /// A workspace's own secrets, by key.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn workspace_secrets(&self, workspace: Uuid) -> Result<Vec<SecretRow>, StoreError> {
        let rows = workspace_secret::Entity::find()
            .filter(workspace_secret::Column::WorkspaceId.eq(workspace))
            .order_by_asc(workspace_secret::Column::Key)
            .all(&self.read)
            .await?;
        Ok(rows.into_iter().map(SecretRow::from).collect())
    }

    /// Everybody's secrets, by key.
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
            workspace_id: Some(row.workspace_id),
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
            workspace_id: None,
            key: row.key,
            value: row.value,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
