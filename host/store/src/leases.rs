//! Leases: who does what only one server may do. The database's clock decides when one is over, so
//! servers needn't agree on theirs; the holder's own monotonic clock says, early, when to stop. A database whose
//! clock was set back may have a lease that ends far ahead: no lease lasts that long, so it is free.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use types::ServerId;

use crate::{Precondition, Store, StoreError, transaction::Transaction};

/// A lease that this server holds.
#[derive(Debug, Clone)]
pub struct Lease {
    /// What a change names to prove it.
    pub fence: Fence,
    /// Act no longer than this without having renewed it.
    pub until: Instant,
}

/// Proof of a lease. The epoch grows with each new holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Name of the lease.
    pub name: &'static str,
    /// Id of the server that holds the lease.
    pub holder: ServerId,
    /// Which holding it is.
    pub epoch: i64,
}

/// The lease is still the fence's.
#[derive(Debug)]
pub struct LeaseIsHeld(pub Fence);

#[async_trait]
impl Precondition for LeaseIsHeld {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        is_held(&tx.db, &self.0).await
    }
}

/// How much earlier than the database a holder takes its lease for over, as a share of its length.
const MARGIN: u32 = 4;

/// How much longer than one that is asked for another holder's lease may be, milliseconds.
pub(crate) const LONGER_MS: i64 = 60_000;

impl Store {
    /// Takes the lease if it is free, or renews it if it is `holder`'s. None if another holder has it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn lease(
        &self,
        name: &'static str,
        holder: ServerId,
        length: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let asked = Instant::now();
        let now = self.clock_ms();
        let sql = format!(
            "INSERT INTO leases (name, holder, epoch, expires_ms) VALUES ($1, $2, 1, {now} + $3) \
             ON CONFLICT (name) DO UPDATE SET \
               epoch = CASE WHEN leases.holder = excluded.holder THEN leases.epoch ELSE leases.epoch + 1 END, \
               holder = excluded.holder, expires_ms = excluded.expires_ms \
             WHERE leases.holder = excluded.holder OR leases.expires_ms <= {now} \
               OR leases.expires_ms > {now} + $3 + {LONGER_MS} \
             RETURNING epoch"
        );
        let length_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let values = [name.into(), holder.0.into(), length_ms.into()];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        let Some(row) = self.db.query_one_raw(statement).await? else {
            return Ok(None);
        };
        let epoch = row.try_get_by_index(0)?;
        let until = asked + (length - length / MARGIN);
        Ok(Some(Lease { fence: Fence { name, holder, epoch }, until }))
    }

    /// Whether the lease still has the epoch of the fence.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_held(&self, fence: &Fence) -> Result<bool, StoreError> {
        is_held(&self.db, fence).await
    }

    /// Gives every lease of `holder` back, so that others needn't wait.
    ///
    /// # Errors
    /// If the database fails; the leases end by themselves then.
    pub async fn release_leases(&self, holder: ServerId) -> Result<(), StoreError> {
        let sql = "UPDATE leases SET expires_ms = 0 WHERE holder = $1";
        self.db.execute_raw(Statement::from_sql_and_values(self.backend(), sql, [holder.0.into()])).await?;
        Ok(())
    }

    /// A database of this process alone has no other holder of leases.
    pub(crate) async fn free_all_leases(&self) -> Result<(), StoreError> {
        self.db.execute_unprepared("UPDATE leases SET expires_ms = 0").await?;
        Ok(())
    }

    /// Milliseconds since 1970 by the database's clock, in its SQL.
    pub(crate) fn clock_ms(&self) -> &'static str {
        clock_ms(self.backend())
    }
}

/// How the names of leases begin that only say that a server lives. Each server has its own.
pub(crate) const SERVERS: &str = "server:";

/// The SQL condition that the server whose id this column has renews its lease.
pub(crate) fn live_server(backend: DbBackend, column: &str) -> String {
    let now = clock_ms(backend);
    format!(
        "EXISTS (SELECT 1 FROM leases WHERE leases.holder = {column} AND leases.name LIKE '{SERVERS}%' \
         AND leases.expires_ms > {now})"
    )
}

fn clock_ms(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        _ => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    }
}

/// Is the lease still the fence's? Keeps it so until the transaction ends.
pub(crate) async fn is_held(db: &impl ConnectionTrait, fence: &Fence) -> Result<bool, StoreError> {
    let backend = db.get_database_backend();
    let lock = if backend == DbBackend::Postgres { "FOR SHARE" } else { "" };
    let sql = format!("SELECT 1 FROM leases WHERE name = $1 AND holder = $2 AND epoch = $3 {lock}");
    let values = [fence.name.into(), fence.holder.0.into(), fence.epoch.into()];
    Ok(db.query_one_raw(Statement::from_sql_and_values(backend, sql, values)).await?.is_some())
}
