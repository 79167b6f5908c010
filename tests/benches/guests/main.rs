//! `make bench`: the cost of a guest call, compared with raw wasmtime of the same profile and with native code; the
//! cost of loading and starting; resident memory.
//!
//! Variants of one comparison run in turn, in many short rounds, and medians are compared: on a shared machine,
//! ratios are more reliable than times.

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod program;
mod raw;

use std::{
    future::Future,
    hint::black_box,
    time::{Duration, Instant},
};

use isomer_sdk::Adapter as _;
use support::Components;
use tokio::runtime::{Builder, Runtime};
use wasm::{AotCache, Component, Limits, Sandbox, Settings, adapter::Message};

const ROUNDS: usize = 15;
const CALLS: usize = 2_000;

fn main() {
    let Components { mock, include, .. } = Components::get();

    let sandbox = Sandbox::new(Limits::default(), None).expect("an engine");
    let component = sandbox.load(mock).expect("an adapter");
    calls(&component, &raw::Raw::new(mock));
    slots(&sandbox, &component);
    loading(include);
    program::start_and_idle();
}

// === Calls ===

fn calls(component: &Component, raw: &raw::Raw) {
    println!("guest call (mock, synthetic-reply), median of {ROUNDS} rounds of {CALLS} calls per thread");
    let settings = Settings::default();
    let message = Message { workspace_id: "w".into(), request_id: "1".into(), text: "hello".into() };
    for threads in [1, 2] {
        let runtime =
            Builder::new_multi_thread().worker_threads(threads).enable_time().build().expect("a runtime");
        let [mut isomer, mut warm, mut fresh, mut reused, mut native] = [const { Vec::new() }; 5];
        let kept = component.pooled();
        for _ in 0..ROUNDS {
            native.push(on_threads(&runtime, threads, || async {
                black_box(native_call());
            }));
            reused.push(raw.reused(&runtime, threads, CALLS));
            fresh.push(on_threads(&runtime, threads, || async {
                raw.fresh().await;
            }));
            isomer.push(on_threads(&runtime, threads, || reply(component, &settings, &message)));
            warm.push(on_threads(&runtime, threads, || reply(&kept, &settings, &message)));
        }
        let base = median(&mut fresh);
        for (name, times) in [
            ("isomer, fresh instance", &mut isomer),
            ("isomer, reused instance", &mut warm),
            ("raw wasmtime, fresh instance", &mut vec![base]),
            ("raw wasmtime, reused instance", &mut reused),
            ("native", &mut native),
        ] {
            let time = median(times);
            println!(
                "  {threads} thread(s)  {name:<34} {time:>12.2?}  {:>6.2} × raw fresh",
                ratio(time, base)
            );
        }
    }
}

async fn reply(component: &Component, settings: &Settings, message: &Message) {
    let adapter = component.adapter().expect("it is one");
    let reply = adapter.synthetic_reply(settings, message).await.result;
    black_box(reply.expect("an answer").expect("a reply"));
}

fn native_call() -> usize {
    let settings = isomer_sdk::parse_settings("{}").expect("settings");
    let message =
        isomer_sdk::Message { workspace_id: "w".into(), request_id: "1".into(), text: "hello".into() };
    mock::Mock::synthetic_reply(&settings, &message).map_or(0, |parts| parts.len())
}

/// Time per call, with every thread calling at once.
fn on_threads<F: Future<Output = ()>>(
    runtime: &Runtime,
    threads: usize,
    call: impl Fn() -> F + Sync,
) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                runtime.block_on(async {
                    for _ in 0..CALLS {
                        call().await;
                    }
                });
            });
        }
    });
    started.elapsed() / u32::try_from(CALLS).expect("few")
}

pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

pub fn ratio(time: Duration, base: Duration) -> f64 {
    time.as_secs_f64() / base.as_secs_f64()
}

// === Memory ===

fn slots(sandbox: &Sandbox, component: &Component) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let settings = Settings::default();
    runtime.block_on(async {
        let adapter = component.adapter().expect("it is one");
        let calls = (0..256).map(|_| adapter.describe(&settings));
        futures::future::join_all(calls).await;
    });
    let idle = sandbox.pool_use().idle_bytes;
    println!("pool after 256 calls at once: {} KiB stay mapped for the next calls", idle >> 10);
}

// === Loading ===

fn loading(include: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = AotCache::open(directory.path()).expect("a cache");
    let [mut compiled, mut loaded] = [const { Vec::new() }; 2];
    for round in 0..5 {
        let sandbox = Sandbox::new(Limits::default(), Some(cache.clone())).expect("an engine");
        let digest = wasm::Digest::of(include);
        sandbox.evict(&digest);
        let started = Instant::now();
        black_box(sandbox.load(include).expect("a resolver"));
        compiled.push(started.elapsed());
        let sandbox = Sandbox::new(Limits::default(), Some(cache.clone())).expect("an engine");
        let started = Instant::now();
        black_box(sandbox.load_compiled(&digest).unwrap_or_else(|| panic!("round {round}: it is cached")));
        loaded.push(started.elapsed());
    }
    let (compiled, loaded) = (median(&mut compiled), median(&mut loaded));
    println!(
        "loading include ({} KiB): compile {compiled:.2?}, from the AOT cache {loaded:.2?} ({:.0} × quicker)",
        include.len() >> 10,
        ratio(compiled, loaded)
    );
}
