//! Which errors say that the database as a whole can't be used for a while. What failed with one of them is
//! tried again; nothing is wrong with the statement.

use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{Connection as _, Error, Sqlite, pool::PoolOptions},
};

/// Classes of Postgres: connection lost, resources used up, operator intervened, system failed.
const POSTGRES_CLASSES: [&str; 4] = ["08", "53", "57", "58"];

/// Single codes of Postgres: the database is read-only (after a failover), a lock was not free in time, an
/// idle transaction was ended.
const POSTGRES_CODES: [&str; 3] = ["25006", "55P03", "25P03"];

/// SQLite: busy, locked, read-only, I/O error, disk full, a file that can't be opened, locks in use by others.
const SQLITE_CODES: [u32; 7] = [5, 6, 8, 10, 13, 14, 15];

pub(crate) fn is_outage(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            match error.as_ref() {
                Error::Io(_)
                | Error::Tls(_)
                | Error::Protocol(_)
                | Error::PoolTimedOut
                | Error::PoolClosed
                | Error::BeginFailed
                | Error::WorkerCrashed => true,
                Error::Database(error) => error.code().is_some_and(|code| is_outage_code(&code)),
                _ => false,
            }
        }
        _ => false,
    }
}

/// Closes connections that can't leave a transaction, instead of handing them out.
///
/// SQLite itself rolls back when the disk is full. The driver's rollback fails then, and the driver takes the
/// connection for one within a transaction for ever: each later transaction would be a savepoint in it. The
/// first of them that fails would leave a transaction open into which all later ones go, committed for their
/// callers and lost at the end of the process.
pub(crate) fn close_stuck(pool: PoolOptions<Sqlite>) -> PoolOptions<Sqlite> {
    pool.before_acquire(|connection, _| {
        Box::pin(async move {
            if connection.is_in_transaction() {
                // A rollback may be under way; it is done when this is.
                connection.ping().await?;
            }
            Ok(!connection.is_in_transaction())
        })
    })
}

/// Postgres has codes of five characters; SQLite has numbers whose lowest byte is the kind.
fn is_outage_code(code: &str) -> bool {
    if code.len() == 5 {
        return POSTGRES_CODES.contains(&code)
            || POSTGRES_CLASSES.iter().any(|class| code.starts_with(class));
    }
    code.parse::<u32>().is_ok_and(|code| SQLITE_CODES.contains(&(code & 0xff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_by_table() {
        for code in ["08006", "53100", "53300", "57P01", "57P03", "58030", "25006", "55P03", "25P03"] {
            assert!(is_outage_code(code), "Postgres {code}");
        }
        for code in ["23505", "22021", "42P01", "40001", "22P05"] {
            assert!(!is_outage_code(code), "Postgres {code}");
        }
        // Disk full, I/O error on write, busy in recovery, read-only file system.
        for code in ["13", "778", "261", "8", "1032"] {
            assert!(is_outage_code(code), "SQLite {code}");
        }
        // A unique constraint, a syntax error.
        for code in ["2067", "1555", "1", "19"] {
            assert!(!is_outage_code(code), "SQLite {code}");
        }
    }
}
