//! Table `message_answers`: the first answer to a message that may be sent twice, as far as its row of activity does
//! not say what it was.

use sea_orm::entity::prelude::*;

use super::text_enum::text_enum;

text_enum! {
    /// Where the bytes of an answer are.
    AnswerForm {
        /// They are the text of the row's response.
        Json = "json",
        /// The row's response is a JSON string, whose text they are.
        Text = "text",
        /// They are stored apart.
        Bytes = "bytes",
        /// They broke off. As far as they came, the row's response is a JSON string of them.
        Incomplete = "incomplete",
        /// They exceeded the cap, and are not stored.
        TooLarge = "too_large",
    }
}

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "message_answers")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) activity_id: Uuid,
    pub(crate) status: i32,
    pub(crate) form: AnswerForm,
    pub(crate) bytes: Option<Vec<u8>>,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) retry_after: Option<String>,
    /// Of a stream.
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) content_type: Option<String>,
    pub(crate) created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
