//! Components that are hostile to the compiler or to the pass over their bytes, made when they are needed.

use wasm_encoder::{
    CodeSection, Component, ComponentExportKind, ComponentExportSection, ComponentInstanceSection, ConstExpr,
    Function, FunctionSection, GlobalSection, GlobalType, Instruction, Module, ModuleSection,
    NestedComponentSection, TypeSection, ValType,
};

use crate::variant;

mod shapes;

pub use shapes::{custom, shapes};

/// A component of a known world with this module in it.
#[must_use]
pub fn guest(module: &Module) -> Vec<u8> {
    let nothing: [(&str, ComponentExportKind, u32); 0] = [];
    let (mut instances, mut exports) = (ComponentInstanceSection::new(), ComponentExportSection::new());
    instances.export_items(nothing);
    exports.export("isomer:adapter/adapter@0.1.0", ComponentExportKind::Instance, 0, None);
    let mut component = Component::new();
    component.section(&ModuleSection(module)).section(&instances).section(&exports);
    component.finish()
}

#[must_use]
pub fn module(functions: u32, function: &Function) -> Module {
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
#[must_use]
pub fn loops(locals: u32, loops: u32, nested: bool) -> Function {
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

#[must_use]
pub fn empty() -> Function {
    let mut function = Function::new([]);
    function.instruction(&Instruction::End);
    function
}

/// Each component instantiates the one before twice.
#[must_use]
pub fn doubling(levels: u32) -> Vec<u8> {
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

#[must_use]
pub fn in_each_other(depth: u32) -> Vec<u8> {
    let mut component = Component::new();
    // Written from the inside out this would copy each level; a chain of a few thousand is as refused.
    for _ in 0..depth {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&component));
        component = outer;
    }
    component.finish()
}

#[must_use]
pub fn beside_each_other(count: u32) -> Vec<u8> {
    let (mut component, empty) = (Component::new(), Component::new());
    for _ in 0..count {
        component.section(&NestedComponentSection(&empty));
    }
    component.finish()
}

/// Within every size that is checked ahead, and seconds of work.
#[must_use]
pub fn slow(mark: u32) -> Vec<u8> {
    variant(&guest(&module(360, &loops(2_000, 60, true))), mark)
}

/// Within every size that is checked ahead, and hundreds of megabytes of work: at each loop, every local has a value
/// that the compiler keeps.
#[must_use]
pub fn large() -> Vec<u8> {
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
#[must_use]
pub fn refused_ahead() -> Vec<(Vec<u8>, &'static str)> {
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
