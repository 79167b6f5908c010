//! Component bytes by digest.
//!
//! A component has up to 32 MiB, so its bytes are written in a transaction of their own, before the one
//! that registers the release: all commits of the deployment wait for that one. Bytes without a release
//! are what a process leaves that ended in between; a sweep deletes them.

use std::{collections::BTreeMap, time::Duration};

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, PaginatorTrait as _, QueryFilter as _,
    QuerySelect as _, QueryTrait as _,
    sea_query::{Expr, OnConflict},
};
use tokio::time::timeout;

use crate::{
    Store, StoreError,
    entity::{guest_component, guest_release},
    guarded::Tx,
    statement::IDS,
    transaction::Transaction,
};

/// How long the bytes of a component may take from the database.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of a component row. The cast gives both databases the same type.
const LENGTH: &str = "CAST(LENGTH(bytes) AS BIGINT)";

impl Store {
    /// The bytes of a component as they are stored; the caller verifies them by digest.
    ///
    /// # Errors
    /// If the database fails, or takes longer than 15 s.
    pub async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let query = guest_component::Entity::find_by_id(digest).one(&self.read);
        let found = timeout(READ_TIMEOUT, query).await.map_err(|_| StoreError::Timeout)??;
        Ok(found.map(|component| component.bytes))
    }

    /// Digests of releases whose components the database doesn't have whole: those of a version before
    /// it kept them, damaged ones, and those of releases that were rejected before they had one.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn missing_components(&self) -> Result<Vec<String>, StoreError> {
        let stored: Vec<(String, i64)> = guest_component::Entity::find()
            .select_only()
            .column(guest_component::Column::Digest)
            .expr(Expr::cust(LENGTH))
            .into_tuple()
            .all(&self.read)
            .await?;
        let stored: BTreeMap<String, i64> = stored.into_iter().collect();
        let releases: Vec<(String, i64)> = guest_release::Entity::find()
            .select_only()
            .column(guest_release::Column::Digest)
            .column(guest_release::Column::SizeBytes)
            .distinct()
            .into_tuple()
            .all(&self.read)
            .await?;
        let missing = releases.into_iter().filter(|(digest, size)| stored.get(digest) != Some(size));
        Ok(missing.map(|(digest, _)| digest).collect())
    }

    /// Stores a component, for a release that has it or will be registered next. Bytes that are there
    /// and whole are not written again; returns whether these were written.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn put_component(&self, digest: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        if self.component(digest).await?.is_some_and(|stored| stored == bytes) {
            return Ok(false);
        }
        upsert(digest, bytes).exec_without_returning(&self.db).await?;
        Ok(true)
    }

    /// Digests of components that no release has.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn orphaned_components(&self) -> Result<Vec<String>, StoreError> {
        let orphaned = guest_component::Entity::find()
            .select_only()
            .column(guest_component::Column::Digest)
            .filter(is_orphaned())
            .into_tuple();
        Ok(orphaned.all(&self.read).await?)
    }

    /// Deletes those of these components that no release has. Returns how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete_orphaned_components(&self, digests: Vec<String>) -> Result<u64, StoreError> {
        // In order with the registration of releases.
        let tx = Transaction::begin(self, 0, 0).await?.db;
        let deleted = delete_orphaned(&tx, digests).await?;
        tx.commit().await?;
        Ok(deleted)
    }
}

/// Deletes those of these components that no release has. Returns how many.
pub(super) async fn delete_orphaned(tx: &Tx, digests: Vec<String>) -> Result<u64, StoreError> {
    let mut deleted = 0;
    for digests in digests.chunks(IDS) {
        let orphaned = guest_component::Entity::delete_many()
            .filter(guest_component::Column::Digest.is_in(digests))
            .filter(is_orphaned());
        deleted += orphaned.exec(tx).await?.rows_affected;
    }
    Ok(deleted)
}

/// Stores a component unless the database has it, by its length: the bytes were stored shortly before,
/// but the last release with the same ones may have been deleted meanwhile.
pub(super) async fn ensure(tx: &Tx, digest: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let this = guest_component::Entity::find().filter(guest_component::Column::Digest.eq(digest));
    if this.filter(Expr::cust(LENGTH).eq(length)).count(tx).await? == 0 {
        upsert(digest, bytes).exec_without_returning(tx).await?;
    }
    Ok(())
}

fn is_orphaned() -> Expr {
    let registered = guest_release::Entity::find().select_only().column(guest_release::Column::Digest);
    guest_component::Column::Digest.not_in_subquery(registered.into_query())
}

fn upsert(digest: &str, bytes: &[u8]) -> sea_orm::Insert<guest_component::ActiveModel> {
    use guest_component::Column as C;
    let component =
        guest_component::ActiveModel { digest: Set(digest.to_owned()), bytes: Set(bytes.to_vec()) };
    let known = OnConflict::column(C::Digest).update_column(C::Bytes).to_owned();
    guest_component::Entity::insert(component).on_conflict(known)
}
