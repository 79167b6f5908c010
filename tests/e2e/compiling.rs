//! Components that are hostile to the compiler.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{Components, Database, Server, Signal, Start, on_both_databases, variant};
use wasm_encoder::{
    CodeSection, Component, ComponentExportKind, ComponentExportSection, ComponentInstanceSection, ConstExpr,
    Function, FunctionSection, GlobalSection, GlobalType, Instruction, Module, ModuleSection,
    NestedComponentSection, TypeSection, ValType,
};

/// A component of a known world with this module in it.
fn guest(module: &Module) -> Vec<u8> {
    let nothing: [(&str, ComponentExportKind, u32); 0] = [];
    let (mut instances, mut exports) = (ComponentInstanceSection::new(), ComponentExportSection::new());
    instances.export_items(nothing);
    exports.export("isomer:adapter/adapter@0.1.0", ComponentExportKind::Instance, 0, None);
    let mut component = Component::new();
    component.section(&ModuleSection(module)).section(&instances).section(&exports);
    component.finish()
}

fn module(functions: u32, function: &Function) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let (mut declared, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..functions {
        declared.function(0);
        code.function(function);
    }
    let mut globals = GlobalSection::new();
    let global = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
    globals.global(global, &ConstExpr::i64_const(1));
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&globals).section(&code);
    module
}

/// A function that adds up its locals at the begin of each loop. `nested`: the loops are in each other.
fn loops(locals: u32, loops: u32, nested: bool) -> Function {
    let mut function = Function::new([(locals, ValType::I64)]);
    for number in 0..loops {
        function.instruction(&Instruction::Loop(wasm_encoder::BlockType::Empty));
        let (from, to) = (number % locals, (number * 7 + 1) % locals);
        function.instruction(&Instruction::LocalGet(from)).instruction(&Instruction::LocalGet(to));
        function.instruction(&Instruction::I64Add).instruction(&Instruction::LocalSet(to));
        function.instruction(&Instruction::LocalGet(to)).instruction(&Instruction::I64Eqz);
        function.instruction(&Instruction::BrIf(0));
        if !nested {
            function.instruction(&Instruction::End);
        }
    }
    for _ in 0..if nested { loops } else { 0 } {
        function.instruction(&Instruction::End);
    }
    function.instruction(&Instruction::End);
    function
}

fn empty() -> Function {
    let mut function = Function::new([]);
    function.instruction(&Instruction::End);
    function
}

/// Each component instantiates the one before twice.
fn doubling(levels: u32) -> Vec<u8> {
    let mut text = "(component $c0)".to_owned();
    for level in 1..=levels {
        let before = level - 1;
        text.push_str(&format!(
            "(component $c{level} (alias outer 1 $c{before} (component $c))
                (instance (instantiate $c)) (instance (instantiate $c)))"
        ));
    }
    wat::parse_str(format!("(component {text} (instance (instantiate $c{levels})))")).unwrap()
}

fn in_each_other(depth: u32) -> Vec<u8> {
    let mut component = Component::new();
    // Written from the inside out this would copy each level; a chain of a few thousand is as refused.
    for _ in 0..depth {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&component));
        component = outer;
    }
    component.finish()
}

fn beside_each_other(count: u32) -> Vec<u8> {
    let (mut component, empty) = (Component::new(), Component::new());
    for _ in 0..count {
        component.section(&NestedComponentSection(&empty));
    }
    component.finish()
}

/// Within every size that is checked ahead, and seconds of work.
fn slow(mark: u32) -> Vec<u8> {
    variant(&guest(&module(120, &loops(2_000, 60, true))), mark)
}

/// Within every size that is checked ahead, and hundreds of megabytes of work: at each loop, every local has a value
/// that the compiler keeps.
fn large() -> Vec<u8> {
    const LOCALS: u32 = 2_000;
    const LOOPS: u32 = 20;
    let mut function = Function::new([(LOCALS, ValType::I64)]);
    for _ in 0..LOOPS {
        function.instruction(&Instruction::Loop(wasm_encoder::BlockType::Empty));
        for local in 0..LOCALS {
            function.instruction(&Instruction::LocalGet(local)).instruction(&Instruction::GlobalGet(0));
            function.instruction(&Instruction::I64Add).instruction(&Instruction::LocalTee(local));
            function.instruction(&Instruction::GlobalSet(0));
        }
        function.instruction(&Instruction::GlobalGet(0)).instruction(&Instruction::I64Eqz);
        function.instruction(&Instruction::BrIf(0));
    }
    for _ in 0..=LOOPS {
        function.instruction(&Instruction::End);
    }
    guest(&module(2, &function))
}

/// A component that is refused ahead of any compilation, and what it has too much of.
fn refused() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (doubling(30), "instances"),
        (guest(&module(1, &loops(20_000, 2_000, false))), "locals"),
        (guest(&module(1, &loops(4_000, 2_000, false))), "locals times loops"),
        (guest(&module(1, &loops(10, 5_000, true))), "loops in each other"),
        (guest(&module(900_000, &empty())), "functions"),
        (beside_each_other(50_000), "nested components"),
        (in_each_other(2_000), "components in each other"),
    ]
}

on_both_databases! {
    async fn a_component_that_would_take_too_long_is_refused_ahead(database: Database) {
        let server = start(Start::from(database)).await;
        let before = server.peak_memory();
        for (component, what) in refused() {
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
        fs::write(folder.path().join("bomb.wasm"), slow(1)).unwrap();
        let start = Start::from(database).own_cache().env("GUEST_COMPILE_SECONDS", "1");
        let start = start.env("GUESTS_DIR", folder.path().to_str().unwrap());
        let server = Server::start(start).await;
        let refusal = "not taken from GUESTS_DIR: compiling the component took more than 1 s of processor time";
        server.until_logged(refusal).await;
        server.reply("mock").await;

        // Once more, and it is refused for what was noted.
        let note = notes(&server).remove(0);
        let text = fs::read_to_string(&note).unwrap();
        fs::write(&note, text.replace("took more than 1 s", "took, as was noted, more than 1 s")).unwrap();
        let server = server.restart().await;
        server.until_logged("compiling the component took, as was noted, more than 1 s of processor time").await;
        assert!(noted(&server) == 1, "{}", server.log());
        let compiled = server.push("bomb", &slow(1), false).await;
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
    let memories: String = ["a", "b", "c"]
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
    let (hostile, second) = (large(), variant(&Components::get().second_mock, 200));
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
async fn a_stop_ends_a_compilation_at_once() {
    let server = start(Start::from(Database::sqlite()).own_cache()).await;
    let component = slow(3);
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
    let component = slow(4);
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
    let component = slow(5);
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
