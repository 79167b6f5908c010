//! Parts of statements that tables share: how many rows and ids one may have, how they are
//! split over several, and the upsert of whole rows.

use sea_orm::sea_query::OnConflict;

/// Rows in one statement: 32 columns of a workspace times this stays below SQLite's 32,766 parameters.
pub(crate) const ROWS: usize = 500;

/// Ids in one `IN` list at most: SQLite takes 32,766 parameters a statement, Postgres 65,535.
pub(crate) const IDS: usize = 10_000;

/// Rows in one prepared statement at most, a power of two.
const PREPARED_ROWS: usize = 128;

/// Rows for one statement each, in numbers that are powers of two: the statements of all these are prepared once and fit
/// into the connection's cache, while one for every number would push others out.
pub(crate) fn batches<T>(rows: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut rows = rows.into_iter();
    std::iter::from_fn(move || {
        let power = 1 << rows.len().checked_ilog2()?;
        Some(rows.by_ref().take(PREPARED_ROWS.min(power)).collect())
    })
}

/// An upsert that replaces every column but the key.
pub(crate) fn replacing<C>(key: C, columns: impl Iterator<Item = C>) -> OnConflict
where
    C: sea_orm::ColumnTrait,
{
    let others: Vec<C> = columns.filter(|column| column.as_str() != key.as_str()).collect();
    OnConflict::column(key).update_columns(others).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_into_powers_of_two_in_their_order() {
        for (rows, sizes) in [(0, &[][..]), (1, &[1]), (7, &[4, 2, 1]), (300, &[128, 128, 32, 8, 4])] {
            let batches: Vec<Vec<usize>> = batches((0..rows).collect()).collect();
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
            assert!(batches.into_iter().flatten().eq(0..rows));
        }
    }
}
