//! What `DATABASE_URL` says, checked before anything is opened. No message contains its password.
//!
//! Parameters are those of libpq that sqlx knows; of the others, only the name is reported.

use std::{
    env, fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use local_files::{FileError, SETTINGS_BYTES};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
    sqlite::SqliteConnectOptions,
};
use url::Url;

/// What the names of the files that SQLite makes beside a database end with.
pub(crate) const SQLITE_COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What the name of the lock ends with, after the name of the database.
pub(crate) const LOCK_SUFFIX: &str = ".lock";

/// Parameters that have an effect; `options[NAME]` besides. `application_name` is set here.
const KNOWN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "connect_timeout",
];
/// Those of them whose value is a file that must be readable.
const FILES: [&str; 7] =
    ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];

/// Variables of libpq that name files.
const VARIABLES: [&str; 4] = ["PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGPASSFILE"];

/// A database to open.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub(crate) target: Target,
    /// What of the URL has no effect.
    pub(crate) ignored: Vec<String>,
}

#[derive(Clone)]
pub(crate) enum Target {
    Sqlite { url: String, file: PathBuf },
    Postgres(Box<PgConnectOptions>),
}

/// Why a `DATABASE_URL` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// It names an unsupported database, or none.
    #[error("DATABASE_URL must begin with postgres:// or sqlite:")]
    UnknownDatabase,
    /// It has no file for SQLite.
    #[error(
        "DATABASE_URL names no file: write sqlite:/path/to/isomer.db, or leave it out for one in DATA_DIR"
    )]
    NoFile,
    /// It is no URL.
    #[error(
        "DATABASE_URL can't be read: {reason}. In user names and passwords, write % / ? # : @ [ ] as %25 %2F %3F \
         %23 %3A %40 %5B %5D"
    )]
    Malformed {
        /// What the parser said.
        reason: String,
    },
    /// A parameter has a value that isn't understood.
    #[error("{name} in DATABASE_URL {reason}")]
    Parameter {
        /// Its name.
        name: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// A file that it names can't be read.
    #[error("{name} names {path}, which can't be read")]
    File {
        /// The parameter, or a variable that stands for it.
        name: String,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: FileError,
    },
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DatabaseUrl(..)")
    }
}

impl DatabaseUrl {
    /// Reads a URL. Files that it names must be readable.
    ///
    /// # Errors
    /// If it can't be used as it is.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        if text.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(text).map_err(malformed)?;
            let file = options.get_filename().to_path_buf();
            // Each connection would have a database of its own.
            if file.as_os_str().is_empty() || text.contains(":memory:") || text.contains("mode=memory") {
                return Err(DatabaseUrlError::NoFile);
            }
            let target = Target::Sqlite { url: text.to_owned(), file };
            return Ok(Self { target, ignored: Vec::new() });
        }
        // Without a scheme, "localhost:5432/isomer" is one that is called localhost.
        let scheme = text.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if scheme != "postgres" && scheme != "postgresql" {
            return Err(DatabaseUrlError::UnknownDatabase);
        }
        Self::postgres(Url::parse(text.trim()).map_err(malformed)?)
    }

    /// The file of an embedded database.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.target {
            Target::Sqlite { file, .. } => Some(file),
            Target::Postgres(_) => None,
        }
    }

    /// The files of an embedded database: the database, its companions and its lock.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let of = |file: &Path| {
            let suffixes = ["", LOCK_SUFFIX].into_iter().chain(SQLITE_COMPANIONS);
            suffixes
                .map(|suffix| {
                    let mut name = file.as_os_str().to_owned();
                    name.push(suffix);
                    name.into()
                })
                .collect()
        };
        self.file().map_or_else(Vec::new, of)
    }

    /// The host of a database on another machine whose certificate is not checked.
    #[must_use]
    pub fn unverified_host(&self) -> Option<&str> {
        let Target::Postgres(options) = &self.target else { return None };
        let host = options.get_host();
        let here = options.get_socket().is_some()
            || host.starts_with('/')
            || host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        (!here && !verified).then_some(host)
    }

    fn postgres(mut url: Url) -> Result<Self, DatabaseUrlError> {
        let given: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut tls = Tls::default();
        let (mut known, mut ignored) = (Vec::new(), Vec::new());
        for (name, value) in given {
            if !KNOWN.contains(&name.as_str()) && !name.starts_with("options[") {
                ignored.push(format!("the parameter {name}"));
            } else if name == "connect_timeout" {
                ignored.push("connect_timeout: a connection may take 5 s".to_owned());
            } else if tls.read(&name, &value)? {
                known.push((name, value));
            }
        }
        check_variables()?;
        url.set_query(None);
        if !known.is_empty() {
            url.query_pairs_mut().extend_pairs(known);
        }
        let options = PgConnectOptions::from_str(url.as_str()).map_err(malformed)?;
        let options = tls.apply(options, &mut ignored)?;
        // The brackets of an IPv6 address belong to the URL.
        let host = options.get_host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let options = if host == options.get_host() { options } else { options.host(&host) };
        // PgBouncer refuses connections that set `extra_float_digits`. What it sets is the default since Postgres 12.
        let options = options.extra_float_digits(None).application_name("isomer").disable_statement_logging();
        Ok(Self { target: Target::Postgres(Box::new(options)), ignored })
    }
}

/// What the parameters say about TLS.
#[derive(Default)]
struct Tls {
    root: bool,
    system_roots: bool,
    certificate: bool,
    key: bool,
}

impl Tls {
    /// Checks a parameter. Returns whether sqlx is to read it.
    fn read(&mut self, name: &str, value: &str) -> Result<bool, DatabaseUrlError> {
        match name {
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" if value == "system" => {
                self.system_roots = true;
                return Ok(false);
            }
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => self.root = true,
            "sslcert" | "ssl-cert" => self.certificate = true,
            "sslkey" | "ssl-key" => self.key = true,
            "sslmode" | "ssl-mode" if value.parse::<PgSslMode>().is_err() => {
                let reason = "must be disable, allow, prefer, require, verify-ca or verify-full".to_owned();
                return Err(DatabaseUrlError::Parameter { name: name.to_owned(), reason });
            }
            _ => {}
        }
        if FILES.contains(&name) {
            check_pem(name, value)?;
        }
        Ok(true)
    }

    /// As libpq has it: `require` with a root certificate verifies that, and `sslrootcert=system` verifies names,
    /// too. Without either, the system's roots count.
    fn apply(
        self,
        options: PgConnectOptions,
        ignored: &mut Vec<String>,
    ) -> Result<PgConnectOptions, DatabaseUrlError> {
        if self.certificate != self.key {
            let (name, other) = if self.key { ("sslkey", "sslcert") } else { ("sslcert", "sslkey") };
            let reason = format!("needs {other} as well");
            return Err(DatabaseUrlError::Parameter { name: name.to_owned(), reason });
        }
        Ok(match options.get_ssl_mode() {
            PgSslMode::VerifyCa if self.system_roots => {
                let reason = "is too weak for sslrootcert=system: any public certificate would do. \
                              Use verify-full"
                    .to_owned();
                return Err(DatabaseUrlError::Parameter { name: "sslmode".to_owned(), reason });
            }
            _ if self.system_roots => options.ssl_mode(PgSslMode::VerifyFull),
            PgSslMode::Require if self.root => options.ssl_mode(PgSslMode::VerifyCa),
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer if self.root => {
                ignored.push(
                    "sslrootcert: certificates are checked with sslmode=require, verify-ca or verify-full"
                        .to_owned(),
                );
                options
            }
            _ => options,
        })
    }
}

/// Fails unless the value is PEM, or a file of PEM.
fn check_pem(name: &str, value: &str) -> Result<(), DatabaseUrlError> {
    const MARK: &str = "-----BEGIN ";
    if value.trim_start().starts_with(MARK) {
        return Ok(());
    }
    let text = local_files::read(Path::new(value), SETTINGS_BYTES).map_err(|source| {
        DatabaseUrlError::File { name: format!("{name} in DATABASE_URL"), path: value.to_owned(), source }
    })?;
    if String::from_utf8_lossy(&text).contains(MARK) {
        return Ok(());
    }
    let reason = format!("names {value}, which isn't in PEM format");
    Err(DatabaseUrlError::Parameter { name: name.to_owned(), reason })
}

/// sqlx reads files that libpq's variables name, and would wait for a FIFO. What isn't there has no effect.
fn check_variables() -> Result<(), DatabaseUrlError> {
    for name in VARIABLES {
        let Some(value) = env::var_os(name) else { continue };
        if let Err(source @ (FileError::Special(_) | FileError::TooLarge { .. })) =
            local_files::check(Path::new(&value), SETTINGS_BYTES)
        {
            let path = value.to_string_lossy().into_owned();
            return Err(DatabaseUrlError::File { name: name.to_owned(), path, source });
        }
    }
    Ok(())
}

fn malformed(error: impl fmt::Display) -> DatabaseUrlError {
    DatabaseUrlError::Malformed { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> PgConnectOptions {
        match DatabaseUrl::parse(text).expect(text).target {
            Target::Postgres(options) => *options,
            Target::Sqlite { .. } => panic!("{text} is for SQLite"),
        }
    }

    #[test]
    fn urls_that_cannot_be_used_are_explained_without_the_password() {
        for (url, reason) in [
            ("", "must begin with postgres://"),
            ("localhost:5432/isomer", "must begin with postgres://"),
            ("mysql://u:hunter2@h/d", "must begin with postgres://"),
            ("postgres://u:hunter2/@h/d", "%2F"),
            ("postgres://u:hunter2@h:port/d", "invalid port number"),
            ("postgres://u:hunter2@h/d?sslmode=verify", "sslmode in DATABASE_URL must be disable"),
            (
                "postgres://u:hunter2@h/d?sslrootcert=/no/such/file",
                "names /no/such/file, which can't be read",
            ),
            ("postgres://u:hunter2@h/d?sslrootcert=/dev/null", "names /dev/null, which can't be read"),
            ("postgres://u:hunter2@h/d?sslrootcert=/etc/hostname", "isn't in PEM format"),
            ("postgres://u:hunter2@h/d?sslcert=-----BEGIN%20X-----", "sslcert in DATABASE_URL needs sslkey"),
            ("postgres://u:hunter2@h/d?sslmode=verify-ca&sslrootcert=system", "Use verify-full"),
            ("postgres://u:hunter2@h/d?port=x", "invalid digit"),
            ("sqlite:/data?mode=hunting", "mode"),
            ("sqlite:", "names no file"),
            ("sqlite://", "names no file"),
            ("sqlite::memory:", "names no file"),
            ("sqlite:/data?mode=memory", "names no file"),
        ] {
            let error = DatabaseUrl::parse(url).expect_err(url).to_string();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn tls_is_as_strict_as_libpq_has_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----").expect("written");
        let root = format!("sslrootcert={}", file.path().display());
        for (parameters, mode) in [
            ("", "Prefer"),
            ("sslmode=require", "Require"),
            (&format!("sslmode=require&{root}"), "VerifyCa"),
            (&format!("sslmode=verify-full&{root}"), "VerifyFull"),
            ("sslmode=require&sslrootcert=system", "VerifyFull"),
            ("sslrootcert=system", "VerifyFull"),
            ("sslmode=disable", "Disable"),
        ] {
            let options = options(&format!("postgres://u@h/d?{parameters}"));
            assert_eq!(format!("{:?}", options.get_ssl_mode()), mode, "{parameters}");
        }
    }

    #[test]
    fn parameters_without_effect_are_reported_by_name() {
        let url =
            "postgresql://u@[::1]:1/d?channel_binding=require&pass=hunter2&sslmode=require&connect_timeout=3";
        let url = DatabaseUrl::parse(url).expect("usable");
        let ignored = url.ignored.join("; ");
        assert!(
            ignored.starts_with("the parameter channel_binding; the parameter pass; connect"),
            "{ignored}"
        );
        let Target::Postgres(options) = url.target else { panic!("it is for Postgres") };
        assert_eq!((options.get_host(), options.get_port()), ("::1", 1));
    }
}
