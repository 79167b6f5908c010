//! Rows of activity are stored: each once, with its number and time, and one message once by its key.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use types::ServerId;
use uuid::Uuid;

use super::{ActivityRow, SAME_MESSAGE};
use crate::{
    CommitError, Mutation, StoreError, entity::activity, first_answers, statement::batches,
    transaction::Transaction,
};

/// New activity rows.
#[derive(Debug)]
pub struct InsertActivity(pub Vec<ActivityRow>);

#[async_trait]
impl Mutation for InsertActivity {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        Ok(insert(tx, self.0.iter()).await?)
    }
}

/// Stores rows in their order. One that is stored already stays as it is: after a commit whose answer was
/// lost, rows are stored again. One that is stored as started becomes the new one, at its old place.
pub(crate) async fn insert<'a>(
    tx: &mut Transaction,
    rows: impl Iterator<Item = &'a ActivityRow> + Send,
) -> Result<(), StoreError> {
    insert_owned(tx, rows.map(|row| (row, None))).await
}

pub(super) async fn insert_owned<'a>(
    tx: &mut Transaction,
    rows: impl Iterator<Item = (&'a ActivityRow, Option<ServerId>)> + Send,
) -> Result<(), StoreError> {
    use activity::Column as C;
    let rows: Vec<_> = rows.collect();
    let known = known_keys(tx, rows.iter().map(|(row, _)| *row)).await?;
    let is_new = |row: &ActivityRow| row.key.as_ref().is_none_or(|key| !known.contains(key));
    let (rows, repeated): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(row, _)| is_new(row));
    if !repeated.is_empty() {
        // Where they were stored as started, the row with their key stands for them.
        activity::Entity::delete_many()
            .filter(C::Id.is_in(repeated.iter().map(|(row, _)| row.id.0)))
            .filter(C::Owner.is_not_null())
            .exec(&tx.db)
            .await?;
    }
    let answers: Vec<_> = rows.iter().filter_map(|(row, _)| Some((row.id, row.answer.as_deref()?))).collect();
    let sequencer = &mut tx.sequencer;
    let rows = rows.into_iter().map(|(row, owner)| {
        let (seq, at) = sequencer.assign_activity(row.created_at);
        let owner = owner.map(|server| server.0);
        activity::Model { owner, ..row.stored(seq, at) }.into_active_model().reset_all()
    });
    let replaced = [
        C::Summary,
        C::ResponseBody,
        C::ToolTrace,
        C::DurationMs,
        C::Status,
        C::ErrorDetail,
        C::IdempotencyKey,
        C::Owner,
    ];
    for rows in batches(rows.collect()) {
        activity::Entity::insert_many(rows)
            .on_conflict(
                OnConflict::column(C::Id)
                    .update_columns(replaced)
                    .action_and_where(Expr::col((activity::Entity, C::Owner)).is_not_null())
                    .to_owned(),
            )
            .exec_without_returning(&tx.db)
            .await?;
    }
    first_answers::insert_answers(tx, answers).await
}

/// Keys of these rows that a row of the last [`SAME_MESSAGE`] has. All commits have one order, so no index has to keep
/// them unique.
async fn known_keys<'a>(
    tx: &Transaction,
    rows: impl Iterator<Item = &'a ActivityRow>,
) -> Result<HashSet<String>, StoreError> {
    use activity::Column as C;
    let keys: Vec<&str> = rows.filter_map(|row| row.key.as_deref()).collect();
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let known: Vec<String> = activity::Entity::find()
        .select_only()
        .column(C::IdempotencyKey)
        .filter(C::IdempotencyKey.is_in(keys))
        .filter(C::CreatedAt.gt(crate::now() - SAME_MESSAGE))
        .into_tuple()
        .all(&tx.db)
        .await?;
    Ok(known.into_iter().collect())
}

impl ActivityRow {
    /// The row as it is stored, under this number.
    pub(super) fn stored(&self, seq: i64, at: DateTime<Utc>) -> activity::Model {
        activity::Model {
            seq,
            id: self.id.0,
            workspace_id: self.workspace_id.0,
            activity_type: self.activity_type.clone(),
            source_id: self.source_id.map(Uuid::from),
            target_id: self.target_id.map(Uuid::from),
            method: self.method.clone(),
            summary: self.summary.clone(),
            request_body: self.request_body.clone(),
            response_body: self.response_body.clone(),
            tool_trace: self.tool_trace.clone(),
            duration_ms: self.duration_ms,
            status: self.status.clone(),
            error_detail: self.error_detail.clone(),
            idempotency_key: self.key.clone(),
            created_at: at,
            owner: None,
        }
    }
}
