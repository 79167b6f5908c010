//! One call: a slot, a store, a deadline, and an usage of what it took.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use wasmtime::{Store, UpdateDeadline, WasmBacktrace};

use crate::{
    Component, Failure, InvalidOutput, Limits,
    instance_pool::PooledInstance,
    limits::{HANDLES, WAIT_GRACE},
    state::State,
};

/// What a call came to, and what it took.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The answer, checked; or why there is none.
    pub result: Result<T, Failure>,
    /// What it took, either way.
    pub report: Report,
}

/// What a call took.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// From the free slot to the checked answer.
    pub elapsed: Duration,
    /// Linear memory at its largest, bytes.
    pub peak_memory: usize,
    /// What the guest wrote, in order.
    pub log: Vec<LogLine>,
    /// Bytes of log that went beyond the limit and were dropped.
    pub log_dropped: usize,
}

/// Where a guest wrote a line to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A line that a guest wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Where to.
    pub stream: Stream,
    /// The line, without its end.
    pub text: String,
}

impl<T> Outcome<T> {
    /// Goes on with the answer, if there is one.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        Outcome { result: self.result.map(f), report: self.report }
    }

    fn never_ran(failure: Failure) -> Self {
        Self { result: Err(failure), report: Report::default() }
    }
}

/// The deadline's own error, to be told apart from other traps.
#[derive(Debug, thiserror::Error)]
#[error("deadline")]
struct DeadlineMissed;

/// Makes a call in an instance of its own, or in one from the pool if the component has one,
/// and checks the answer.
pub(crate) async fn run<I: Send + Sync + 'static, T, U>(
    component: &Component,
    instantiate: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<I> + Send,
    call: impl AsyncFnOnce(&mut Store<State>, &I) -> wasmtime::Result<T> + Send,
    check: impl FnOnce(T) -> Result<U, InvalidOutput>,
) -> Outcome<U> {
    let sandbox = &component.inner.sandbox;
    let limits = sandbox.limits();
    let slots = async {
        // The component's own slots first: a call that waits for those must not hold a shared one.
        let own = component.inner.slots.acquire().await;
        let shared = sandbox.slots().acquire().await;
        (own, shared)
    };
    let Some(_slots) = within(limits.queue_time, slots).await else {
        return Outcome::never_ran(Failure::Busy { waited: limits.queue_time });
    };

    let started = Instant::now();
    let idle = component.pool.as_ref().and_then(|pool| pool.take());
    let mut pooled = idle.unwrap_or_else(|| PooledInstance::new(new_store(component)));
    pooled.store.data_mut().usage.begin_call();
    set_deadline(&mut pooled.store, started + limits.call_time);
    let answer = within(limits.call_time + WAIT_GRACE, async {
        let instance = match pooled.instance.take().and_then(|instance| instance.downcast::<I>().ok()) {
            Some(instance) => instance,
            None => Box::new(instantiate(&mut pooled.store).await?),
        };
        let answer = call(&mut pooled.store, &instance).await;
        pooled.instance = Some(instance);
        answer
    })
    .await;

    let state = pooled.store.data();
    let (log, log_dropped): (Vec<LogLine>, usize) = state.log.take();
    let result = match answer {
        Some(Ok(answer)) => check(answer).map_err(Failure::from),
        Some(Err(error)) => Err(classify(&error, state, &log, limits)),
        None => Err(Failure::Timeout { limit: limits.call_time, backtrace: Vec::new() }),
    };
    let peak_memory = state.usage.memory();
    match &component.pool {
        Some(pool) if result.is_ok() => pool.release(pooled),
        _ => drop(pooled),
    }
    Outcome { result, report: Report { elapsed: started.elapsed(), peak_memory, log, log_dropped } }
}

fn new_store(component: &Component) -> Store<State> {
    let sandbox = &component.inner.sandbox;
    let mut store = Store::new(sandbox.engine(), State::new(sandbox.limits()));
    store.limiter(|state| &mut state.usage);
    store.set_hostcall_fuel(sandbox.limits().answer_bytes);
    store.set_max_component_handles(HANDLES);
    store
}

/// From now on the guest yields at every tick, and ends at the first one after `deadline`.
fn set_deadline(store: &mut Store<State>, deadline: Instant) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        if Instant::now() < deadline { Ok(UpdateDeadline::Yield(1)) } else { Err(DeadlineMissed.into()) }
    });
}

/// A future's output, or `None` after `time`. The timer is only set when the future has to wait.
async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, future).await.ok()
}

/// Sorts an engine error. The usage is asked before the trap, because a guest that is refused
/// memory usually ends in a trap of its own making.
fn classify(error: &wasmtime::Error, state: &State, log: &[LogLine], limits: &Limits) -> Failure {
    let frames =
        error.downcast_ref::<WasmBacktrace>().map(|trace| trace.frames().iter().map(frame).collect());
    if error.is::<DeadlineMissed>() {
        return Failure::Timeout { limit: limits.call_time, backtrace: frames.unwrap_or_default() };
    }
    if let Some(limit) = state.usage.exceeded() {
        return Failure::Memory { limit };
    }
    let cause = error.root_cause().to_string();
    match frames {
        Some(backtrace) => Failure::Trap { message: with_panic_message(cause, log), backtrace },
        // No guest frame was running: the guest had returned, and its answer could not be read.
        None => Failure::InvalidOutput(InvalidOutput::new(
            "answer",
            format!("{cause} (an answer must be well formed and at most {} MiB)", limits.answer_bytes >> 20),
        )),
    }
}

/// `module!function`, demangled. The name section gives the names.
fn frame(frame: &wasmtime::FrameInfo) -> String {
    let module = frame.module().name().unwrap_or("guest");
    match frame.func_name() {
        Some(name) => format!("{module}!{:#}", rustc_demangle::demangle(name)),
        None => format!("{module}!function {}", frame.func_index()),
    }
}

/// A Rust guest says why it panics on standard error and then executes `unreachable`; the first is
/// what its author wants to read.
fn with_panic_message(cause: String, log: &[LogLine]) -> String {
    let words: Vec<&str> = log
        .iter()
        .filter(|line| line.stream == Stream::Err && !line.text.starts_with("note: "))
        .map(|line| line.text.as_str())
        .skip_while(|line| !line.contains("panicked at"))
        .filter(|line| !line.is_empty())
        .take(4)
        .collect();
    if words.is_empty() { cause } else { format!("{cause}: {}", words.join(" ")) }
}
