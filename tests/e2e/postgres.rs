//! Postgres as operators have it: with TLS, behind a connection pooler, or not there at all. A start that fails
//! says why, and no message contains the password.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::json;
use support::{Cluster, Database, Server, Start, free_port, program};

/// The outcome of a start that must fail, with these variables of libpq.
fn failed_start(url: &str, variables: &[(&str, &Path)]) -> String {
    let data = tempfile::tempdir().expect("a directory");
    let mut command: Command = program();
    let Output { status, stdout, stderr } = command
        .args(["serve", "--bind-addr", "127.0.0.1", "--port", "0"])
        .env("DATA_DIR", data.path())
        .env("GUEST_CACHE_DIR", support::compiled_guests())
        .env("DATABASE_URL", url)
        .envs(variables.iter().copied())
        .output()
        .expect("ran");
    let errors = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert_eq!(stdout, b"", "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
    assert!(!errors.contains("timed out"), "{errors}");
    errors
}

fn assert_fails(url: &str, texts: &[&str]) {
    let errors = failed_start(url, &[]);
    for text in texts {
        assert!(errors.contains(text), "no `{text}` in:\n{errors}");
    }
}

async fn works(url: &str) {
    let server = Server::start(Start::from(Database::External(url.to_owned()))).await;
    let id = server.workspace(json!({ "name": "Kept", "runtime": "mock" })).await;
    let server = server.restart().await;
    assert_eq!(server.get(&format!("/workspaces/{id}")).await.ok()["name"], "Kept");
    server.delete(&format!("/workspaces/{id}?confirm=true")).await.ok();
}

#[test]
fn a_url_that_cannot_be_read_fails_the_start_before_it_listens() {
    for (url, text) in [
        ("postgres://isomer:hunter2/x@db.example/isomer", "write % / ? # : @ [ ] as %25 %2F"),
        ("postgres://isomer:hunter2@db.example:54x/isomer", "invalid port number"),
        ("mysql://isomer:hunter2@db.example/isomer", "must begin with postgres:// or sqlite:"),
        ("postgres://isomer:hunter2@db.example/isomer?sslmode=strict", "sslmode in DATABASE_URL must be"),
        ("postgres://isomer:hunter2@db.example/isomer?sslrootcert=/nowhere/ca.pem", "/nowhere/ca.pem"),
    ] {
        assert_fails(url, &["isomer: ", text]);
    }
}

#[test]
fn files_of_libpq_that_are_never_read_to_their_end_fail_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    let url = "postgres://isomer:hunter2@127.0.0.1:1/isomer";
    for (name, path, kind) in [
        ("PGSSLROOTCERT", fifo.as_path(), "it is a FIFO"),
        ("PGSSLCERT", &fifo, "it is a FIFO"),
        ("PGSSLKEY", &fifo, "it is a FIFO"),
        ("PGPASSFILE", &fifo, "it is a FIFO"),
        ("PGPASSFILE", Path::new("/dev/zero"), "it is a device"),
    ] {
        let errors = failed_start(url, &[(name, path)]);
        assert!(errors.contains(name) && errors.contains(kind), "{name}: {errors}");
    }
}

#[test]
fn a_host_that_cannot_be_reached_is_named() {
    let port = free_port();
    assert_fails(
        &format!("postgres://isomer:hunter2@127.0.0.1:{port}/isomer"),
        &["cannot open the database", &format!("no connection to Postgres at 127.0.0.1:{port}"), "refused"],
    );
    assert_fails(
        "postgres://isomer:hunter2@no-such-host.invalid/isomer",
        &["the host no-such-host.invalid has no address"],
    );
    assert_fails(
        "postgres:///isomer?host=/no/such/directory&password=hunter2",
        &["no connection to Postgres at /no/such/directory", "No such file"],
    );
}

#[tokio::test]
async fn another_kind_of_server_is_not_postgres() {
    let other = Server::start(Database::sqlite()).await;
    let address = other.url.trim_start_matches("http://");
    assert_fails(
        &format!("postgres://isomer:hunter2@{address}/isomer"),
        &[&format!("what answers at {address} isn't Postgres")],
    );
}

/// Tests that start a Postgres server of their own; the runner leaves them out where none is installed.
mod own_postgres {
    use std::fs;

    use sea_orm::ConnectionTrait as _;
    use support::Authority;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs an installed Postgres"]
    async fn certificates_are_checked_as_sslmode_says() {
        let (authority, other) = (Authority::new(), Authority::new());
        let cluster = Cluster::with_tls(&authority.issue(&["localhost"]));
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str, authority: &Authority| {
            let path = files.path().join(name);
            fs::write(&path, authority.pem()).unwrap();
            path.display().to_string()
        };
        let (right, wrong) = (file("right.pem", &authority), file("wrong.pem", &other));
        let url = |host: &str, parameters: &str| {
            format!("postgres://postgres:hunter2@{host}:{}/postgres?{parameters}", cluster.port())
        };
        for (host, parameters) in [
            ("localhost", format!("sslmode=verify-full&sslrootcert={right}")),
            ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={right}")),
            ("127.0.0.1", "sslmode=require".to_owned()),
            ("localhost", String::new()),
        ] {
            works(&url(host, &parameters)).await;
        }
        for (host, parameters, text) in [
            ("localhost", format!("sslmode=verify-full&sslrootcert={wrong}"), "UnknownIssuer"),
            ("localhost", "sslmode=verify-full".to_owned(), "UnknownIssuer"),
            ("localhost", format!("sslmode=require&sslrootcert={wrong}"), "UnknownIssuer"),
            ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={right}"), "not valid for name"),
        ] {
            let at = format!("TLS with Postgres at {host}:{} failed", cluster.port());
            assert_fails(&url(host, &parameters), &[&at, text]);
        }
        assert_fails(&url("localhost", "sslmode=disable"), &["refused the connection", "sslmode=require"]);

        let postgres = Database::External(url("localhost", "sslmode=require")).raw().await;
        postgres.execute_unprepared("CREATE ROLE keeper LOGIN PASSWORD 'secret'").await.unwrap();
        let keeper =
            |password: &str| format!("postgres://keeper:{password}@localhost:{}/postgres", cluster.port());
        assert_fails(&keeper("hunter2"), &["wrong user or password", "\"keeper\""]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs an installed Postgres"]
    async fn refusals_of_postgres_are_explained() {
        let cluster = Cluster::start();
        let at = format!("127.0.0.1:{}", cluster.port());
        let missing = format!("postgres://postgres:hunter2@{at}/no-such-name");
        assert_fails(&missing, &["database \"no-such-name\" does not exist", "create the database"]);
        let stranger = format!("postgres://stranger:hunter2@{at}/postgres");
        assert_fails(&stranger, &["role \"stranger\" does not exist"]);
        let encrypted = format!("{}?sslmode=require", cluster.url());
        assert_fails(&encrypted, &[&format!("TLS with Postgres at {at} failed"), "does not support TLS"]);
        cluster.freeze();
        assert_fails(&cluster.url(), &[&format!("Postgres at {at} did not answer within 5 s")]);
        cluster.thaw();
    }

    /// Tests that start `PgBouncer`; the runner leaves them out where it isn't installed.
    mod own_pgbouncer {
        use support::PgBouncer;

        use super::*;

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs an installed PgBouncer"]
        async fn a_pooler_works_where_connections_keep_their_session() {
            let cluster = Cluster::start();
            let pooler = PgBouncer::start(&cluster, "pool_mode = session\ndefault_pool_size = 40");
            works(&pooler.url()).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs an installed PgBouncer"]
        async fn a_pooler_that_shares_sessions_is_refused_with_what_to_set() {
            let cluster = Cluster::start();
            for lines in [
                "pool_mode = transaction",
                "pool_mode = transaction\ndefault_pool_size = 1",
                "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 5",
                "pool_mode = transaction\nignore_startup_parameters = extra_float_digits,options",
                "pool_mode = statement",
            ] {
                let pooler = PgBouncer::start(&cluster, lines);
                assert_fails(
                    &pooler.url(),
                    &["is a connection pooler", "pool_mode = session", "Postgres' own"],
                );
            }
        }
    }
}
