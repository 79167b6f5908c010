//! Column types and the reference to a workspace, the same in every table.

use sea_orm_migration::prelude::*;

pub(crate) fn text(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).text().to_owned()
}

pub(crate) fn integer(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).integer().to_owned()
}

pub(crate) fn flag(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).boolean().to_owned()
}

pub(crate) fn uuid(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).uuid().to_owned()
}

pub(crate) fn json(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).json().to_owned()
}

pub(crate) fn count(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().default(0).to_owned()
}

pub(crate) fn time(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).timestamp_with_time_zone().to_owned()
}

/// A foreign key to a workspace: the row is deleted with it.
pub(crate) fn of_workspace(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, "workspace_id")
        .to("workspaces", "id")
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}
