//! Whether Postgres can be reached, and if not, why. A pool of connections would say that it timed out.

use std::time::Duration;

use sqlx::{
    Connection as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a Postgres that refuses connections, or is starting, is waited for; also how long one may take to
/// answer.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);
/// Delays between attempts: the first and the longest.
const MIN_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_millis(500);

/// SQLSTATEs of a server that accepts connections later: it is starting, or has too many.
const TRANSIENT: [&str; 2] = ["57P03", "53300"];

/// Why Postgres can't be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unreachable {
    /// The host has no address.
    #[error("the host {host} has no address")]
    UnknownHost {
        /// The host.
        host: String,
        /// What the resolver said.
        #[source]
        source: Cause,
    },
    /// No connection.
    #[error("no connection to Postgres at {at}")]
    Connect {
        /// Host and port, or socket.
        at: String,
        /// What the system said.
        #[source]
        source: Cause,
    },
    /// A connection, but no answer.
    #[error("Postgres at {at} did not answer within {} s", REACH_TIMEOUT.as_secs())]
    NoAnswer {
        /// Host and port, or socket.
        at: String,
    },
    /// No encrypted connection.
    #[error("TLS with Postgres at {at} failed (see sslmode and sslrootcert in DATABASE_URL)")]
    Tls {
        /// Host and port, or socket.
        at: String,
        /// What the TLS library said.
        #[source]
        source: Cause,
    },
    /// Postgres refused: the password, the name of the database, the user, the kind of connection.
    #[error("Postgres at {at} refused the connection{hint}")]
    Refused {
        /// Host and port, or socket.
        at: String,
        /// What may be wrong.
        hint: &'static str,
        /// What Postgres said. Contains names of users and databases, no password.
        #[source]
        source: Cause,
    },
    /// Something else answers there.
    #[error("what answers at {at} isn't Postgres")]
    Protocol {
        /// Host and port, or socket.
        at: String,
        /// What was wrong.
        #[source]
        source: Cause,
    },
    /// A connection pooler in between shares sessions.
    #[error(
        "at {at} is a connection pooler that runs the statements of one connection in changing sessions of \
         Postgres, as PgBouncer does with pool_mode = transaction or statement. Set pool_mode = session for this \
         database there, or give Postgres' own address in DATABASE_URL"
    )]
    SharedSessions {
        /// Host and port, or socket.
        at: String,
    },
}

/// The error below, as text: errors of the store can be cloned.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

/// Waits until Postgres accepts connections, for a bounded time, and checks that each has a session of its own.
pub(crate) async fn check(options: &PgConnectOptions) -> Result<(), Unreachable> {
    let place = Place::of(options);
    place.resolve(options).await?;
    let mut first = place.connect(options).await?;
    let mut second = place.connect(options).await?;
    let sessions = timeout(REACH_TIMEOUT, have_own_sessions(&mut first, &mut second)).await;
    let shared = match sessions {
        Ok(Ok(own)) => !own,
        Ok(Err(error)) => return Err(place.explain(error)),
        Err(_) => return Err(place.no_answer()),
    };
    if shared {
        return Err(Unreachable::SharedSessions { at: place.0 });
    }
    for connection in [first, second] {
        // Dropped, the connection ends as well, but Postgres would log that.
        let _ = timeout(REACH_TIMEOUT, connection.close()).await;
    }
    Ok(())
}

/// Whether two connections are two sessions, also while one has a transaction. A pooler that lends sessions for a
/// transaction or statement gives the second connection the one that the first has just returned, or another one
/// to the first meanwhile.
async fn have_own_sessions(first: &mut PgConnection, second: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let mine = session(first).await?;
    if session(second).await? == mine {
        return Ok(false);
    }
    sqlx::raw_sql("BEGIN").execute(&mut *second).await?;
    let theirs = session(second).await?;
    // With one session in all, the first would now wait for the second.
    let own = theirs != mine && session(first).await? == mine;
    sqlx::raw_sql("ROLLBACK").execute(&mut *second).await?;
    Ok(own)
}

/// The process of Postgres that runs the statements of a connection. Not by a prepared statement, which belongs to
/// a session.
async fn session(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let row: PgRow = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?;
    row.try_get(0)
}

/// Host and port, or socket, as errors name it.
struct Place(String);

impl Place {
    fn of(options: &PgConnectOptions) -> Self {
        let (host, port) = (options.get_host(), options.get_port());
        Self(match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None if host.contains(':') => format!("[{host}]:{port}"),
            None => format!("{host}:{port}"),
        })
    }

    async fn resolve(&self, options: &PgConnectOptions) -> Result<(), Unreachable> {
        if options.get_socket().is_some() || options.get_host().starts_with('/') {
            return Ok(());
        }
        let host = options.get_host();
        let resolved = timeout(REACH_TIMEOUT, tokio::net::lookup_host((host, options.get_port()))).await;
        match resolved.map_err(|_| self.no_answer())? {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(Unreachable::UnknownHost { host: host.to_owned(), source: Cause(error.to_string()) })
            }
        }
    }

    async fn connect(&self, options: &PgConnectOptions) -> Result<PgConnection, Unreachable> {
        let deadline = Instant::now() + REACH_TIMEOUT;
        let mut delay = MIN_DELAY;
        let mut last = None;
        loop {
            match timeout_at(deadline, PgConnection::connect_with(options)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) if is_transient(&error) && Instant::now() + delay < deadline => {
                    last = Some(error);
                }
                Ok(Err(error)) => return Err(self.explain(error)),
                Err(_) => return Err(last.map_or_else(|| self.no_answer(), |error| self.explain(error))),
            }
            sleep(delay).await;
            delay = (delay * 2).min(MAX_DELAY);
        }
    }

    fn no_answer(&self) -> Unreachable {
        Unreachable::NoAnswer { at: self.0.clone() }
    }

    fn explain(&self, error: sqlx::Error) -> Unreachable {
        let at = self.0.clone();
        match error {
            sqlx::Error::Database(error) => {
                let (code, message) =
                    (error.code().unwrap_or_default().into_owned(), error.message().to_owned());
                if message.contains("unsupported startup parameter")
                    || message.contains("statement pooling mode")
                {
                    return Unreachable::SharedSessions { at };
                }
                Unreachable::Refused { at, hint: hint(&code, &message), source: Cause(message) }
            }
            sqlx::Error::Tls(error) => Unreachable::Tls { at, source: Cause(error.to_string()) },
            sqlx::Error::Io(error) if is_tls(&error) => {
                Unreachable::Tls { at, source: Cause(error.to_string()) }
            }
            sqlx::Error::Io(error) => Unreachable::Connect { at, source: Cause(error.to_string()) },
            error => Unreachable::Protocol { at, source: Cause(error.to_string()) },
        }
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| TRANSIENT.contains(&code.as_ref())),
        _ => false,
    }
}

/// The TLS library reports what is wrong with a certificate as invalid data.
fn is_tls(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

fn hint(code: &str, message: &str) -> &'static str {
    match code {
        "28P01" => ": wrong user or password",
        "28000" if message.contains("no encryption") || message.contains("SSL off") => {
            ": it may want TLS (sslmode=require in DATABASE_URL)"
        }
        "28000" => ": wrong user, or its pg_hba.conf doesn't let this host in",
        "3D000" => ": create the database, or name another one in DATABASE_URL",
        "53300" => ": it has no free connection",
        "57P03" => ": it is starting or stopping",
        _ => "",
    }
}
