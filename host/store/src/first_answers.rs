//! The first answers to messages that may be sent twice, as far as rows of activity don't have them.

use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, sea_query::OnConflict};
use types::ActivityId;

use crate::{StoreError, entity::message_answer, statement::batches, transaction::Transaction};

pub use crate::entity::message_answer::AnswerForm;

/// The first answer to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstAnswer {
    /// HTTP status.
    pub status: u16,
    /// Where its bytes are.
    pub form: AnswerForm,
    /// Those that are stored apart.
    pub bytes: Option<Vec<u8>>,
    /// When its agent wants to be asked again, as it wrote it.
    pub retry_after: Option<String>,
    /// Content type of a stream.
    pub content_type: Option<String>,
}

impl FirstAnswer {
    /// Memory that it takes, about.
    pub(crate) fn size(&self) -> usize {
        let texts = [&self.retry_after, &self.content_type].into_iter().flatten();
        size_of::<Self>() + self.bytes.as_ref().map_or(0, Vec::len) + texts.map(String::len).sum::<usize>()
    }
}

impl From<message_answer::Model> for FirstAnswer {
    fn from(row: message_answer::Model) -> Self {
        Self {
            status: u16::try_from(row.status).unwrap_or_default(),
            form: row.form,
            bytes: row.bytes,
            retry_after: row.retry_after,
            content_type: row.content_type,
        }
    }
}

/// Stores the answers that go with these rows of activity.
pub(crate) async fn insert_answers(
    tx: &Transaction,
    answers: Vec<(ActivityId, &FirstAnswer)>,
) -> Result<(), StoreError> {
    let now = crate::now();
    let rows = answers.into_iter().map(|(id, answer)| {
        let row = message_answer::Model {
            activity_id: id.0,
            status: answer.status.into(),
            form: answer.form,
            bytes: answer.bytes.clone(),
            retry_after: answer.retry_after.clone(),
            content_type: answer.content_type.clone(),
            created_at: now,
        };
        row.into_active_model().reset_all()
    });
    // After a commit whose answer was lost, rows are stored again.
    let stored = OnConflict::column(message_answer::Column::ActivityId).do_nothing().to_owned();
    for rows in batches(rows.collect()) {
        let insert = message_answer::Entity::insert_many(rows).on_conflict(stored.clone());
        insert.exec_without_returning(&tx.db).await?;
    }
    Ok(())
}
