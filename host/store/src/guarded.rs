//! Connections whose statements have only values that every database takes.
//!
//! SQLite stores and compares text with a NUL, Postgres fails the statement. Here NULs become U+FFFD in every
//! value of every statement, read or write, so that both databases hold the same and no caller has to think of
//! it. Names, whose rules refuse NULs, do not get this far.

use std::ops::Deref;

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult,
    Statement, TransactionTrait as _, Value,
};

/// A connection, or a transaction, with guarded values.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<C>(C);

/// Connections.
pub(crate) type Pool = Guarded<DatabaseConnection>;

/// A transaction on one of them.
pub(crate) type Tx = Guarded<DatabaseTransaction>;

impl<C> From<C> for Guarded<C> {
    fn from(connection: C) -> Self {
        Self(connection)
    }
}

impl<C> Deref for Guarded<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl Pool {
    pub(crate) async fn begin(&self) -> Result<Tx, DbErr> {
        self.0.begin().await.map(Guarded)
    }

    pub(crate) async fn close(self) -> Result<(), DbErr> {
        self.0.close().await
    }
}

impl Tx {
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        self.0.commit().await
    }
}

#[async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Guarded<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(guarded(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(guarded(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(guarded(statement)).await
    }

    fn support_returning(&self) -> bool {
        self.0.support_returning()
    }
}

fn guarded(mut statement: Statement) -> Statement {
    for value in statement.values.iter_mut().flat_map(|values| &mut values.0) {
        match value {
            Value::String(Some(text)) if text.contains('\0') => {
                *text = wire_json::without_nul(text).into_owned();
            }
            Value::Json(Some(json)) => wire_json::clean(json),
            _ => {}
        }
    }
    statement
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_statements_have_no_nul() {
        let values: [Value; 4] =
            ["a\0b".into(), json!({ "\0": ["\0"] }).into(), None::<String>.into(), 7.into()];
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, "SELECT $1", values);
        let found = guarded(statement).values.map(|values| values.0);
        let expected: Vec<Value> = vec![
            "a\u{fffd}b".into(),
            json!({ "\u{fffd}": ["\u{fffd}"] }).into(),
            None::<String>.into(),
            7.into(),
        ];
        assert_eq!(found, Some(expected));
    }
}
