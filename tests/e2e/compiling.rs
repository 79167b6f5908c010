//! Components that are hostile to the compiler.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{Components, Database, Server, Signal, Start, bombs, on_both_databases, variant};

on_both_databases! {
    async fn a_component_that_would_take_too_long_is_refused_ahead(database: Database) {
        let server = start(Start::from(database)).await;
        let before = server.peak_memory();
        for (component, what) in bombs::refused_ahead() {
            let started = Instant::now();
            let answer = server.push("mock", &component, true).await;
            assert!(answer.error(422).contains(what), "{what}: {}", answer.json);
            assert_eq!(answer.json["findings"][0]["verdict"], json!("failed"), "{what}");
            assert!(started.elapsed() < Duration::from_secs(10), "{what}: {:?}", started.elapsed());
            let release = server.guest("mock").await["releases"][0].clone();
            assert_eq!((&release["state"], &release["reason"]), (&json!("rejected"), &answer.json["error"]));
            assert!(server.children().is_empty(), "{what} was compiled");
        }
        server.reply("mock").await;
        let grown = server.peak_memory() - before;
        assert!(grown < 128 << 20, "the peak of resident memory grew by {grown} bytes");
    }

    async fn a_component_that_the_compiler_died_of_is_compiled_again_only_by_hand(database: Database) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bomb.wasm"), bombs::slow(1)).unwrap();
        let start = Start::from(database).own_cache().env("GUEST_COMPILE_SECONDS", "1");
        let start = start.env("GUESTS_DIR", folder.path().to_str().unwrap());
        let server = Server::start(start).await;
        let refusal = "compiling the component took more than 1 s of processor time";
        server.until_logged(refusal).await;
        server.reply("mock").await;

        // Once more, and it is refused for what was noted.
        let note = notes(&server).remove(0);
        let text = fs::read_to_string(&note).unwrap();
        fs::write(&note, text.replace("took more than 1 s", "took, as was noted, more than 1 s")).unwrap();
        let server = server.restart().await;
        server.until_logged("compiling the component took, as was noted, more than 1 s of processor time").await;
        assert!(noted(&server) == 1, "{}", server.log());
        let compiled = server.push("bomb", &bombs::slow(1), false).await;
        assert!(compiled.error(422).contains("isomer guest push"), "{}", compiled.json);
        server.reply("mock").await;
    }
}

/// A server that has compiled its own guests: what it compiles from here on is the test's.
async fn start(start: Start) -> Server {
    let server = Server::start(start).await;
    server.get("/admin/guests").await.ok();
    server.until("its guests are compiled", async |server| server.children().is_empty()).await;
    server
}

/// Each part of it is within its limit, and together they don't fit into the engine.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_compiles_and_does_not_fit_is_refused() {
    let server = start(Start::from(Database::sqlite()).own_cache()).await;
    let stored = || fs::read_dir(server.data.path().join("compiled")).unwrap().count();
    let before = stored();
    let memories: String = ["a", "b", "c", "d"]
        .map(|name| format!("(core module ${name} (memory 1)) (core instance (instantiate ${name}))"))
        .concat();
    let world = r#"(instance $i) (export "isomer:adapter/adapter@0.1.0" (instance $i))"#;
    let component = wat::parse_str(format!("(component {memories} {world})")).unwrap();
    for _ in 0..2 {
        let refused = server.push("mock", &component, true).await;
        assert!(refused.error(422).contains("does not compile"), "{}", refused.json);
        assert_eq!(server.guest("mock").await["releases"][0]["state"], "rejected");
    }
    assert_eq!(stored(), before);
}

/// The notes of components of which the compiler died.
fn notes(server: &Server) -> Vec<PathBuf> {
    let compiled = fs::read_dir(server.data.path().join("compiled")).unwrap();
    let files = compiled.map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|end| end == "failed")).collect()
}

fn noted(server: &Server) -> usize {
    notes(server).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_takes_too_much_memory_is_cut_while_others_compile() {
    let start = Start::from(Database::sqlite()).own_cache().env("GUEST_COMPILE_MIB", "256");
    let server = self::start(start).await;
    let before = server.peak_memory();
    let (hostile, second) = (bombs::large(), variant(&Components::get().second_mock, 200));
    let bomb = server.push("bomb", &hostile, true);
    let (bomb, answered) = tokio::join!(bomb, async {
        server.until("it compiles", async |server| !server.children().is_empty()).await;
        server.get("/health").await.ok();
        server.push("mock", &second, true).await
    });
    assert!(
        bomb.error(422).contains("took more than 256 MiB of memory (GUEST_COMPILE_MIB)"),
        "{}",
        bomb.json
    );
    answered.ok();
    assert_eq!(server.reply("mock").await, "second");
    let grown = server.peak_memory() - before;
    assert!(grown < 64 << 20, "the peak of resident memory grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_first_guests_are_compiled_is_no_error() {
    let server = Server::start(Start::from(Database::sqlite()).empty_cache()).await;
    server.until("it compiles", async |server| !server.children().is_empty()).await;
    server.signal(Signal::TERM);
    let (_server, log) = server.wait_and_restart().await;
    assert!(!log.contains("ERROR") && !log.contains("the server stops"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_compilation_at_once() {
    let server = start(Start::from(Database::sqlite()).own_cache()).await;
    let component = bombs::slow(3);
    let pushed = server.push("bomb", &component, true);
    let (pushed, ()) = tokio::join!(pushed, async {
        server.until("it compiles", async |server| !server.children().is_empty()).await;
        server.signal(Signal::TERM);
    });
    assert!(pushed.error(503).contains("the server stops"), "{}", pushed.json);
    let started = Instant::now();
    let (server, _log) = server.wait_and_restart().await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // A stop is no fault of the component.
    assert_eq!(noted(&server), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_the_server_ends_its_compilations() {
    let mut server = start(Start::from(Database::sqlite()).own_cache()).await;
    let component = bombs::slow(4);
    let children = {
        let pushed = server.push("bomb", &component, true);
        let compiling = async {
            server.until("it compiles", async |server| !server.children().is_empty()).await;
            server.children()
        };
        tokio::pin!(pushed);
        tokio::select! {
            children = compiling => children,
            _ = &mut pushed => panic!("it was compiled too soon"),
        }
    };
    server.kill();
    let server = server.start_again().await;
    server
        .until("the process has ended", async |_| {
            children.iter().all(|child| {
                let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compilation_ends_when_nobody_waits_for_it_any_more() {
    let server = start(Start::from(Database::sqlite()).own_cache()).await;
    let component = bombs::slow(5);
    let compiling = || server.until("it compiles", async |server| !server.children().is_empty());
    {
        let other = server.push("other", &component, false);
        tokio::pin!(other);
        {
            let first = server.push("bomb", &component, false);
            tokio::select! {
                _ = first => panic!("it was compiled too soon"),
                () = compiling() => {}
            }
        }
        tokio::select! {
            _ = other => panic!("it was compiled too soon"),
            () = compiling() => {}
        }
    }
    server.until("the process is ended", async |server| server.children().is_empty()).await;
    assert_eq!(noted(&server), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_after_the_first_start_is_that_of_later_ones() {
    let server = Server::start(Start::from(Database::sqlite()).empty_cache()).await;
    server.get("/admin/guests").await.ok();
    let cold = server.resident_memory();
    let server = server.restart().await;
    server.get("/admin/guests").await.ok();
    let warm = server.resident_memory();
    println!(
        "resident memory: {} MiB after compiling, {} MiB after a start with a cache",
        cold >> 20,
        warm >> 20
    );
    assert!(cold * 10 < warm * 14, "{cold} bytes after compiling, {warm} with a cache");
}
