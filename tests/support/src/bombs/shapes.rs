//! Components of unusual shapes: what the pass over the bytes does not count, the compiler has to bear or refuse.

use wasm_encoder::{
    BlockType, CodeSection, Component, ComponentTypeSection, ComponentValType, ConstExpr, CustomSection,
    DataSection, ElementSection, Elements, Encode as _, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, Instruction, MemorySection, MemoryType, Module, PrimitiveValType, RawSection,
    RefType, TableSection, TableType, TypeSection, ValType,
};

use super::{empty, guest};

/// The bytes that a component may have.
const COMPONENT_BYTES: usize = 32 << 20;

/// Names and components. None is a guest.
#[must_use]
pub fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a type that doubles 60 times", doubled_type(60)),
        ("a type that doubles 60 times and is imported", imported(doubled_type_section(60))),
        ("lists of lists", lists(50_000)),
        ("a record of 100,000 fields", record(100_000)),
        ("an enumeration of 300,000 cases", enumeration(300_000)),
        ("declarations of types in each other", types_in_types(300_000)),
        ("declarations of components in each other, cut", cut(&types_in_types(300_000), 200_000)),
        ("functions of 1,000 parameters", wide_functions(90_000)),
        ("functions of 1,001 parameters", wide_functions_of(1_001, 1)),
        ("a memory with a byte on each page", sparse(1_024)),
        ("90,000 segments of one byte", sparse(90_000)),
        ("a segment at the end of the address space", segment_at(-1)),
        ("a memory of 4 GiB", memory(65_536)),
        ("a table of 10,000,000 elements", table(10_000_000, 1)),
        ("90,000 segments of a table", table(10_000, 90_000)),
        ("a jump table of 100,000 targets", jumps(100_000)),
        ("500 kB without a branch", straight(1, 500_000)),
        ("30 functions of 500 kB without a branch", straight(30, 500_000)),
        ("5,000 blocks in each other in 300 functions", blocks(300, 5_000)),
        ("100,000 exports with long names", exports(90_000, 150)),
        ("an export with a name of 1 MB", exports(1, 1_000_000)),
        ("100,000 globals", globals(99_000)),
        ("a custom section of 33 MB", custom(COMPONENT_BYTES - 1_000)),
        ("names that are garbage", garbage_names()),
        ("sections without content", empty_sections(1_000_000)),
        ("a section that is longer than the file", longer_than_the_file()),
        ("a number that does not end", endless_number()),
    ]
}

fn component_of(types: &ComponentTypeSection) -> Vec<u8> {
    let mut component = Component::new();
    component.section(types);
    component.finish()
}

fn doubled_type_section(levels: u32) -> ComponentTypeSection {
    let mut types = ComponentTypeSection::new();
    types.defined_type().primitive(PrimitiveValType::U64);
    for level in 0..levels {
        types.defined_type().tuple([ComponentValType::Type(level), ComponentValType::Type(level)]);
    }
    types
}

fn doubled_type(levels: u32) -> Vec<u8> {
    component_of(&doubled_type_section(levels))
}

/// A component that imports a function of the last type.
fn imported(mut types: ComponentTypeSection) -> Vec<u8> {
    let last = types.len() - 1;
    types.function().params([("x", ComponentValType::Type(last))]).result(None);
    let mut imports = wasm_encoder::ComponentImportSection::new();
    imports.import("f", wasm_encoder::ComponentTypeRef::Func(last + 1));
    let mut component = Component::new();
    component.section(&types).section(&imports);
    component.finish()
}

fn lists(levels: u32) -> Vec<u8> {
    let mut types = ComponentTypeSection::new();
    types.defined_type().primitive(PrimitiveValType::U8);
    for level in 0..levels {
        types.defined_type().list(ComponentValType::Type(level));
    }
    component_of(&types)
}

fn record(fields: u32) -> Vec<u8> {
    let names: Vec<String> = (0..fields).map(|field| format!("f{field}")).collect();
    let of = |name| (name, ComponentValType::Primitive(PrimitiveValType::String));
    let mut types = ComponentTypeSection::new();
    types.defined_type().record(names.iter().map(String::as_str).map(of).collect::<Vec<_>>());
    component_of(&types)
}

fn enumeration(cases: u32) -> Vec<u8> {
    let names: Vec<String> = (0..cases).map(|case| format!("c{case}")).collect();
    let mut types = ComponentTypeSection::new();
    types.defined_type().enum_type(names.iter().map(String::as_str).collect::<Vec<_>>());
    component_of(&types)
}

/// A type of a component that declares a type of a component that … Readers that recurse need stack for each level.
fn types_in_types(depth: usize) -> Vec<u8> {
    const COMPONENT_TYPE: u8 = 0x41;
    const TYPE: u8 = 0x01;
    let mut data = vec![1]; // one type
    for _ in 0..depth {
        data.extend([COMPONENT_TYPE, 1, TYPE]);
    }
    data.extend([COMPONENT_TYPE, 0]);
    let mut component = Component::new();
    component.section(&RawSection { id: 7, data: &data });
    component.finish()
}

fn cut(component: &[u8], bytes: usize) -> Vec<u8> {
    component[..bytes.min(component.len())].to_vec()
}

fn wide_functions(count: u32) -> Vec<u8> {
    // Different types, so that none is shared.
    let mut types = TypeSection::new();
    let kinds = [ValType::I32, ValType::I64, ValType::F32, ValType::F64];
    for number in 0..count / 90 {
        let kind = |bit: u32| kinds[(number >> (bit % 16) & 3) as usize];
        types.ty().function((0..1_000).map(kind).collect::<Vec<_>>(), []);
    }
    let mut module = Module::new();
    module.section(&types);
    guest(&module)
}

fn wide_functions_of(parameters: usize, count: u32) -> Vec<u8> {
    let mut types = TypeSection::new();
    for _ in 0..count {
        types.ty().function(vec![ValType::V128; parameters], []);
    }
    let mut module = Module::new();
    module.section(&types);
    guest(&module)
}

fn memory_type(pages: u64) -> MemorySection {
    let mut memories = MemorySection::new();
    let memory =
        MemoryType { minimum: pages, maximum: None, memory64: false, shared: false, page_size_log2: None };
    memories.memory(memory);
    memories
}

fn sparse(segments: u32) -> Vec<u8> {
    const PAGES: u32 = 1_000;
    let mut data = DataSection::new();
    for segment in 0..segments {
        let at = (segment % PAGES) * 65_536 + segment / PAGES * 600;
        data.active(0, &ConstExpr::i32_const(at.cast_signed()), [1]);
    }
    let mut module = Module::new();
    module.section(&memory_type(PAGES.into())).section(&data);
    guest(&module)
}

fn segment_at(offset: i32) -> Vec<u8> {
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(offset), [1; 100]);
    let mut module = Module::new();
    module.section(&memory_type(1)).section(&data);
    guest(&module)
}

fn memory(pages: u64) -> Vec<u8> {
    let mut module = Module::new();
    module.section(&memory_type(pages));
    guest(&module)
}

fn table(elements: u64, segments: u32) -> Vec<u8> {
    let (mut types, mut functions, mut code) =
        (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([], []);
    functions.function(0);
    code.function(&empty());
    let mut tables = TableSection::new();
    let table = TableType {
        element_type: RefType::FUNCREF,
        minimum: elements,
        maximum: None,
        table64: false,
        shared: false,
    };
    tables.table(table);
    let mut items = ElementSection::new();
    for segment in 0..segments {
        let at = ConstExpr::i32_const((segment % 1_000).cast_signed());
        items.active(None, &at, Elements::Functions((&[0][..]).into()));
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&tables).section(&items).section(&code);
    guest(&module)
}

fn of_function(functions: u32, function: &Function) -> Vec<u8> {
    guest(&super::module(functions, function))
}

fn jumps(targets: usize) -> Vec<u8> {
    let mut function = Function::new([]);
    function.instruction(&Instruction::Block(BlockType::Empty));
    function.instruction(&Instruction::I32Const(0));
    function.instruction(&Instruction::BrTable(vec![0; targets].into(), 0));
    function.instruction(&Instruction::End).instruction(&Instruction::End);
    of_function(1, &function)
}

fn straight(functions: u32, bytes: usize) -> Vec<u8> {
    let mut function = Function::new([(1, ValType::I64)]);
    while function.byte_len() + 10 < bytes {
        function.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::LocalGet(0));
        function.instruction(&Instruction::I64Mul).instruction(&Instruction::LocalSet(0));
    }
    function.instruction(&Instruction::End);
    of_function(functions, &function)
}

fn blocks(functions: u32, depth: u32) -> Vec<u8> {
    let mut function = Function::new([(1, ValType::I32)]);
    for level in 0..depth {
        function.instruction(&Instruction::Block(BlockType::Empty));
        function.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::BrIf(level / 2));
    }
    for _ in 0..=depth {
        function.instruction(&Instruction::End);
    }
    of_function(functions, &function)
}

fn exports(count: u32, length: usize) -> Vec<u8> {
    let (mut types, mut functions, mut code) =
        (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([], []);
    functions.function(0);
    code.function(&empty());
    let mut exports = ExportSection::new();
    for number in 0..count {
        let name = number.to_string() + &"n".repeat(length);
        exports.export(&name, ExportKind::Func, 0);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&exports).section(&code);
    guest(&module)
}

fn globals(count: u32) -> Vec<u8> {
    let mut globals = GlobalSection::new();
    for _ in 0..count {
        let global = GlobalType { val_type: ValType::V128, mutable: true, shared: false };
        globals.global(global, &ConstExpr::v128_const(1));
    }
    let mut module = Module::new();
    module.section(&globals);
    guest(&module)
}

fn with_custom(name: &str, data: &[u8]) -> Vec<u8> {
    let mut module = Module::new();
    module.section(&CustomSection { name: name.into(), data: data.into() });
    guest(&module)
}

/// With a custom section of this size.
#[must_use]
pub fn custom(bytes: usize) -> Vec<u8> {
    with_custom("producers", &vec![0xff; bytes])
}

fn garbage_names() -> Vec<u8> {
    let mut data = vec![1]; // names of functions
    u32::MAX.encode(&mut data);
    u32::MAX.encode(&mut data);
    data.extend([0xff; 1_000]);
    with_custom("name", &data)
}

fn empty_sections(count: usize) -> Vec<u8> {
    let mut component = Component::new();
    for _ in 0..count {
        component.section(&RawSection { id: 7, data: &[0] });
    }
    component.finish()
}

fn longer_than_the_file() -> Vec<u8> {
    let mut bytes = Component::new().finish();
    bytes.push(1);
    u32::MAX.encode(&mut bytes);
    bytes.extend([0; 100]);
    bytes
}

fn endless_number() -> Vec<u8> {
    let mut bytes = Component::new().finish();
    bytes.push(1);
    bytes.extend(vec![0x80; 1_000_000]);
    bytes
}
