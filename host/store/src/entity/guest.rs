//! Table `guests`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "guests")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub(crate) name: String,
    #[sea_orm(column_type = "Text")]
    pub(crate) world: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) component: Option<String>,
    pub(crate) trusted: bool,
    pub(crate) enabled: bool,
    pub(crate) pooled: bool,
    pub(crate) settings: Json,
    pub(crate) description: Option<Json>,
    pub(crate) revision: i64,
    pub(crate) created_at: DateTimeUtc,
    pub(crate) updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
