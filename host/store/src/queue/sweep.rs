//! Sweeps of the queue: what expired, what servers left when they ended, and what is old.

use std::collections::HashSet;

use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _, Statement,
    Value,
};
use types::{QueueItemId, ServerId, WorkspaceId};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    entity::queued,
    guarded::Tx,
    leases::{LONGER_MS, SERVERS, live_server},
    transaction::Transaction,
};

/// Age at which a claim of this server counts as lost when no delivery of this server has it: the answer to the claim
/// did not arrive.
const ORPHANED_AFTER: Duration = Duration::minutes(1);

/// Rows deleted in one transaction, so that others get their turn in between.
const DELETED_AT_ONCE: u64 = 500;

/// What a sweep may do.
#[derive(Debug)]
pub struct Swept<'a> {
    /// The server that sweeps.
    pub server: ServerId,
    /// Messages that it delivers at this moment.
    pub running: &'a HashSet<QueueItemId>,
    /// Whether it may take claims from servers without a lease.
    pub requeue_others: bool,
    /// Attempts after which a message fails.
    pub max_attempts: i32,
    /// The longest back-off. One whose end is further off was stored before the clock was set back.
    pub longest_wait: Duration,
}

/// A workspace for which messages wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingWorkspace {
    /// The workspace.
    pub id: WorkspaceId,
    /// Whether one of the messages may be sent now, as far as back-off is concerned.
    pub due: bool,
}

impl Store {
    /// Drops messages that expired or whose workspace was removed, and requeues those whose server is gone. Returns
    /// the workspaces for which messages wait.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn sweep_queue(&self, sweep: &Swept<'_>) -> Result<Vec<WaitingWorkspace>, StoreError> {
        let any = "SELECT 1 WHERE EXISTS (SELECT 1 FROM a2a_queue WHERE status = 'queued') \
                   OR EXISTS (SELECT 1 FROM a2a_queue WHERE status = 'dispatched')";
        if self.read.query_one_raw(Statement::from_string(self.backend(), any)).await?.is_none() {
            return Ok(Vec::new());
        }
        let now = crate::now();
        let tx = Transaction::begin(self, 0, 0).await?.db;
        let execute = async |sql: &str, values: Vec<Value>| {
            tx.execute_raw(Statement::from_sql_and_values(self.backend(), sql, values)).await
        };
        let expired = "UPDATE a2a_queue SET status = 'dropped', last_error = 'expired', finished_at = $1 \
                       WHERE status = 'queued' AND expires_at <= $1";
        execute(expired, vec![now.into()]).await?;
        let removed = "UPDATE a2a_queue SET status = 'dropped', last_error = 'its workspace was removed', \
                         finished_at = $1 \
                       WHERE status = 'queued' AND EXISTS (SELECT 1 FROM workspaces \
                         WHERE workspaces.id = a2a_queue.workspace_id AND workspaces.status = 'removed')";
        execute(removed, vec![now.into()]).await?;

        let requeue = "UPDATE a2a_queue SET dispatched_at = NULL, owner = NULL, not_before = NULL, \
                         last_error = 'its server ended before the delivery did', \
                         status = CASE WHEN attempts >= $1 THEN 'failed' ELSE 'queued' END, \
                         finished_at = CASE WHEN attempts >= $1 THEN $2 ELSE finished_at END \
                       WHERE status = 'dispatched' AND";
        let max_attempts: Value = sweep.max_attempts.into();
        execute(&format!("{requeue} owner IS NULL"), vec![max_attempts.clone(), now.into()]).await?;
        if sweep.requeue_others {
            let live = live_server(self.backend(), "a2a_queue.owner");
            let lost = format!("{requeue} owner <> $3 AND NOT {live}");
            execute(&lost, vec![max_attempts.clone(), now.into(), sweep.server.0.into()]).await?;
        }
        for orphan in orphans(&tx, sweep, now).await? {
            let one = format!("{requeue} id = $3");
            execute(&one, vec![max_attempts.clone(), now.into(), orphan.into()]).await?;
        }

        let sql = "SELECT workspace_id, \
                     MIN(CASE WHEN not_before > $1 AND not_before <= $2 THEN 1 ELSE 0 END) \
                   FROM a2a_queue WHERE status = 'queued' GROUP BY workspace_id";
        let list = [now.into(), (now + sweep.longest_wait).into()];
        let list = Statement::from_sql_and_values(self.backend(), sql, list);
        let mut waiting = Vec::new();
        for row in tx.query_all_raw(list).await? {
            let (id, early): (Uuid, i32) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            waiting.push(WaitingWorkspace { id: WorkspaceId(id), due: early == 0 });
        }
        tx.commit().await?;
        Ok(waiting)
    }

    /// Renews this server's lease, without which others take over what it was delivering.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn renew_server(
        &self,
        server: ServerId,
        length: std::time::Duration,
    ) -> Result<(), StoreError> {
        let now = self.clock_ms();
        let length_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        // After the database's clock was set back. A server that lives has time to renew its lease.
        let longest = format!("{now} + $1 + {LONGER_MS}");
        let shorten = format!(
            "UPDATE leases SET expires_ms = {longest} WHERE name LIKE '{SERVERS}%' AND expires_ms > {longest}"
        );
        let shorten = Statement::from_sql_and_values(self.backend(), shorten, [length_ms.into()]);
        self.db.execute_raw(shorten).await?;
        let sql = format!(
            "INSERT INTO leases (name, holder, epoch, expires_ms) VALUES ($1, $2, 1, {now} + $3) \
             ON CONFLICT (name) DO UPDATE SET expires_ms = excluded.expires_ms"
        );
        let values = [format!("{SERVERS}{}", server.0).into(), server.0.into(), length_ms.into()];
        self.db.execute_raw(Statement::from_sql_and_values(self.backend(), sql, values)).await?;
        Ok(())
    }

    /// Deletes messages that were finished before this time, and the leases of servers that ended long ago. Returns
    /// how many messages.
    ///
    /// # Errors
    /// If the database fails; then some may be deleted.
    pub async fn delete_finished_queued(&self, time: DateTime<Utc>) -> Result<u64, StoreError> {
        use queued::Column as C;
        let now = self.clock_ms();
        let ended =
            format!("DELETE FROM leases WHERE name LIKE '{SERVERS}%' AND expires_ms < {now} - 3600000");
        self.db.execute_unprepared(&ended).await?;
        let mut deleted = 0;
        loop {
            let tx = Transaction::begin(self, 0, 0).await?.db;
            let old: Vec<Uuid> = queued::Entity::find()
                .select_only()
                .column(C::Id)
                .filter(C::FinishedAt.lt(time))
                .limit(DELETED_AT_ONCE)
                .into_tuple()
                .all(&tx)
                .await?;
            let more = old.len() as u64 == DELETED_AT_ONCE;
            deleted += queued::Entity::delete_many().filter(C::Id.is_in(old)).exec(&tx).await?.rows_affected;
            tx.commit().await?;
            if !more {
                return Ok(deleted);
            }
        }
    }
}

/// Claims of the sweeping server that no delivery has.
async fn orphans(tx: &Tx, sweep: &Swept<'_>, now: DateTime<Utc>) -> Result<Vec<Uuid>, StoreError> {
    let sql = "SELECT id FROM a2a_queue WHERE status = 'dispatched' AND owner = $1 AND dispatched_at < $2";
    let values = [sweep.server.0.into(), (now - ORPHANED_AFTER).into()];
    let rows =
        tx.query_all_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
    let mut orphans = Vec::new();
    for row in rows {
        let id: Uuid = row.try_get_by_index(0)?;
        if !sweep.running.contains(&QueueItemId(id)) {
            orphans.push(id);
        }
    }
    Ok(orphans)
}
