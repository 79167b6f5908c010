//! The same guest on wasmtime alone, with the engine settings of the sandbox: the lower bound of a call.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

#[allow(clippy::all, clippy::pedantic, unused_qualifications)]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit/types/0.1.0", "../wit/adapter/0.1.0"],
        world: "isomer:adapter/runtime-adapter@0.1.0",
        exports: { default: async },
    });
}

use bindings::{RuntimeAdapter, RuntimeAdapterPre, exports::isomer::adapter::adapter::Message};

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The guest, ready to be instantiated.
pub struct Raw {
    engine: Engine,
    pre: RuntimeAdapterPre<State>,
}

impl Raw {
    pub fn new(bytes: &[u8]) -> Self {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(64)
            .total_core_instances(64 * 16)
            .total_memories(64 * 2)
            .max_memory_size(64 << 20)
            .total_tables(64 * 8)
            .total_stacks(64)
            .linear_memory_keep_resident(64 << 10)
            .table_keep_resident(64 << 10)
            .async_stack_keep_resident(64 << 10);
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .memory_reservation(4 << 30)
            .epoch_interruption(true)
            .max_wasm_stack(512 << 10)
            .async_stack_size(1 << 20)
            .concurrency_support(false)
            .cranelift_nan_canonicalization(true)
            .wasm_gc(false)
            .gc_support(false);
        let engine = Engine::new(&config).expect("an engine");
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI links");
        let component = Component::from_binary(&engine, bytes).expect("it compiles");
        let pre = linker.instantiate_pre(&component).expect("it links");
        Self { pre: RuntimeAdapterPre::new(pre).expect("an adapter"), engine }
    }

    fn store(&self) -> Store<State> {
        let state = State { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        store
    }

    async fn call(instance: &RuntimeAdapter, store: &mut Store<State>) {
        let message = Message { workspace_id: "w".into(), request_id: "1".into(), text: "hello".into() };
        let settings = "{}".to_owned();
        let reply = instance.isomer_adapter_adapter().call_synthetic_reply(store, &settings, &message).await;
        black_box(reply.expect("an answer").expect("a reply"));
    }

    /// One call in an instance of its own.
    pub async fn fresh(&self) {
        let mut store = self.store();
        let instance = self.pre.instantiate_async(&mut store).await.expect("a slot");
        Self::call(&instance, &mut store).await;
    }

    /// Time per call when each thread keeps its instance.
    pub fn reused(&self, runtime: &Runtime, threads: usize, calls: usize) -> Duration {
        let times = std::thread::scope(|scope| {
            let spawn = |_| {
                scope.spawn(|| {
                    runtime.block_on(async {
                        let mut store = self.store();
                        let instance = self.pre.instantiate_async(&mut store).await.expect("a slot");
                        let started = Instant::now();
                        for _ in 0..calls {
                            Self::call(&instance, &mut store).await;
                        }
                        started.elapsed()
                    })
                })
            };
            let threads: Vec<_> = (0..threads).map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().expect("it measures")).max()
        });
        times.expect("a thread") / u32::try_from(calls).expect("few")
    }
}
