//! The engine's profile and the thread that ends calls at their deadline.
//!
//! Calls are short and many, so everything that can be prepared is: instances come from a pool of
//! slots whose memory is mapped copy-on-write from the component's image. Calls are asynchronous and
//! look up at every tick, so that a guest that computes for long shares its thread with the rest of
//! the server until its time is over.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    thread,
};

use wasmtime::{
    Config, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::{
    Limits, SandboxError,
    limits::{
        CORE_INSTANCES, KEEP_RESIDENT, MEMORIES, MEMORIES_PER_SLOT, POOLED_TOTAL, RESERVATION, TABLES,
        TABLES_PER_SLOT, TICK,
    },
};

/// Makes the engine. Where the address space is rationed (`ulimit -v`, some containers) the 4 GiB
/// reservation per memory fails; then memories are reserved at their limit and bounds are checked
/// by compiled code, which is slower by some per cent and safe all the same.
///
/// Returns also the address space reserved for each memory, on which compiled code depends.
pub(crate) fn new(limits: &Limits) -> Result<(Engine, u64), SandboxError> {
    let with = |reservation| {
        let mut config = config(limits, reservation);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
        Engine::new(&config).map(|engine| (engine, reservation))
    };
    let engine = with(RESERVATION).or_else(|error| {
        tracing::warn!(
            error = %format!("{error:#}"),
            "no room for 4 GiB of address space per guest memory; guests will run with bounds checks"
        );
        with(limits.memory_bytes as u64)
    });
    let (engine, reservation) = engine.map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
    start_ticker(engine.weak()).map_err(SandboxError::Ticker)?;
    Ok((engine, reservation))
}

/// An engine that compiles the same code and reserves nothing for running it.
pub(crate) fn for_compiling(limits: &Limits, reservation: u64) -> wasmtime::Result<Engine> {
    Engine::new(&config(limits, reservation))
}

/// What compiled code of this engine is compatible with.
pub(crate) fn compatibility(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Bytes of initial memory that are stored as an image though they are mostly zeros.
const SPARSE_IMAGE_BYTES: u64 = 64 << 10;

fn config(limits: &Limits, reservation: u64) -> Config {
    let mut config = Config::new();
    config
        .memory_reservation(reservation)
        .memory_init_cow(true)
        // Data that is spread over more is written piece by piece: otherwise a few bytes of a component become
        // megabytes of its artifact. Dense data is an image whatever its size.
        .memory_guaranteed_dense_image_size(SPARSE_IMAGE_BYTES)
        .epoch_interruption(true)
        .max_wasm_stack(limits.stack_bytes)
        // Room for the host's own frames below a guest's deepest.
        .async_stack_size(limits.stack_bytes * 2)
        .concurrency_support(false)
        // What a guest computes must not depend on the machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        // Memory that the limiter would not see, and proposals that no guest toolchain needs.
        .wasm_gc(false)
        .gc_support(false)
        .wasm_memory64(false)
        // Name sections give function names; line tables stay out of releases.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// Address space is reserved for as many memories, tables and stacks as there are in all, and what was used of them
/// stays mapped up to `keep_resident`. Numbers of instances are counted and reserve nothing, and what one component may
/// have of anything is checked when it is loaded.
fn pool(limits: &Limits) -> PoolingAllocationConfig {
    // Instances that wait for a call take up slots too.
    let slots = limits.slots + POOLED_TOTAL;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_INSTANCES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(slots * MEMORIES_PER_SLOT)
        .max_memories_per_component(MEMORIES)
        .max_memory_size(limits.memory_bytes)
        .total_tables(slots * TABLES_PER_SLOT)
        .max_tables_per_component(TABLES)
        .table_elements(limits.table_elements)
        .total_stacks(slots)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .async_stack_keep_resident(KEEP_RESIDENT);
    pool
}

/// Advances the epoch until the engine is gone. A thread of the operating system's own, because a
/// guest that computes may keep every runtime thread busy.
fn start_ticker(engine: EngineWeak) -> std::io::Result<()> {
    thread::Builder::new().name("guest-deadlines".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_compile_the_same_code() {
        let limits = Limits { slots: 1, ..Limits::default() };
        let (engine, reservation) = new(&limits).unwrap();
        let compiler = for_compiling(&limits, reservation).unwrap();
        assert_eq!(compatibility(&compiler), compatibility(&engine));
        let text = "(component (core module (memory 1) (func (export \"f\") (result i32)
            (i32.load (i32.const 8)))))";
        let in_process = wasmtime::component::Component::new(&engine, text).unwrap().serialize().unwrap();
        assert_eq!(compiler.precompile_component(text.as_bytes()).unwrap(), in_process);
    }
}
