//! Parts of statements that tables share: how many rows and ids one may have, and the upsert of whole rows.

use sea_orm::sea_query::OnConflict;

/// Rows in one statement: 32 columns of a workspace times this stays below SQLite's 32,766 parameters.
pub(crate) const ROWS: usize = 500;

/// Ids in one `IN` list at most: SQLite takes 32,766 parameters a statement, Postgres 65,535.
pub(crate) const IDS: usize = 10_000;

/// An upsert that replaces every column but the key.
pub(crate) fn replacing<C>(key: C, columns: impl Iterator<Item = C>) -> OnConflict
where
    C: sea_orm::ColumnTrait,
{
    let others: Vec<C> = columns.filter(|column| column.as_str() != key.as_str()).collect();
    OnConflict::column(key).update_columns(others).to_owned()
}
