//! Table `setup_text_uses`: where a setup has a text of `setup_texts`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "setup_text_uses")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) workspace_id: Uuid,
    /// JSON pointer (RFC 6901) into the setup's document.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub(crate) place: String,
    #[sea_orm(column_type = "Text")]
    pub(crate) digest: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
