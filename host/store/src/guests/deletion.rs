//! Deleting a guest with its releases and their components.

use std::collections::BTreeSet;

use async_trait::async_trait;
use events::{Event, definitions::GuestChanged};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use super::{GuestRow, components};
use crate::{
    Change, CommitError, Mutation, Store, WorkspaceEvent,
    entity::{guest, guest_release},
    transaction::Transaction,
    workspaces::NoneHasRuntime,
};

/// A guest is deleted. Conflicts when its row is another one, or of another revision.
#[derive(Debug)]
struct DeleteGuest(GuestRow);

#[async_trait]
impl Mutation for DeleteGuest {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        let releases = guest_release::Column::Guest.eq(&self.0.name);
        let digests: Vec<String> = guest_release::Entity::find()
            .select_only()
            .column(guest_release::Column::Digest)
            .filter(releases.clone())
            .into_tuple()
            .all(&tx.db)
            .await?;
        guest_release::Entity::delete_many().filter(releases).exec(&tx.db).await?;
        components::delete_orphaned(&tx.db, digests).await?;
        let deleted = guest::Entity::delete_many().filter(self.0.is_stored()).exec(&tx.db).await?;
        // Dropping the transaction undoes what came before.
        if deleted.rows_affected == 1 { Ok(()) } else { Err(CommitError::Conflict) }
    }

    fn implicit_events(&self, _: &BTreeSet<types::WorkspaceId>) -> Vec<WorkspaceEvent> {
        vec![(None, Event::GuestChanged(GuestChanged { guest: self.0.name.clone() }))]
    }
}

impl Store {
    /// Deletes a guest, its releases, and components that no other release has. `row` is the one that the
    /// deletion was planned on, and `runtimes` are those that the guest answers for.
    ///
    /// # Errors
    /// [`CommitError::PreconditionFailed`] while a workspace that isn't removed has one of the runtimes,
    /// else see [`CommitError`].
    pub async fn delete_guest(&self, row: GuestRow, runtimes: Vec<String>) -> Result<(), CommitError> {
        self.commit_beside_writer(Change::of(DeleteGuest(row)).require(NoneHasRuntime(runtimes))).await
    }
}
