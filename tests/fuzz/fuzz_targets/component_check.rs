//! The pass over a component before it is compiled: it must end soon and not panic, and what it lets through must
//! compile without a panic, within the time that a compile process has.
//!
//! Components are made from the fuzzer's bytes: by a small language of sections, by changes to a guest of ours, or as
//! they come.

#![no_main]

use std::{
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use isomer_wasm::{CompileLimits, Limits, LoadError, Sandbox};
use libfuzzer_sys::fuzz_target;
use wasm_encoder::{
    Alias, BlockType, CodeSection, Component, ComponentAliasSection, ComponentExportKind,
    ComponentExportSection, ComponentInstanceSection, ComponentOuterAliasKind, ConstExpr, DataSection,
    Function, FunctionSection, Instruction, MemorySection, MemoryType, Module, ModuleSection,
    NestedComponentSection, RawSection, RefType, TableSection, TableType, TypeSection, ValType,
};

/// Larger ones are changed guests, whose compilation takes so long that little else would be tried.
const COMPILED_BYTES: usize = 32 << 10;

/// For the largest component; a machine that fuzzes is busy.
const CHECK_TIME: Duration = Duration::from_secs(2);

struct Host {
    sandbox: Sandbox,
    guest: Vec<u8>,
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let files = guest_build::build(&workspace, &workspace.join("target/guests"), &["mock"]);
        let guest = std::fs::read(&files.expect("the guest builds")[0]).expect("it was built");
        Host { sandbox: Sandbox::new(Limits::default(), None).expect("an engine"), guest }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Host { sandbox, guest } = host();
    let (kind, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let component = match kind % 4 {
        0 => rest.to_vec(),
        1 => changed(guest, rest),
        _ => Maker { bytes: rest }.component(0).finish(),
    };
    let started = Instant::now();
    let checked = sandbox.check(&component);
    assert!(started.elapsed() < CHECK_TIME, "the check took {:?}", started.elapsed());
    match checked {
        Ok(()) if component.len() > COMPILED_BYTES => {}
        Ok(()) => {
            let started = Instant::now();
            let _ = sandbox.load(&component);
            let limit = Duration::from_secs(CompileLimits::default().cpu_seconds.into());
            assert!(started.elapsed() < limit, "compiling took {:?}", started.elapsed());
        }
        Err(LoadError::TooComplex { found, limit, .. }) => assert!(found > limit),
        Err(error) => assert!(error.to_string().len() < 8 << 10, "{error}"),
    }
});

/// A guest with some of its bytes replaced, inserted or removed.
fn changed(guest: &[u8], mut changes: &[u8]) -> Vec<u8> {
    let mut guest = guest.to_vec();
    while let [kind, a, b, c, value, rest @ ..] = changes {
        changes = rest;
        let at = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let at = at % guest.len().max(1);
        match kind % 3 {
            0 => guest[at] = *value,
            1 => guest.insert(at, *value),
            _ => drop(guest.drain(at..(at + usize::from(*value)).min(guest.len()))),
        }
        if guest.is_empty() {
            break;
        }
    }
    guest
}

/// Makes components of what the fuzzer's bytes say. Zeros follow the last of them.
struct Maker<'a> {
    bytes: &'a [u8],
}

impl Maker<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        *first
    }

    fn count(&mut self) -> u32 {
        // Mostly few, sometimes many.
        let byte = u32::from(self.byte());
        if byte < 200 { byte % 8 } else { (byte - 199).pow(2) * 4 }
    }

    fn component(&mut self, depth: u8) -> Component {
        let mut component = Component::new();
        let (mut components, mut modules) = (0, 0);
        while !self.bytes.is_empty() {
            match self.byte() % 9 {
                0 if depth < 20 => {
                    component.section(&NestedComponentSection(&self.component(depth + 1)));
                    components += 1;
                }
                1 => {
                    component.section(&ModuleSection(&self.module()));
                    modules += 1;
                }
                2 | 3 => {
                    let mut instances = ComponentInstanceSection::new();
                    for _ in 0..self.count() {
                        let nothing: [(&str, ComponentExportKind, u32); 0] = [];
                        instances.instantiate(u32::from(self.byte()) % (components + 1), nothing);
                    }
                    component.section(&instances);
                }
                4 => {
                    let mut instances = wasm_encoder::InstanceSection::new();
                    for _ in 0..self.count() {
                        let nothing: [(&str, wasm_encoder::ModuleArg); 0] = [];
                        instances.instantiate(u32::from(self.byte()) % (modules + 1), nothing);
                    }
                    component.section(&instances);
                }
                5 => {
                    let mut aliases = ComponentAliasSection::new();
                    aliases.alias(Alias::Outer {
                        kind: ComponentOuterAliasKind::Component,
                        count: u32::from(self.byte() % 4),
                        index: u32::from(self.byte() % 8),
                    });
                    component.section(&aliases);
                    components += 1;
                }
                6 => {
                    let mut exports = ComponentExportSection::new();
                    let name =
                        if self.byte() % 2 == 0 { "isomer:adapter/adapter@0.1.0" } else { "a:b/c@0.1.0" };
                    exports.export(name, ComponentExportKind::Instance, self.byte().into(), None);
                    component.section(&exports);
                }
                7 => {
                    let length = usize::from(self.byte()).min(self.bytes.len());
                    let (data, rest) = self.bytes.split_at(length);
                    component.section(&RawSection { id: (length % 13) as u8, data });
                    self.bytes = rest;
                }
                // The end of this one.
                _ => break,
            }
        }
        if depth == 0 {
            // Of a known world, so that the check reaches its end.
            let nothing: [(&str, ComponentExportKind, u32); 0] = [];
            let (mut instances, mut exports) =
                (ComponentInstanceSection::new(), ComponentExportSection::new());
            instances.export_items(nothing);
            exports.export("isomer:adapter/adapter@0.1.0", ComponentExportKind::Instance, 0, None);
            component.section(&instances).section(&exports);
        }
        component
    }

    fn module(&mut self) -> Module {
        let (mut types, mut declared, mut code) =
            (TypeSection::new(), FunctionSection::new(), CodeSection::new());
        types.ty().function([], []);
        let (mut memories, mut tables) = (MemorySection::new(), TableSection::new());
        if self.byte() % 2 == 0 {
            memories.memory(MemoryType {
                minimum: self.count().into(),
                maximum: None,
                memory64: self.byte() > 250,
                shared: false,
                page_size_log2: None,
            });
        }
        for _ in 0..self.byte() % 3 {
            tables.table(TableType {
                element_type: RefType::FUNCREF,
                table64: false,
                minimum: u64::from(self.count()) * 10,
                maximum: None,
                shared: false,
            });
        }
        let mut data = DataSection::new();
        if !memories.is_empty() {
            for _ in 0..self.byte() % 3 {
                data.active(0, &ConstExpr::i32_const(i32::from(self.byte()) << 12), [1, 2, 3]);
            }
        }
        for _ in 0..self.count() {
            declared.function(0);
            code.function(&self.function());
        }
        let mut module = Module::new();
        module
            .section(&types)
            .section(&declared)
            .section(&tables)
            .section(&memories)
            .section(&code)
            .section(&data);
        module
    }

    fn function(&mut self) -> Function {
        let locals = self.count();
        let mut function = Function::new([(locals, ValType::I64)]);
        let mut open = 0;
        for _ in 0..self.count() {
            match self.byte() % 6 {
                0 => {
                    function.instruction(&Instruction::Loop(BlockType::Empty));
                    open += 1;
                }
                1 => {
                    function.instruction(&Instruction::Block(BlockType::Empty));
                    open += 1;
                }
                2 if open > 0 => {
                    function.instruction(&Instruction::End);
                    open -= 1;
                }
                3 if open > 0 => {
                    function
                        .instruction(&Instruction::I32Const(1))
                        .instruction(&Instruction::BrIf(u32::from(self.byte()) % open));
                }
                _ if locals > 0 => {
                    let (from, to) = (u32::from(self.byte()) % locals, u32::from(self.byte()) % locals);
                    function
                        .instruction(&Instruction::LocalGet(from))
                        .instruction(&Instruction::LocalGet(to));
                    function.instruction(&Instruction::I64Add).instruction(&Instruction::LocalSet(to));
                }
                _ => {}
            }
        }
        for _ in 0..=open {
            function.instruction(&Instruction::End);
        }
        function
    }
}
