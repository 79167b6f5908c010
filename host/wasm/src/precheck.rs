//! A cheap pass over the bytes of a component before anything compiles it: whether it is of a known world,
//! imports only what guests are given, and is within sizes that the compiler handles in seconds.
//!
//! A few bytes can describe work without end: nested instances multiply, and what the compiler does for a
//! function grows with locals times loops. The pass reads each byte once, holds a few words per component, and
//! ends at the first limit that is exceeded. It does not validate: that is the compiler's work, in a process of
//! its own (`compiler`). Declarations of types are only counted, because their reader recurses as deep as they
//! nest.

mod functions;
mod instances;

use types::{clip, printable};
use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentTypeRef, Instance, Parser,
    Payload,
};

use self::instances::{Component, Cost};
use crate::{Limits, LoadError, exports, failure::NAMES, imports};

/// Sizes of a component. In brackets what the largest of the first-party guests have.
///
/// The margins leave room for guests of other toolchains: interpreters compiled to Wasm have some ten times the
/// functions and bytes of ours (CPython 13,000 functions in 14 modules, of which the largest has 430,000 bytes). What
/// exceeds one of them can't be a guest; what is within all of them may still take more than [`crate::CompileLimits`],
/// which end its compilation.
pub(crate) mod limit {
    /// Components and modules in each other, from the outermost component on [2].
    pub(crate) const DEPTH: u64 = 16;
    /// Components, the outermost one included [2].
    pub(crate) const COMPONENTS: u64 = 200;
    /// Core modules [4].
    pub(crate) const MODULES: u64 = 200;
    /// Instances that one instantiation makes, with those of nested components each time [30].
    pub(crate) const INSTANCES: u64 = 2_000;
    /// Imports, aliases, types, exports, arguments and adapted functions of those instances together [700].
    pub(crate) const ITEMS: u64 = 100_000;
    /// Functions of all modules [800].
    pub(crate) const FUNCTIONS: u64 = 50_000;
    /// Imports, exports, types, globals, tables, memories, tags and segments of all modules [1,000].
    pub(crate) const DECLARATIONS: u64 = 100_000;
    /// Bytes of one function [20,000].
    pub(crate) const BODY_BYTES: u64 = 1 << 20;
    /// Locals of one function [100].
    pub(crate) const LOCALS: u64 = 5_000;
    /// Loops of one function in each other [10].
    pub(crate) const LOOP_DEPTH: u64 = 64;
    /// Blocks, loops and conditions of one function in each other [100]: a `switch` nests one block per case.
    pub(crate) const BLOCK_DEPTH: u64 = 5_000;
    /// Locals times loops of one function [5,000]: at a loop, the compiler looks at each local.
    pub(crate) const LOCALS_TIMES_LOOPS: u64 = 500_000;
}

/// Refuses bytes that are no guest, or that would take too long to compile.
pub(crate) fn check(bytes: &[u8], limits: &Limits) -> Result<(), LoadError> {
    let limit = limits.component_bytes;
    match bytes {
        _ if bytes.len() > limit => return Err(LoadError::TooLarge { bytes: bytes.len(), limit }),
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => {}
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => return Err(LoadError::CoreModule),
        [b'\0', b'a', b's', b'm', ..] => return Err(LoadError::Compile("the file is truncated".to_owned())),
        _ => return Err(LoadError::NotWasm),
    }
    let mut pass = Pass::new(limits);
    for payload in Parser::new(0).parse_all(bytes) {
        pass.payload(payload?)?;
    }
    exports::world(&pass.exports)?;
    imports::check(&pass.imports)
}

/// Compares a count with its limit. `at` says whose count it is.
fn within(what: &'static str, found: u64, limit: u64, at: impl FnOnce() -> String) -> Result<(), LoadError> {
    if found <= limit {
        return Ok(());
    }
    Err(LoadError::TooComplex { at: at(), what, found, limit })
}

fn whole() -> String {
    "the component".to_owned()
}

impl From<wasmparser::BinaryReaderError> for LoadError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Compile(clip(printable(&error.to_string()).into_owned(), NAMES))
    }
}

/// What was seen so far.
struct Pass<'a> {
    limits: &'a Limits,
    /// Components that were entered and not left, the outermost one first.
    open: Vec<Component>,
    in_module: bool,
    components: u64,
    modules: u64,
    functions: u64,
    /// Functions of the module whose code is read.
    bodies: u64,
    declarations: u64,
    /// Of the outermost component.
    imports: Vec<String>,
    exports: Vec<String>,
}

impl<'a> Pass<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            open: vec![Component::default()],
            in_module: false,
            components: 1,
            modules: 0,
            functions: 0,
            bodies: 0,
            declarations: 0,
            imports: Vec::new(),
            exports: Vec::new(),
        }
    }

    fn payload(&mut self, payload: Payload<'_>) -> Result<(), LoadError> {
        match payload {
            // === Nesting ===
            Payload::ModuleSection { .. } => {
                self.modules += 1;
                within("core modules", self.modules, limit::MODULES, whole)?;
                self.depth(1)?;
                (self.in_module, self.bodies) = (true, 0);
            }
            Payload::ComponentSection { .. } => {
                self.components += 1;
                within("nested components", self.components, limit::COMPONENTS, whole)?;
                self.open.push(Component::default());
                self.depth(0)?;
            }
            Payload::End(_) => self.end(),

            // === Components ===
            Payload::ComponentTypeSection(types) => self.items(types.count().into())?,
            Payload::CoreTypeSection(types) => self.items(types.count().into())?,
            Payload::ComponentCanonicalSection(functions) => self.items(functions.count().into())?,
            Payload::ComponentStartSection { .. } => self.items(1)?,
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    let names = match instance? {
                        Instance::Instantiate { args, .. } => args.len(),
                        Instance::FromExports(exports) => exports.len(),
                    };
                    self.spend(Cost::instance(names))?;
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    let cost = self.component()?.cost_of(&instance?)?;
                    self.spend(cost)?;
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    self.items(1)?;
                    self.alias(&alias?)?;
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    let import = import?;
                    self.items(1)?;
                    if matches!(import.ty, ComponentTypeRef::Component(_)) {
                        return Err(unknown_component("imported"));
                    }
                    if self.open.len() == 1 {
                        self.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    self.items(1)?;
                    if export.kind == ComponentExternalKind::Component {
                        // An export has an index of its own.
                        let cost = self.component()?.cost_at(export.index)?;
                        self.component()?.define(cost);
                    }
                    if self.open.len() == 1 {
                        self.exports.push(export.name.name.to_owned());
                    }
                }
            }

            // === Core modules ===
            Payload::TypeSection(types) => self.declare(types.count())?,
            Payload::ImportSection(imports) => self.declare(imports.count())?,
            Payload::GlobalSection(globals) => self.declare(globals.count())?,
            Payload::ExportSection(exports) => self.declare(exports.count())?,
            Payload::ElementSection(elements) => self.declare(elements.count())?,
            Payload::DataSection(data) => self.declare(data.count())?,
            Payload::TagSection(tags) => self.declare(tags.count())?,
            Payload::TableSection(tables) => {
                self.declare(tables.count())?;
                for table in tables {
                    let (found, limit) = (table?.ty.initial, self.limits.table_elements as u64);
                    within("elements in a table", found, limit, || self.module())?;
                }
            }
            Payload::MemorySection(memories) => {
                self.declare(memories.count())?;
                for memory in memories {
                    let memory = memory?;
                    let page = 1_u64 << memory.page_size_log2.unwrap_or(16).min(16);
                    let found = memory.initial.saturating_mul(page);
                    within("bytes of memory at the start", found, self.limits.memory_bytes as u64, || {
                        self.module()
                    })?;
                }
            }
            Payload::FunctionSection(functions) => {
                self.functions = self.functions.saturating_add(functions.count().into());
                within("functions", self.functions, limit::FUNCTIONS, whole)?;
            }
            Payload::CodeSectionEntry(body) => {
                self.bodies += 1;
                let at = || format!("function {} of {}", self.bodies, self.module());
                functions::check(&body, at)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The innermost component.
    fn component(&mut self) -> Result<&mut Component, LoadError> {
        self.open.last_mut().ok_or_else(|| LoadError::Compile("sections follow its end".to_owned()))
    }

    fn depth(&self, modules: usize) -> Result<(), LoadError> {
        let depth = (self.open.len() + modules) as u64;
        within("components in each other", depth, limit::DEPTH, whole)
    }

    fn end(&mut self) {
        if self.in_module {
            self.in_module = false;
        } else if let Some(ended) = self.open.pop()
            && let Some(outer) = self.open.last_mut()
        {
            outer.define(ended.cost());
        }
    }

    fn items(&mut self, count: u64) -> Result<(), LoadError> {
        self.spend(Cost { instances: 0, items: count })
    }

    fn spend(&mut self, cost: Cost) -> Result<(), LoadError> {
        let total = self.component()?.spend(cost);
        within("instances, nested ones counted each time", total.instances, limit::INSTANCES, whole)?;
        within("imports, types and exports of its instances", total.items, limit::ITEMS, whole)
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Result<(), LoadError> {
        match alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                Err(unknown_component("taken from an instance"))
            }
            &ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                let outer = self.open.iter().rev().nth(count as usize);
                let cost = outer.ok_or_else(instances::no_such_component)?.cost_at(index)?;
                self.component()?.define(cost);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn declare(&mut self, count: u32) -> Result<(), LoadError> {
        self.declarations = self.declarations.saturating_add(count.into());
        within("declarations in its modules", self.declarations, limit::DECLARATIONS, whole)
    }

    fn module(&self) -> String {
        format!("module {}", self.modules)
    }
}

/// What such a component costs is not known before its instances are made.
fn unknown_component(how: &str) -> LoadError {
    LoadError::Compile(format!(
        "a component is {how}; guests may instantiate only components that they contain"
    ))
}

#[cfg(test)]
mod tests;
