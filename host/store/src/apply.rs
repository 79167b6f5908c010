//! Changes as SQL: one transaction, from taking the order's one row to the commit.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};
use events::Envelope;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, DatabaseTransaction, DbBackend,
    EntityTrait as _, IntoActiveModel as _, Iterable as _, PaginatorTrait as _, QueryFilter as _,
    QuerySelect as _, SqlErr, Statement, TransactionTrait as _,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use uuid::Uuid;

use crate::{
    Change, Check, CommitError, Store, StoreError, Write,
    activity::{self, ActivityRow},
    clock,
    entity::{
        self, event, global_secret, inbound_secret, layout, presence, token, workspace, workspace_secret,
    },
    events::{COMMITTED, is_stored, row},
    leases,
    secrets::SecretRow,
    tokens::TokenKind,
    workspaces::{Status, WorkspaceRow},
    writer::Behind,
};

/// Rows in one statement: 33 columns of a workspace times this stays below SQLite's 32,766 parameters.
const ROWS: usize = 500;

/// Ids in one `IN` list at most: SQLite takes 32,766 parameters a statement, Postgres 65,535.
pub(crate) const IDS: usize = 10_000;

/// Makes all changes in one transaction. Returns the events of each, stamped.
pub(crate) async fn together(
    store: &Store,
    changes: &[&Change],
) -> Result<Vec<Vec<Arc<Envelope>>>, CommitError> {
    let tx = store.db.begin().await.map_err(StoreError::from)?;
    let stored = |change: &Change| change.events.iter().filter(|(_, event)| is_stored(event.class())).count();
    let numbers = changes.iter().map(|change| stored(change)).sum();
    let times = changes.iter().map(|change| change.events.len()).sum();
    let mut next = take_order(&tx, numbers, times).await?;
    let mut told = Vec::with_capacity(changes.len());
    let mut rows = Vec::new();
    for change in changes {
        for check in &change.checks {
            if !holds(&tx, check).await? {
                return Err(CommitError::Refused(check.clone()));
            }
        }
        for write in &change.writes {
            perform(&tx, write, &mut next).await?;
        }
        let events = change.events.iter().map(|(workspace, event)| next.stamp(*workspace, event));
        let events: Vec<Arc<Envelope>> = events.collect();
        rows.extend(events.iter().filter_map(|event| event.seq().map(|seq| row(event, seq))));
        told.push(events);
    }
    let any = !rows.is_empty();
    for rows in rows.chunks(ROWS) {
        let rows = rows.iter().map(|row| row.clone().into_active_model().reset_all());
        event::Entity::insert_many(rows).exec_without_returning(&tx).await.map_err(StoreError::from)?;
    }
    if any && store.backend() == DbBackend::Postgres {
        let notify = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT pg_notify($1, '')",
            [COMMITTED.into()],
        );
        tx.query_one_raw(notify).await.map_err(StoreError::from)?;
    }
    next.keep(&tx).await?;
    tx.commit().await.map_err(StoreError::from).map_err(|error| {
        // Only the answer may have been lost.
        if error.is_outage() { CommitError::Unknown } else { error.into() }
    })?;
    Ok(told)
}

/// The place of a transaction in the one order of all changes.
pub(crate) struct Order {
    seq: i64,
    at_us: i64,
    now: DateTime<Utc>,
    /// Number and time of the last row of activity …
    activity_seq: i64,
    activity_us: i64,
    /// … and whether that is one of ours.
    active: bool,
}

impl Order {
    pub(crate) fn stamp(&mut self, workspace: Option<Uuid>, event: &events::Event) -> Arc<Envelope> {
        self.at_us += 1;
        let at = DateTime::from_timestamp_micros(self.at_us).unwrap_or(self.now);
        if !is_stored(event.class()) {
            return Arc::new(Envelope::live(workspace, event, at));
        }
        self.seq += 1;
        Arc::new(Envelope::stamped(self.seq, workspace, event, at))
    }

    /// Gives a row of activity its number, and a time later than that of any row before.
    fn place(&mut self, row: &ActivityRow) -> entity::activity::Model {
        self.active = true;
        self.activity_seq += 1;
        self.activity_us = Ord::max(row.created_at.timestamp_micros(), self.activity_us + 1);
        let at = DateTime::from_timestamp_micros(self.activity_us).unwrap_or(row.created_at);
        row.placed(self.activity_seq, at)
    }

    /// Notes how far rows of activity came, for the next transaction.
    async fn keep(&self, tx: &DatabaseTransaction) -> Result<(), StoreError> {
        if self.active {
            let sql = "UPDATE event_head SET activity_seq = $1, activity_us = $2";
            let values = [self.activity_seq.into(), self.activity_us.into()];
            let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
            tx.execute_raw(statement).await?;
        }
        Ok(())
    }
}

/// Takes the one row of `event_head`, so that nobody else writes until we are done, and from it this
/// many numbers and times.
pub(crate) async fn take_order(
    tx: &DatabaseTransaction,
    numbers: usize,
    times: usize,
) -> Result<Order, StoreError> {
    let [numbers, times] = [numbers, times].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let (now, mut before) = (crate::now(), clock::take(times));
    let sql = "UPDATE event_head SET seq = seq + $1, \
               at_us = $3 + CASE WHEN at_us > $2 THEN at_us ELSE $2 END RETURNING seq, at_us, \
               activity_seq, activity_us";
    let values = [numbers.into(), before.into(), times.into()];
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    let head = tx.query_one_raw(statement).await?.ok_or(StoreError::Gone)?;
    let (seq, at_us): (i64, i64) = (head.try_get_by_index(0)?, head.try_get_by_index(1)?);
    let (activity_seq, activity_us) = (head.try_get_by_index(2)?, head.try_get_by_index(3)?);
    let known = at_us - times;
    if times > 0 && known > before {
        // Others were first: what was told here meanwhile may have the times after theirs.
        clock::raise(known);
        before = clock::take(times);
        let sql = "UPDATE event_head SET at_us = $1";
        let values = [(before + times).into()];
        tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
    }
    Ok(Order { seq: seq - numbers, at_us: before, now, activity_seq, activity_us, active: false })
}

// === Checks ===

async fn holds(tx: &DatabaseTransaction, check: &Check) -> Result<bool, StoreError> {
    Ok(match check {
        Check::Live(id) => {
            let live = workspace::Column::Status.ne(Status::Removed);
            workspace::Entity::find_by_id(*id).filter(live).count(tx).await? == 1
        }
        Check::NoOtherChildren(parents) => {
            let known: HashSet<Uuid> = parents.iter().copied().collect();
            for parents in parents.chunks(IDS) {
                let children: Vec<Uuid> = workspace::Entity::find()
                    .select_only()
                    .column(workspace::Column::Id)
                    .filter(workspace::Column::ParentId.is_in(parents.iter().copied()))
                    .filter(workspace::Column::Status.ne(Status::Removed))
                    .into_tuple()
                    .all(tx)
                    .await?;
                if children.iter().any(|child| !known.contains(child)) {
                    return Ok(false);
                }
            }
            true
        }
        Check::NoCycle { child, parent } => !is_at_or_above(tx, *child, *parent).await?,
        Check::Held(fence) => leases::is_held(tx, fence).await?,
        Check::FewerUserTokens { workspace, limit } => {
            let live = token::Entity::find()
                .filter(token::Column::WorkspaceId.eq(*workspace))
                .filter(token::Column::Kind.ne(TokenKind::Org))
                .filter(token::Column::RevokedAt.is_null());
            live.count(tx).await? < *limit
        }
    })
}

/// Is `upper` the same as `id`, or above it?
async fn is_at_or_above(tx: &DatabaseTransaction, upper: Uuid, id: Uuid) -> Result<bool, StoreError> {
    let sql = "WITH RECURSIVE up(id) AS (\
                 SELECT CAST($1 AS UUID) UNION SELECT w.parent_id FROM workspaces w JOIN up ON w.id = up.id \
                 WHERE w.parent_id IS NOT NULL) \
               SELECT COUNT(*) FROM up WHERE id = $2";
    let backend = tx.get_database_backend();
    // SQLite knows no UUIDs: a cast would make a number of it.
    let sql =
        if backend == DbBackend::Postgres { sql.to_owned() } else { sql.replace("CAST($1 AS UUID)", "$1") };
    let statement = Statement::from_sql_and_values(backend, sql, [id.into(), upper.into()]);
    let found = tx.query_one_raw(statement).await?.ok_or(StoreError::Gone)?;
    Ok(found.try_get_by_index::<i64>(0)? > 0)
}

// === Writes ===

async fn perform(tx: &DatabaseTransaction, write: &Write, order: &mut Order) -> Result<(), CommitError> {
    let now = order.now;
    match write {
        Write::InsertWorkspaces(rows) => insert_workspaces(tx, rows).await,
        Write::UpdateWorkspaces(rows) => update_workspaces(tx, rows).await,
        Write::PutLayouts(rows) => {
            for rows in rows.chunks(ROWS) {
                let rows = rows.iter().map(|row| row.into_active_model().reset_all());
                layout::Entity::insert_many(rows)
                    .on_conflict(replacing(layout::Column::WorkspaceId, layout::Column::iter()))
                    .exec_without_returning(tx)
                    .await
                    .map_err(StoreError::from)?;
            }
            Ok(())
        }
        Write::DeleteLayouts(ids) => {
            for ids in ids.chunks(IDS) {
                let theirs = layout::Column::WorkspaceId.is_in(ids.iter().copied());
                layout::Entity::delete_many().filter(theirs).exec(tx).await.map_err(StoreError::from)?;
            }
            Ok(())
        }
        Write::InsertToken(row) => {
            let row = row.as_ref().clone().into_active_model().reset_all();
            token::Entity::insert(row).exec_without_returning(tx).await.map_err(StoreError::from)?;
            Ok(())
        }
        Write::RevokeToken { id, by } => {
            let revoked = token::Entity::update_many()
                .col_expr(token::Column::RevokedAt, Expr::value(now))
                .col_expr(token::Column::RevokedBy, Expr::value(by.as_str()))
                .filter(token::Column::Id.eq(*id))
                .filter(token::Column::RevokedAt.is_null())
                .exec(tx)
                .await
                .map_err(StoreError::from)?;
            if revoked.rows_affected == 1 { Ok(()) } else { Err(CommitError::Stale) }
        }
        Write::RevokeTokensOf { workspaces, by } => {
            for workspaces in workspaces.chunks(IDS) {
                token::Entity::update_many()
                    .col_expr(token::Column::RevokedAt, Expr::value(now))
                    .col_expr(token::Column::RevokedBy, Expr::value(by.as_str()))
                    .filter(token::Column::WorkspaceId.is_in(workspaces.iter().copied()))
                    .filter(token::Column::RevokedAt.is_null())
                    .exec(tx)
                    .await
                    .map_err(StoreError::from)?;
            }
            Ok(())
        }
        Write::PutSecrets(rows) => put_secrets(tx, rows).await,
        Write::InsertInboundSecret(row) => {
            let inserted = inbound_secret::Entity::insert(row.clone().into_active_model().reset_all())
                .on_conflict(OnConflict::column(inbound_secret::Column::WorkspaceId).do_nothing().to_owned())
                .exec_without_returning(tx)
                .await
                .map_err(StoreError::from)?;
            if inserted == 1 { Ok(()) } else { Err(CommitError::Stale) }
        }
        Write::InsertActivity(rows) => {
            Ok(activity::insert(tx, rows.iter().map(|row| order.place(row)).collect()).await?)
        }
        Write::Purge(ids) => purge(tx, ids).await,
    }
}

async fn insert_workspaces(tx: &DatabaseTransaction, rows: &[WorkspaceRow]) -> Result<(), CommitError> {
    for rows in rows.chunks(ROWS) {
        let rows = rows.iter().map(|row| row.clone().into_active_model().reset_all());
        workspace::Entity::insert_many(rows).exec_without_returning(tx).await.map_err(name_taken)?;
    }
    Ok(())
}

/// One row is an `UPDATE`; many are one upsert, several times quicker than an `UPDATE` each.
async fn update_workspaces(tx: &DatabaseTransaction, rows: &[WorkspaceRow]) -> Result<(), CommitError> {
    if let [row] = rows {
        let updated = workspace::Entity::update_many()
            .set(row.clone().into_active_model().reset_all())
            .filter(workspace::Column::Id.eq(row.id))
            .filter(workspace::Column::Revision.eq(row.revision - 1))
            .exec(tx)
            .await
            .map_err(name_taken)?;
        return if updated.rows_affected == 1 { Ok(()) } else { Err(CommitError::Stale) };
    }
    for rows in rows.chunks(ROWS) {
        // An upsert would bring back what was purged meanwhile.
        let ids = workspace::Column::Id.is_in(rows.iter().map(|row| row.id));
        let there = workspace::Entity::find().filter(ids).count(tx).await.map_err(StoreError::from)?;
        if there != rows.len() as u64 {
            return Err(CommitError::Stale);
        }
        let before = Expr::col(("excluded", workspace::Column::Revision)).sub(1);
        let mut conflict = replacing(workspace::Column::Id, workspace::Column::iter());
        conflict.action_and_where(Expr::col((workspace::Entity, workspace::Column::Revision)).eq(before));
        let written = workspace::Entity::insert_many(
            rows.iter().map(|row| row.clone().into_active_model().reset_all()),
        )
        .on_conflict(conflict)
        .exec_without_returning(tx)
        .await
        .map_err(name_taken)?;
        if written != rows.len() as u64 {
            return Err(CommitError::Stale);
        }
    }
    Ok(())
}

async fn put_secrets(tx: &DatabaseTransaction, rows: &[SecretRow]) -> Result<(), CommitError> {
    use global_secret::Column as Global;
    use workspace_secret::Column as Own;
    for rows in rows.chunks(ROWS) {
        let (mut own, mut global) = (Vec::new(), Vec::new());
        for row in rows.iter().cloned() {
            let SecretRow { workspace_id, key, value, version, created_at, updated_at } = row;
            match workspace_id {
                Some(workspace_id) => own.push(
                    workspace_secret::Model { workspace_id, key, value, version, created_at, updated_at }
                        .into_active_model()
                        .reset_all(),
                ),
                None => global.push(
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
            put.exec_without_returning(tx).await.map_err(StoreError::from)?;
        }
        if !global.is_empty() {
            let mut conflict = OnConflict::column(Global::Key);
            conflict.update_columns([Global::Value, Global::Version, Global::UpdatedAt]);
            let put = global_secret::Entity::insert_many(global).on_conflict(conflict);
            put.exec_without_returning(tx).await.map_err(StoreError::from)?;
        }
    }
    Ok(())
}

/// What belongs to the workspaces goes with them by foreign keys; events have none.
async fn purge(tx: &DatabaseTransaction, ids: &[Uuid]) -> Result<(), CommitError> {
    for ids in ids.chunks(ROWS) {
        let ids = || ids.iter().copied();
        let theirs = event::Entity::delete_many().filter(event::Column::WorkspaceId.is_in(ids()));
        theirs.exec(tx).await.map_err(StoreError::from)?;
        workspace::Entity::update_many()
            .col_expr(workspace::Column::ParentId, Expr::value(None::<Uuid>))
            .filter(workspace::Column::ParentId.is_in(ids()))
            .exec(tx)
            .await
            .map_err(StoreError::from)?;
        let rows = workspace::Entity::delete_many().filter(workspace::Column::Id.is_in(ids()));
        rows.exec(tx).await.map_err(StoreError::from)?;
    }
    Ok(())
}

fn replacing<C>(key: C, columns: impl Iterator<Item = C>) -> OnConflict
where
    C: sea_orm::ColumnTrait,
{
    let others: Vec<C> = columns.filter(|column| column.as_str() != key.as_str()).collect();
    OnConflict::column(key).update_columns(others).to_owned()
}

/// The only unique constraint on workspaces that people can run into is that of names.
fn name_taken(error: sea_orm::DbErr) -> CommitError {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => CommitError::NameTaken,
        _ => StoreError::from(error).into(),
    }
}

// === Written behind ===

/// Stores rows that were written behind. Rows of workspaces or tokens that are gone are left out.
pub(crate) async fn behind(store: &Store, behind: &Behind) -> Result<(), StoreError> {
    let tx = store.db.begin().await?;
    // In the one order of changes too: two transactions that lock the same rows one by one would wait
    // for each other.
    let mut order = take_order(&tx, 0, 0).await?;
    for (id, at) in &behind.tokens_used {
        token::Entity::update_many()
            .col_expr(token::Column::LastUsedAt, Expr::value(*at))
            .filter(token::Column::Id.eq(*id))
            .exec(&tx)
            .await?;
    }
    let of_activity = behind.activity.iter().map(|row| row.workspace_id);
    let there = those_there(&tx, behind.presences.keys().copied().chain(of_activity).collect()).await?;
    let presences = behind.presences.values().filter(|row| there.contains(&row.workspace_id));
    let presences: Vec<_> = presences.map(|row| readable(row).into_active_model().reset_all()).collect();
    if !presences.is_empty() {
        presence::Entity::insert_many(presences)
            .on_conflict(newer_presence())
            .exec_without_returning(&tx)
            .await?;
    }
    let active = behind.activity.iter().filter(|row| there.contains(&row.workspace_id));
    activity::insert(&tx, active.map(|row| order.place(row)).collect()).await?;
    order.keep(&tx).await?;
    Ok(tx.commit().await?)
}

/// What becomes of a presence that is there: as [`presence::Model::after`] has it.
fn newer_presence() -> OnConflict {
    use presence::Column as C;
    let known = |column: C| Expr::col((presence::Entity, column));
    let new = |column: C| Expr::col(("excluded", column));
    let mut conflict = OnConflict::column(C::WorkspaceId);
    for column in C::iter().filter(|column| !matches!(column, C::WorkspaceId)) {
        let by = if matches!(column, C::LastOutboundAt) { column } else { C::LastSeenAt };
        let newer = known(by).is_null().or(new(by).gte(known(by)));
        conflict.value(column, Expr::case(newer, new(column)).finally(known(column)));
    }
    conflict
}

/// What an agent said, as every database takes it.
fn readable(row: &presence::Model) -> presence::Model {
    presence::Model {
        current_task: activity::clean(&row.current_task),
        sample_error: row.sample_error.as_deref().map(activity::clean),
        ..row.clone()
    }
}

/// Which of these workspaces exist, removed ones included.
async fn those_there(tx: &DatabaseTransaction, ids: HashSet<Uuid>) -> Result<HashSet<Uuid>, StoreError> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let there = workspace::Entity::find()
        .select_only()
        .column(workspace::Column::Id)
        .filter(workspace::Column::Id.is_in(ids))
        .into_tuple()
        .all(tx)
        .await?;
    Ok(there.into_iter().collect())
}
