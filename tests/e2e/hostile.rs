//! Hostile guests: each is refused or contained, and the server keeps answering.

use std::time::Instant;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use support::{
    Components, Database, Server, Start, files, on_both_databases, select_number, variant, workspace,
};

/// Asserts that the server and another guest answer.
async fn assert_unharmed(server: &Server) {
    server.get("/health").await.ok();
    server.reply("mock").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misbehaving_calls_are_contained() {
    let server = Server::start(Database::sqlite()).await;
    // Instances in a pool would hold slots, which are counted below.
    server.post("/admin/guests/mock/per-call", json!({})).await.ok();
    server.push("mine", &Components::get().hostile, true).await.ok();
    for (text, kind, expected) in [
        ("loop", "timeout", "no answer within 2s"),
        ("sleep", "timeout", "no answer within 2s"),
        ("memory", "memory", "more than its 64 MiB of memory"),
        ("recurse", "trap", "call stack exhausted"),
        ("panic", "trap", "panic requested"),
        ("exit", "trap", "status 1"),
        ("oversize", "refused", "at most 1152 KiB"),
        ("malformed", "refused", "utf-8"),
    ] {
        let failed = server.send_text("mine", text).await;
        let error = failed.error(502).to_lowercase();
        assert!(error.contains(&expected.to_lowercase()), "{text}: {error}");
        assert_eq!(failed.json["kind"], kind, "{text}");
        assert_unharmed(&server).await;
        // A success in between keeps the breaker closed.
        server.send_text("mine", "hello").await.ok();
    }
    let counters = server.guest("mine").await["counters"].clone();
    assert_eq!(
        (&counters["traps"], &counters["timeouts"], &counters["memory"], &counters["refused"]),
        (&json!(3), &json!(2), &json!(1), &json!(2))
    );
    assert_eq!(server.metric("isomer_guest_memories").await, Some(0.0), "every slot is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_larger_than_their_use_are_refused_and_take_little_memory() {
    let server = Server::start(Database::sqlite()).await;
    let release = server.push("mine", &Components::get().hostile, true).await.ok();
    server.push("resolver", &Components::get().hostile_resolver, true).await.ok();
    let message = |text: &str, length: usize| json!({ "params": [{ "text": text }, "x".repeat(length)] });
    let plan =
        |name: &str| json!({ "phase": "create", "runtime": "hostile", "workspace_name": name, "tier": 1 });
    let entry =
        |content: &str| json!({ "entry": "o", "files": [{ "path": "o", "answer": { "bytes": content } }] });
    server.call("mine", "to-agent", message("hello", 500_000)).await.ok();
    let before = server.peak_memory();
    for (guest, function, input, expected) in [
        ("mine", "to-agent", message("zeros", 1), "at most 128 KiB"),
        ("mine", "to-agent", message("zeros", 500_000), "at most 2017 KiB"),
        ("mine", "synthetic-reply", json!({ "workspace_id": "", "text": "empty-parts" }), "at most 1152 KiB"),
        ("mine", "runtime-in-config", json!({ "config": "long" }), "at most 128 KiB"),
        ("mine", "plan", plan("long-group"), "40000 are too many"),
        ("mine", "plan", plan("long-path"), "no relative path"),
        ("resolver", "expand", entry("long-file"), "is no file that was given"),
    ] {
        let refused = server.call(guest, function, input).await;
        let error = refused.error(502);
        assert!(error.contains(expected) && error.len() < 1_000, "{function} {expected}: {error}");
        assert_eq!(refused.json["kind"], "refused");
    }
    // So it is while a release is probed.
    let refused = server.settings("mine", json!({ "translate": "zeros" })).await;
    assert!(refused.error(400).contains("at most 128 KiB"), "{}", refused.json);
    assert_eq!(server.guest("mine").await["release"], release["digest"]);
    // The guest's own memory is a part of the server's: 31 MB of it in these calls.
    let grown = server.peak_memory() - before;
    assert!(grown < 120_000_000, "the peak of resident memory grew by {grown} bytes");
    assert!(server.log().len() < 200_000, "{} bytes of log", server.log().len());
    assert_unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_guests_are_cut_and_do_not_deceive() {
    const HARMLESS: &str = "\\u{1b}[2J\\u{202e}evil";
    let server = Server::start(Database::sqlite()).await;
    server.push("mine", &Components::get().hostile, true).await.ok();
    server.push("resolver", &Components::get().hostile_resolver, true).await.ok();
    let called = server.send_text("mine", "long-problem").await.ok();
    let problem = &called["answer"]["problem"];
    let message = problem["message"].as_str().unwrap();
    assert!(message.starts_with(HARMLESS) && message.len() <= 4096, "{message}");
    assert_eq!(problem["at"].as_str().unwrap().len(), 4096);
    let input = json!({ "entry": "o", "files": [{ "path": "o", "answer": { "bytes": "long-problem" } }] });
    let called = server.call("resolver", "expand", input).await.ok();
    assert!(called.to_string().len() < 10_000);

    let log = server.send_text("mine", "deceive").await.ok()["log"].clone();
    let texts = json!([{ "stream": "out", "text": HARMLESS }, { "stream": "err", "text": "one\\rtwo" }]);
    assert_eq!(log, texts);
    server.until_logged(HARMLESS).await;
    assert!(!server.log().contains('\u{202e}'));

    let log = server.send_text("mine", "log-both").await.ok()["log"].clone();
    assert!(log.as_array().unwrap().len() <= 256, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_name_in_a_component_makes_no_long_reason() {
    let server = Server::start(Database::sqlite()).await;
    let name = "n".repeat(4 << 20);
    let traps = adapter_with(&format!("(func ${name} unreachable) (start ${name})"));
    let refused = server.push("mock", &traps, true).await;
    assert!(refused.error(422).contains("the guest trapped"), "{}", refused.json["error"]);
    assert!(refused.json.to_string().len() < 20_000, "{} bytes", refused.json.to_string().len());
    let newest = server.guest("mock").await["releases"][0].clone();
    assert_eq!(newest["state"], "rejected");
    assert!(newest["reason"].as_str().unwrap().len() < 5_000, "{newest}");
    assert!(server.log().len() < 100_000, "{} bytes of log", server.log().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_guest_is_bounded_whoever_calls_it() {
    let server = Server::start(Database::sqlite()).await;
    server.push("mine", &Components::get().hostile, true).await.ok();
    let (before, started) = (server.log().len(), Instant::now());
    for _ in 0..30 {
        server.send_text("mine", "log-flood").await.ok();
        server.send_text("mine", "malformed").await.error(502);
    }
    server.until_logged("log beyond the limit dropped").await;
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    let written = server.log().len() - before;
    assert!(written < (600 + 70 * seconds) << 10, "{written} bytes in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_large_answers_hang_leaves_room_for_those_of_others() {
    let server = Server::start(Database::sqlite()).await;
    server.push("resolver", &Components::get().hostile_resolver, true).await.ok();
    let entry =
        |content: &str| json!({ "entry": "o", "files": [{ "path": "o", "answer": { "bytes": content } }] });
    let hanging =
        futures::future::join_all((0..24).map(|_| server.call("resolver", "expand", entry("loop"))));
    let working = async {
        server
            .until("hanging calls have begun", async |server| {
                server.metric("isomer_guest_slots_in_use").await > Some(2.0)
            })
            .await;
        for _ in 0..5 {
            server.call("include", "expand", entry("name: x")).await.ok();
        }
    };
    let (hanging, ()) = tokio::join!(hanging, working);
    // Three run at once, for two seconds each, and the others wait ten seconds at most. The breaker ends the rest.
    for answer in hanging {
        match answer.status.as_u16() {
            502 | 409 => {}
            _ => assert!(answer.error(503).contains("no room for its answer was free"), "{}", answer.json),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_explained_to_the_operator() {
    let server = Server::start(Database::sqlite()).await;
    let release = server.push("mine", &Components::get().hostile, true).await.ok();
    let failed = server.send_text("mine", "panic").await;
    let frames = failed.json["backtrace"].to_string();
    assert!(frames.contains("hostile::misbehave"), "{frames}");
    assert!(failed.json["log"].to_string().contains("panicked at"), "{}", failed.json);

    server.until_logged("the guest trapped").await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("the guest trapped")).expect("the trap is logged");
    assert!(line.contains("hostile::misbehave") && line.contains("guest=\"mine\""), "{line}");
    let short = &release["digest"].as_str().unwrap()[..12];
    let series = format!(r#"isomer_guest_calls_total{{guest="mine",release="{short}",outcome="trap"}}"#);
    assert_eq!(server.metric(&series).await, Some(1.0));
    let series = format!(r#"isomer_guest_call_seconds_count{{guest="mine",release="{short}"}}"#);
    assert_eq!(server.metric(&series).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_log_is_cut() {
    let server = Server::start(Database::sqlite()).await;
    server.push("mine", &Components::get().hostile, true).await.ok();
    let called = server.send_text("mine", "log-flood").await.ok();
    assert_eq!(called["answer"], json!(["flooded"]));
    let kept: usize =
        called["log"].as_array().unwrap().iter().map(|l| l["text"].as_str().unwrap().len() + 1).sum();
    assert_eq!(kept, 64 * 1024);
    server.until_logged("log beyond the limit dropped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_share_no_state_and_see_no_environment() {
    let server = Server::start(Database::sqlite()).await;
    server.push("mine", &Components::get().hostile, true).await.ok();
    for _ in 0..3 {
        assert_eq!(server.send_text("mine", "remember").await.ok()["answer"][0], "0", "calls share no state");
    }
    assert_eq!(server.send_text("mine", "look-around").await.ok()["answer"][0], "{} []");
    // Clock, random numbers and memory are the same for every call.
    let first = server.send_text("mine", "vary").await.ok()["answer"].clone();
    assert_eq!(server.send_text("mine", "vary").await.ok()["answer"], first);
    let settings = json!({ "describe": "vary" });
    server.settings("mine", settings).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_reused_for_guests_that_opted_in_until_a_failure() {
    let server = Server::start(Database::sqlite()).await;
    server.push("mine", &Components::get().hostile, true).await.ok();
    let reply_to = async |text: &str| server.send_text("mine", text).await.ok()["answer"][0].clone();
    assert_eq!(server.post("/admin/guests/mine/pooled", json!({})).await.ok()["pooled"], true);
    assert_eq!(
        [reply_to("remember").await, reply_to("remember").await, reply_to("remember").await],
        ["0", "1", "2"]
    );
    assert_eq!(reply_to("log-flood").await, "flooded");
    assert_eq!(
        server.send_text("mine", "hello").await.ok()["log"],
        json!([]),
        "a call returns its own log only"
    );

    // An instance that failed is not reused, and a reused one has the same deadline.
    for text in ["panic", "memory", "loop"] {
        server.send_text("mine", text).await.error(502);
        assert_eq!(reply_to("remember").await, "0", "after {text}");
    }
    // Without a pool, its instances are dropped and their slots are free.
    server.post("/admin/guests/mine/per-call", json!({})).await.ok();
    assert_eq!([reply_to("remember").await, reply_to("remember").await], ["0", "0"]);
    assert_eq!(server.metric("isomer_guest_memories").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_with_platform_variables_or_invalid_files_are_refused() {
    let server = Server::start(Database::sqlite()).await;
    server.push("mine", &Components::get().hostile, true).await.ok();
    for (name, expected) in [
        ("platform-env", "`MOLECULE_ENV` is set by the platform"),
        ("loader", "`LD_AUDIT` is reserved, because programs load code by it"),
        ("options", "`Node_Options` is reserved"),
        ("two-lines", "the value of `MODEL` must be one line"),
        ("copy-loader", "`BASH_ENV` is reserved"),
        ("bad-env", "`A B` is no variable name"),
        ("copy-platform", "`PLATFORM_URL` is set by the platform"),
        ("escape", "no relative path"),
        ("credential", "holds a credential"),
        ("many-files", "513 are too many, 512 are allowed"),
        ("big-files", "5242880 are allowed"),
    ] {
        let request = json!({ "phase": "create", "runtime": "hostile", "workspace_name": name, "tier": 1 });
        let refused = server.call("mine", "plan", request.clone()).await;
        assert!(refused.error(502).contains(expected), "{name}: {}", refused.json);
        let fine = json!({ "phase": "create", "runtime": "hostile", "workspace_name": "fine", "tier": 1 });
        server.call("mine", "plan", fine).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_trees_are_refused() {
    let server = Server::start(Database::sqlite()).await;
    server.push("resolver", &Components::get().hostile_resolver, true).await.ok();
    for (content, expected) in [
        ("empty", "at least its root"),
        ("cyclic", "does not come after its parent"),
        ("self", "does not come after its parent"),
        ("shared", "is used twice"),
        ("dangling", "does not exist"),
        ("orphan", "belongs to no parent"),
        ("deep", "deeper than 192"),
        ("wide", "200001 are too many"),
        ("mark", "marked in a file that isn't listed"),
        ("need-nothing", "done or has failed"),
        ("need-again", "is there twice"),
        ("need-escape", "no relative path"),
    ] {
        let expand = |content: &str| json!({ "entry": "o", "files": [{ "path": "o", "answer": { "bytes": content } }] });
        let refused = server.call("resolver", "expand", expand(content)).await;
        assert!(refused.error(502).contains(expected), "{content}: {}", refused.json);
        server.call("resolver", "expand", expand("fine")).await.ok();
    }
    assert_unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_that_fail_conformance_are_never_activated() {
    let server = Server::start(Database::sqlite()).await;
    let good = server.push("mine", &Components::get().hostile, true).await.ok();
    for (settings, expected) in [
        (json!({ "describe": "memory" }), "64 MiB of memory"),
        (json!({ "describe": "recurse" }), "call stack exhausted"),
        (json!({ "describe": "panic" }), "panic requested"),
        (json!({ "describe": "bad-port" }), "description.port: 0 is no port"),
        (json!({ "describe": "bad-dir" }), "`/etc` is not below one of /configs"),
        (json!({ "validate": "panic" }), "settings: the guest trapped"),
        (json!({ "refuse": true }), "/refuse: must be false"),
        (json!({ "name": "../x" }), "description.name"),
        (json!({ "name": "mock" }), "the runtime name `mock` belongs to guest mock, in service or not"),
        (json!({ "hosting": "synthetic" }), "isomer guest trust NAME"),
    ] {
        let refused = server.settings("mine", settings.clone()).await;
        let error = refused.json["error"].as_str().unwrap_or_default();
        assert!(refused.status.is_client_error() && error.contains(expected), "{settings}: {}", refused.json);
        assert_eq!(server.guest("mine").await["release"], good["digest"]);
        server.send_text("mine", "hello").await.ok();
    }
    // That may be the machine's load: it is repeated, and then no refusal.
    let refused = server.settings("mine", json!({ "describe": "loop" })).await;
    let text = "describe: the guest gave no answer within 2s, and again when it was repeated";
    assert!(refused.error(503).contains(text), "{}", refused.json);
    assert_eq!(server.guest("mine").await["release"], good["digest"]);
    // A trusted guest may describe another hosting, and can then not be untrusted.
    server.post("/admin/guests/mine/trust", json!({})).await.ok();
    server.settings("mine", json!({ "hosting": "synthetic" })).await.ok();
    let untrusted = server.post("/admin/guests/mine/untrust", json!({})).await;
    assert!(untrusted.error(400).contains("allowed only for trusted guests"), "{}", untrusted.json);
    assert_unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_not_guests_are_refused() {
    let server = Server::start(Database::sqlite()).await;
    let before = server.guest("mock").await;
    let mock = &Components::get().mock;
    let wat = |text: &str| wat::parse_str(text).expect("valid text");
    let truncated = &mock[..mock.len() / 2];
    for (what, bytes, status, expected) in [
        ("not wasm", b"#!/bin/sh\n".to_vec(), 422, "not a WebAssembly file"),
        ("empty", Vec::new(), 422, "not a WebAssembly file"),
        ("core module", wat("(module)"), 422, "build with `--target wasm32-wasip2`"),
        ("truncated", truncated.to_vec(), 422, "does not compile"),
        ("truncated header", mock[..6].to_vec(), 422, "truncated"),
        ("no export", wat("(component)"), 422, "this one exports nothing"),
        (
            "other export",
            wat(
                r#"(component (component $c) (instance $i (instantiate $c)) (export "a:b/c@0.1.0" (instance $i)))"#,
            ),
            422,
            "this one exports a:b/c@0.1.0",
        ),
        (
            "other version",
            wat(
                r#"(component (component $c) (instance $i (instantiate $c)) (export "isomer:adapter/adapter@0.9.0" (instance $i)))"#,
            ),
            422,
            "built for adapter 0.9.0; this host runs 0.1.0",
        ),
        (
            "right name, wrong functions",
            wat(
                r#"(component (component $c) (instance $i (instantiate $c)) (export "isomer:adapter/adapter@0.1.0" (instance $i)))"#,
            ),
            422,
            "doesn't have the world's types",
        ),
        ("WASI of a name only", importing("wasi2:sockets/tcp@0.2.0"), 422, "which no guest is given"),
        (
            "unknown import",
            importing("evil:host/everything"),
            422,
            "imports evil:host/everything, which no guest is given",
        ),
        (
            "other world",
            Components::get().classifier.clone(),
            409,
            "mock is a guest of world adapter, the component is of world classifier",
        ),
        ("table bomb", table_bomb(), 422, "table"),
        ("memory bomb", memory_bomb(), 422, "memory"),
    ] {
        let refused = server.push("mock", &bytes, true).await;
        assert!(refused.error(status).contains(expected), "{what}: {}", refused.json);
        let guest = server.guest("mock").await;
        assert_eq!(guest["release"], before["release"], "{what}");
        let newest = &guest["releases"][0];
        assert_eq!(newest["state"], "rejected", "{what}");
        assert!(newest["reason"].as_str().unwrap().contains(expected), "{what}: {newest}");
        assert_unharmed(&server).await;
    }
    // An invalid component does not create a guest.
    server.push("unknown", b"junk", true).await.error(422);
    server.get("/admin/guests/unknown").await.error(404);
}

/// A component with the adapter's export and one additional import.
fn importing(name: &str) -> Vec<u8> {
    let text = format!(
        r#"(component (import "{name}" (instance (export "f" (func)))) (component $c) (instance $i (instantiate $c))
        (export "isomer:adapter/adapter@0.1.0" (instance $i)))"#
    );
    wat::parse_str(text).expect("valid text")
}

/// An adapter whose core module has `addition` in it, and traps in every function.
fn adapter_with(addition: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let wit = workspace().join("wit");
    resolve.push_path(wit.join("types/0.1.0")).expect("the types parse");
    let (package, _) = resolve.push_path(wit.join("adapter/0.1.0")).expect("the world parses");
    let world = resolve.select_world(&[package], Some("runtime-adapter")).expect("the world exists");
    let mangling = wit_parser::ManglingAndAbi::Standard32;
    let module = wit_component::dummy_module(&resolve, world, mangling);
    let text = wasmprinter::print_bytes(module).expect("it prints");
    let end = text.rfind(')').expect("a module has an end");
    let mut module = wat::parse_str(format!("{}{addition})", &text[..end])).expect("valid text");
    wit_component::embed_component_metadata(
        &mut module,
        &resolve,
        world,
        wit_component::StringEncoding::UTF8,
    )
    .expect("it embeds");
    wit_component::ComponentEncoder::default()
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .expect("it encodes")
}

/// Grows a table up to its limit, and then traps.
fn table_bomb() -> Vec<u8> {
    adapter_with(
        "(table $bomb 0 funcref)
        (func $explode (loop $more
            (br_if $more (i32.ne (table.grow $bomb (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable)
        (start $explode)",
    )
}

/// Grows its memory by 128 MiB at once.
fn memory_bomb() -> Vec<u8> {
    adapter_with("(memory $bomb 2048)")
}

on_both_databases! {
    async fn refused_releases_are_pruned_and_nothing_else_is(database: Database) {
        let server = Server::start(Start::from(database).own_cache()).await;
        let components = Components::get();
        let first = server.push("mine", &components.hostile, true).await.ok();
        let second = server.push("mine", &variant(&components.hostile, 1), true).await.ok();
        let staged = server.push("mine", &variant(&components.hostile, 2), false).await.ok();
        let bomb = table_bomb();
        let mut refused = Vec::new();
        for number in 0..13 {
            server.push("mine", &variant(&bomb, number), true).await.error(422);
            refused.push(server.guest("mine").await["releases"][0]["digest"].as_str().unwrap().to_owned());
        }
        // A file that never was a component, and one that is refused as it was before.
        server.push("mine", b"junk", true).await.error(422);
        server.push("mine", &variant(&bomb, 12), true).await.error(422);

        let kept = |guest: &serde_json::Value| {
            let releases = guest["releases"].as_array().unwrap();
            releases.iter().map(|release| release["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let digests = kept(&server.guest("mine").await);
        let others = [&first, &second, &staged].map(|release| release["digest"].as_str().unwrap().to_owned());
        assert_eq!(digests.len(), 11 + others.len(), "{digests:?}");
        assert!(others.iter().all(|digest| digests.contains(digest)), "{digests:?}");
        assert!(digests.contains(&refused[12]) && !digests.contains(&refused[0]), "{digests:?}");
        let compiled = files(&server.data.path().join("compiled"));
        let has_file = |digest: &String| compiled.iter().any(|file| file.contains(digest.as_str()));
        assert!(others.iter().all(has_file) && !refused.iter().any(has_file), "{compiled:?}");
        let orphans = "SELECT count(*) FROM guest_components
            WHERE digest NOT IN (SELECT digest FROM guest_releases)";
        assert_eq!(select_number(&server.connect().await, orphans).await, 0);

        // What was kept is as usable as before, after a restart too.
        let server = server.restart().await;
        assert_eq!(kept(&server.guest("mine").await), digests);
        server.post("/admin/guests/mine/rollback", json!({})).await.ok();
        assert_eq!(server.guest("mine").await["release"], first["digest"]);
        server.activate("mine", staged["digest"].as_str().unwrap()).await.ok();
        assert!(server.activate("mine", &refused[12]).await.error(422).contains("table"), "still refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_beyond_the_limit_is_refused_before_its_end_and_is_not_buffered() {
    const LENGTH: usize = 200 << 20;
    let server = Server::start(Database::sqlite()).await;
    // The server compiles guests after it listens.
    server.reply("mock").await;
    let before = server.peak_memory();
    let address = server.url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    let head = format!(
        "POST /admin/guests/mock/releases HTTP/1.1\r\nHost: {address}\r\nContent-Length: {LENGTH}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("the server reads");
    let (mut reader, mut writer) = socket.split();
    let upload = async {
        let piece = vec![0_u8; 64 << 10];
        for _ in 0..LENGTH / piece.len() {
            writer.write_all(&piece).await?;
        }
        std::io::Result::Ok(())
    };
    let mut answer = [0; 12];
    tokio::select! {
        biased;
        read = reader.read_exact(&mut answer) => { read.expect("the server answers"); }
        sent = upload => panic!("no answer before the end of the upload: {sent:?}"),
    }
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    assert_unharmed(&server).await;
    let grown = server.peak_memory() - before;
    assert!(grown < 128_000_000, "the peak of resident memory grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_is_detected_and_rebuilt() {
    let server = Server::start(Start::from(Database::sqlite()).empty_cache()).await;
    let before = server.reply("mock").await;
    let compiled = server.data.path().join("compiled");
    let cached = || std::fs::read_dir(&compiled).unwrap().map(|entry| entry.unwrap().path());
    let finished =
        || cached().filter(|path| path.extension().is_some_and(|end| end == "aot")).collect::<Vec<_>>();
    server.until("all first-party guests are compiled", async |_| finished().len() >= 7).await;
    let caches = finished();
    for (index, path) in caches.iter().enumerate() {
        let mut bytes = std::fs::read(path).unwrap();
        let at = bytes.len() * index / caches.len();
        bytes[at] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    }
    let server = server.restart().await;
    assert_eq!(server.reply("mock").await, before);
    server
        .until("every damaged file was noticed", async |server| {
            server.get("/health").await;
            server.log().matches("compiling it again").count() == caches.len()
        })
        .await;
    let server = server.restart().await;
    assert!(!server.log().contains("compiling it again"), "the cache was rebuilt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_answers_while_every_call_of_another_hangs() {
    let server = Server::start(Database::sqlite()).await;
    server.push("mine", &variant(&Components::get().hostile, 1), true).await.ok();
    let hanging = futures::future::join_all((0..64).map(|_| server.send_text("mine", "loop")));
    let working = async {
        server
            .until("a hanging call has begun", async |server| {
                server.metric("isomer_guest_slots_in_use").await > Some(0.0)
            })
            .await;
        for _ in 0..5 {
            server.reply("mock").await;
        }
    };
    tokio::pin!(hanging);
    tokio::select! {
        _ = &mut hanging => panic!("the other guest answered only after the hanging calls had ended"),
        () = working => {}
    }
    assert!(hanging.await.iter().all(|answer| !answer.status.is_success()));
}
