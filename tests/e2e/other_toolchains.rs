//! Components of the shapes that toolchains of other languages make: more memories, instances and bytes than a Rust
//! guest has, imports of nearly all of WASI, exports of their own.

use futures::future::join_all;
use serde_json::json;
use support::{Database, Server, on_both_databases, workspace};
use wasm::{
    Component, Failure, Limits, LoadError, Outcome, Sandbox, Settings,
    classifier::{Diff, Verdict},
};

/// What [`guest`] imports, as far as it uses it.
const WASI: &str = "
    package foreign:toolchain;
    world guest {
        include isomer:classifier/reload-classifier@0.1.0;
        import wasi:filesystem/preopens@0.2.3;
        import wasi:sockets/tcp@0.2.3;
        import wasi:http/types@0.2.3;
        import wasi:http/handler@0.2.3;
        import wasi:cli/stdin@0.2.3;
        export init: func();
    }
    package wasi:io@0.2.3 {
        interface streams { resource input-stream; }
    }
    package wasi:filesystem@0.2.3 {
        interface types { resource descriptor; }
        interface preopens {
            use types.{descriptor};
            get-directories: func() -> list<tuple<descriptor, string>>;
        }
    }
    package wasi:sockets@0.2.3 {
        interface tcp {
            resource tcp-socket { connect: static func(host: string); }
        }
    }
    package wasi:http@0.2.3 {
        interface types {
            use wasi:io/streams@0.2.3.{input-stream};
            resource body { read: static func(bytes: list<u8>) -> input-stream; }
        }
        interface handler {
            use types.{body};
            handle: func(bodies: list<body>) -> body;
        }
    }
    package wasi:cli@0.2.3 {
        interface stdin {
            use wasi:io/streams@0.2.3.{input-stream};
            get-stdin: func() -> input-stream;
            of-a-later-release: func();
        }
    }";

/// Does what the runtime of its question says. It has an export that is not ours.
const GUEST: &str = r#"(module
    (import "wasi:filesystem/preopens@0.2.3" "get-directories" (func $directories (param i32)))
    (import "wasi:sockets/tcp@0.2.3" "[static]tcp-socket.connect" (func $connect (param i32 i32)))
    (import "wasi:http/types@0.2.3" "[static]body.read" (func $read (param i32 i32) (result i32)))
    (import "wasi:http/handler@0.2.3" "handle" (func $handle (param i32 i32) (result i32)))
    (import "wasi:cli/stdin@0.2.3" "get-stdin" (func $stdin (result i32)))
    (import "wasi:cli/stdin@0.2.3" "of-a-later-release" (func $later))
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 8192))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (global.set $free (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
        (global.get $free)
        (global.set $free (i32.add (global.get $free) (local.get 3))))
    (func (export "init"))
    (func (export "isomer:classifier/classifier@0.1.0#validate-settings") (param i32 i32) (result i32)
        (i32.const 1024))
    (func (export "isomer:classifier/classifier@0.1.0#classify")
        (param $settings i32) (param i32) (param $runtime i32) (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
        (local $what i32)
        (local.set $what (i32.load8_u (local.get $runtime)))
        (if (i32.eq (local.get $what) (i32.const 102)) (then ;; f
            (call $directories (i32.const 2048))
            (if (i32.load (i32.const 2052)) (then unreachable))))
        (if (i32.eq (local.get $what) (i32.const 115)) (then (call $connect (i32.const 0) (i32.const 0)))) ;; s
        (if (i32.eq (local.get $what) (i32.const 104)) (then (drop (call $read (i32.const 0) (i32.const 9))))) ;; h
        (if (i32.eq (local.get $what) (i32.const 100)) (then (drop (call $handle (i32.const 0) (i32.const 0))))) ;; d
        (if (i32.eq (local.get $what) (i32.const 105)) (then (drop (call $stdin)))) ;; i
        (if (i32.eq (local.get $what) (i32.const 108)) (then (call $later))) ;; l
        (i32.const 1024)))"#;

/// The guest, with this text at its end.
fn guest(addition: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let wit = workspace().join("wit");
    for package in ["types/0.1.0", "classifier/0.1.0"] {
        resolve.push_path(wit.join(package)).expect("it parses");
    }
    let package = resolve.push_str("wasi.wit", WASI).expect("it parses");
    let world = resolve.select_world(&[package], Some("guest")).expect("it exists");
    let mut module = wat::parse_str(GUEST).expect("valid text");
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding).expect("it embeds");
    let encoder = wit_component::ComponentEncoder::default().module(&module);
    let component = encoder.and_then(|mut encoder| encoder.encode()).expect("it encodes");
    let text = wasmprinter::print_bytes(component).expect("it prints");
    let end = text.rfind(')').expect("a component has an end");
    wat::parse_str(format!("{}{addition})", &text[..end])).expect("valid text")
}

/// This many instances of a module with this text.
fn instances(number: usize, of: &str) -> String {
    let instance = format!("(core instance (instantiate $m{}))", of.len());
    format!("(core module $m{} {of}) {}", of.len(), instance.repeat(number))
}

/// A section that says nothing.
fn with_bytes(mut component: Vec<u8>, bytes: usize) -> Vec<u8> {
    component.push(0);
    let mut length = bytes + 5;
    while length > 0x7f {
        component.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    component.push(u8::try_from(length).expect("seven bits"));
    component.extend(b"\x04data");
    component.resize(component.len() + bytes, 0);
    component
}

fn diff(runtime: &str) -> Diff {
    let nothing = Vec::new;
    Diff {
        runtime: runtime.to_owned(),
        plugin: "p".to_owned(),
        added: nothing(),
        removed: nothing(),
        changed: nothing(),
    }
}

fn load(bytes: &[u8]) -> Result<Component, LoadError> {
    Sandbox::new(Limits::default(), None).expect("an engine").load(bytes)
}

async fn ask(component: &Component, runtime: &str) -> Outcome<Verdict> {
    let classifier = component.classifier().expect("a classifier");
    classifier.classify(&Settings::default(), &diff(runtime)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_wasi_that_no_guest_is_given_trap_by_name_when_they_are_called() {
    let component = load(&guest("")).unwrap();
    for component in [component.per_call(), component.pooled()] {
        for (runtime, name) in [
            ("sockets", "wasi:sockets/tcp.tcp-socket.connect"),
            ("http", "wasi:http/types.body.read"),
            ("delegate", "wasi:http/handler.handle"),
            ("later", "wasi:cli/stdin.of-a-later-release"),
        ] {
            let failure = ask(&component, runtime).await.result.unwrap_err();
            let Failure::Trap { message, backtrace } = &failure else { panic!("{failure}") };
            assert_eq!(message, &format!("{name} is not available to guests"));
            assert!(!backtrace.is_empty());
            assert_eq!(ask(&component, "none").await.result, Ok(Verdict::Hot), "not called");
        }
        assert_eq!(ask(&component, "input").await.result, Ok(Verdict::Hot), "the one beside it is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_system_is_empty() {
    let component = load(&guest("")).unwrap();
    assert_eq!(ask(&component, "files").await.result, Ok(Verdict::Hot));
}

#[test]
fn a_resource_that_is_not_the_interfaces_own_is_refused() {
    // A socket in place of the stream that standard input has.
    let swapped = r#"(import "wasi:sockets/udp@0.2.0" (instance $udp (export "socket" (type (sub resource)))))
        (alias export $udp "socket" (type $socket))
        (import "wasi:cli/stdout@0.2.0" (instance
            (export "output-stream" (type $s (eq $socket)))
            (export "get-stdout" (func (result (own $s))))))"#;
    let refused = load(&guest(swapped)).unwrap_err();
    assert!(matches!(refused, LoadError::ImportTypes(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_that_are_not_ours_are_ignored_and_two_of_ours_are_refused() {
    let foreign = r#"(instance $mine) (export "third-party:tools/tools@1.0.0" (instance $mine))
        (export "wasi:http/incoming-handler@0.2.0" (instance $mine)) (export "isomer:later/later@9.0.0" (instance $mine))"#;
    let component = load(&guest(foreign)).unwrap();
    assert_eq!((component.world(), component.version()), (wasm::World::Classifier, "0.1.0"));
    assert_eq!(ask(&component, "none").await.result, Ok(Verdict::Hot));
    for second in ["isomer:adapter/adapter@0.1.0", "isomer:classifier/classifier@0.0.9"] {
        let two = guest(&format!(r#"(instance $mine) (export "{second}" (instance $mine))"#));
        let refused = load(&two).unwrap_err();
        assert!(
            matches!(refused, LoadError::World { .. }) && refused.to_string().contains(second),
            "{refused}"
        );
    }
}

#[test]
fn imports_that_are_not_wasi_are_refused_by_name() {
    for name in ["evil:host/everything", "wasix:sockets/tcp@0.2.0", "isomer:secrets/secrets@0.1.0"] {
        let refused = load(&guest(&format!(r#"(import "{name}" (instance))"#))).unwrap_err();
        assert_eq!(refused, LoadError::Imports { names: vec![name.to_owned()] });
    }
}

/// The core instances of the guest itself. It has one memory.
fn own_instances() -> usize {
    let refused = load(&guest(&instances(100, "(func)"))).unwrap_err().to_string();
    let is_own = |own: &usize| refused.contains(&format!("contains {} core module instances", 100 + own));
    (1..10).find(is_own).unwrap_or_else(|| panic!("{refused}"))
}

fn largest() -> String {
    instances(2, "(memory 1)") + &instances(38 - own_instances(), "(func)")
}

#[tokio::test(flavor = "multi_thread")]
async fn three_memories_and_forty_core_instances_are_enough_and_no_more_are_allowed() {
    let component = load(&guest(&largest())).unwrap();
    assert_eq!(ask(&component, "none").await.result, Ok(Verdict::Hot));
    for (addition, what) in [
        (instances(3, "(memory 1)"), "4 Wasm linear memories"),
        (instances(41 - own_instances(), "(func)"), "41 core module instances"),
    ] {
        let refused = load(&guest(&addition)).unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
    }
}

/// There are as many memories as before guests could have three: a component with more than two waits for two slots.
#[tokio::test(flavor = "multi_thread")]
async fn guests_of_many_memories_wait_for_room_and_never_fail_for_it() {
    let limits = Limits { slots: 6, slots_per_component: 6, ..Limits::default() };
    let sandbox = Sandbox::new(limits, None).unwrap();
    let component = sandbox.load(&guest(&largest())).unwrap();
    let pools: Vec<Component> = (0..20).map(|_| component.pooled()).collect();
    for _ in 0..3 {
        let calls = pools.iter().chain([&component]).flat_map(|pool| (0..8).map(|_| ask(pool, "none")));
        for outcome in join_all(calls).await {
            assert_eq!(outcome.result, Ok(Verdict::Hot));
        }
    }
    let memories = sandbox.pool_use().memories;
    assert!(memories > 30, "instances are kept: {memories}");
}

on_both_databases! {
    async fn a_component_of_thirty_mebibytes_is_stored_compiled_and_called(database: Database) {
        let server = Server::start(database).await;
        let component = with_bytes(guest(&largest()), 30 << 20);
        let release = server.push("large", &component, true).await.ok();
        let call = async |server: &Server, runtime: &str| {
            let input = json!({ "runtime": runtime, "plugin": "p" });
            server.call("large", "classify", input).await
        };
        assert_eq!(call(&server, "none").await.ok()["answer"], "hot");
        let failed = call(&server, "sockets").await;
        let expected = "wasi:sockets/tcp.tcp-socket.connect is not available to guests";
        assert!(failed.error(502).contains(expected), "{}", failed.json);
        assert_eq!(failed.json["kind"], "trap");

        let server = server.restart().await;
        assert_eq!(server.guest("large").await["release"], release["digest"]);
        assert_eq!(call(&server, "none").await.ok()["answer"], "hot");
    }
}
