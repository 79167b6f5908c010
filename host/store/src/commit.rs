//! Changes as transactions, each from locking the one row of `event_head` to the commit.

use std::{collections::HashSet, sync::Arc};

use events::Envelope;
use sea_orm::{
    ActiveModelTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, IntoActiveModel as _, Statement,
};
use types::WorkspaceId;

use crate::{
    Change, CommitError, Store, StoreError, Transaction,
    entity::event,
    events::{COMMITTED, is_stored, row},
    statement::ROWS,
    workspaces,
    write_behind::{Buffer, Pending},
};

/// Commits all changes in one transaction. Returns the events of each, sequenced.
pub(crate) async fn commit_group(
    store: &Store,
    changes: &[&Change],
) -> Result<Vec<Vec<Arc<Envelope>>>, CommitError> {
    let stored = |change: &Change| change.events.iter().filter(|(_, event)| is_stored(event.class())).count();
    let numbers = changes.iter().map(|change| stored(change)).sum();
    let times = changes.iter().map(|change| change.events.len()).sum();
    let mut tx = Transaction::begin(store, numbers, times).await?;
    let mut published = Vec::with_capacity(changes.len());
    let mut rows = Vec::new();
    for change in changes {
        for precondition in change.preconditions() {
            if !precondition.holds(&mut tx).await? {
                return Err(CommitError::PreconditionFailed(Arc::clone(precondition)));
            }
        }
        for mutation in change.mutations() {
            mutation.execute(&mut tx).await?;
        }
        let sequenced =
            change.events.iter().map(|(workspace, event)| tx.sequencer.envelope(*workspace, event));
        let events: Vec<Arc<Envelope>> = sequenced.collect();
        rows.extend(events.iter().filter_map(|event| event.seq().map(|seq| row(event, seq))));
        published.push(events);
    }
    let any = !rows.is_empty();
    for rows in rows.chunks(ROWS) {
        let rows = rows.iter().map(|row| row.clone().into_active_model().reset_all());
        event::Entity::insert_many(rows).exec_without_returning(&tx.db).await?;
    }
    if any && store.backend() == DbBackend::Postgres {
        let sql = "SELECT pg_notify($1, '')";
        let notify = Statement::from_sql_and_values(DbBackend::Postgres, sql, [COMMITTED.into()]);
        tx.db.query_one_raw(notify).await?;
    }
    tx.sequencer.save(&tx.db).await?;
    tx.db.commit().await.map_err(StoreError::from).map_err(|error| {
        // Only the answer may have been lost, except where the database is in this process.
        if error.is_outage() && !store.is_single_process() {
            CommitError::OutcomeUnknown
        } else {
            error.into()
        }
    })?;
    Ok(published)
}

/// Stores rows that were written behind. Rows of workspaces or tokens that are gone are left out.
///
/// In the one order of commits too: two transactions that lock the same rows one by one would wait for
/// each other.
pub(crate) async fn flush(store: &Store, pending: &Pending) -> Result<(), StoreError> {
    let mut tx = Transaction::begin(store, 0, 0).await?;
    let ids: HashSet<WorkspaceId> = pending.buffers().flat_map(Buffer::workspaces).collect();
    let existing = workspaces::existing_ids(&tx.db, ids).await?;
    for buffer in pending.buffers().filter(|buffer| buffer.len() > 0) {
        buffer.store(&mut tx, &existing).await?;
    }
    tx.sequencer.save(&tx.db).await?;
    Ok(tx.db.commit().await?)
}
