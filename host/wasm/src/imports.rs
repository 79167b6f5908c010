//! What a guest may import: the parts of WASI that grant nothing. Rust's standard library reaches
//! for most of them even where a guest never uses it.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    WasiView,
    cli::{WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksView as _},
    p2::bindings::{cli, clocks, random},
    random::{WasiRandom, WasiRandomView as _},
};

use crate::{LoadError, state::State};

/// Interfaces that the linker below provides, without versions. Types that worlds share carry no
/// behavior and need no grant.
const GRANTED: &[&str] = &[
    "isomer:types/types",
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
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Refuses a component that imports anything else.
pub(crate) fn check(imports: &[String]) -> Result<(), LoadError> {
    let refused: Vec<String> = imports.iter().filter(|name| !is_granted(name)).cloned().collect();
    if refused.is_empty() {
        return Ok(());
    }
    let hint = hint(&refused);
    Err(LoadError::Imports { names: refused, hint })
}

fn is_granted(import: &str) -> bool {
    let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
    GRANTED.contains(&interface)
}

fn hint(refused: &[String]) -> &'static str {
    let wants = |package: &str| refused.iter().any(|name| name.starts_with(package));
    if wants("wasi:sockets") || wants("wasi:http") {
        "A guest has no network: return what you want done and let the host do it"
    } else if wants("wasi:filesystem") {
        "A guest has no files: it gets what it may read as arguments (a dependency that opens files, or a `main` function, drags this in)"
    } else {
        "Remove the dependency that needs it"
    }
}

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Provides what [`GRANTED`] lists.
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
    Ok(())
}
