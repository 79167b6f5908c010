//! What a guest may import: the parts of WASI that grant nothing. Rust's standard library reaches
//! for most of them even where a guest never uses it; runtimes of other languages import nearly all of WASI.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    WasiView,
    cli::{WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksView as _},
    filesystem::{WasiFilesystem, WasiFilesystemView as _},
    p2::bindings::{cli, clocks, filesystem, random},
    random::{WasiRandom, WasiRandomView as _},
};

use crate::{LoadError, state::State};

/// Types that worlds share carry no behavior and need no grant.
const SHARED_TYPES: &str = "isomer:types/types";

/// Interfaces that the linker below provides, without versions.
const PROVIDED: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// The version in which wasmtime-wasi provides them. Any release of 0.2 is served by it.
const WASI: &str = "0.2.12";

/// Refuses a component that imports what is neither WASI nor ours. Of WASI, what is not provided traps where it is
/// called: see `unavailable`.
pub(crate) fn check(imports: &[String]) -> Result<(), LoadError> {
    let allowed = |import: &str| import.starts_with("wasi:") || interface(import).0 == SHARED_TYPES;
    let names: Vec<String> = imports.iter().filter(|import| !allowed(import)).cloned().collect();
    if names.is_empty() { Ok(()) } else { Err(LoadError::Imports { names }) }
}

/// The name under which the linker has an interface: one that it provides is there in one version and serves others.
pub(crate) fn name_in_linker(import: &str) -> String {
    match interface(import) {
        (name, Some(version)) if PROVIDED.contains(&name) && is_served(version) => format!("{name}@{WASI}"),
        _ => import.to_owned(),
    }
}

/// Drafts of 0.2 (`0.2.0-rc-2023-12-05`) differ from it.
fn is_served(version: &str) -> bool {
    version.strip_prefix("0.2.").is_some_and(|patch| patch.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An import's interface and version.
pub(crate) fn interface(import: &str) -> (&str, Option<&str>) {
    import.split_once('@').map_or((import, None), |(interface, version)| (interface, Some(version)))
}

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Provides what [`PROVIDED`] lists. The file system has no directory that is open, and only from one of these could a
/// guest open anything.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use wasmtime_wasi::p2::bindings::io;
    let l = linker;
    io::error::add_to_linker::<State, Io>(l, |state| state.ctx().table)?;
    io::poll::add_to_linker::<State, Io>(l, |state| state.ctx().table)?;
    io::streams::add_to_linker::<State, Io>(l, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(l, State::random)?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, State::random)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, State::random)?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    Ok(())
}
