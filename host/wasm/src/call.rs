//! One call: a slot, a store, a deadline, and a report of what it took.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use wasmtime::{Store, UpdateDeadline, WasmBacktrace};

use crate::{
    Failure, InvalidOutput, Limits, LogLine, Outcome, Report, Sandbox, Stream,
    instance_pool::{InstancePool, PooledInstance},
    limits::{HANDLES, WAIT_GRACE},
    state::State,
};

/// What the calls of a component share.
#[derive(Clone)]
pub(crate) struct CallContext {
    pub(crate) sandbox: Sandbox,
    /// The component's own; calls hold one of the sandbox too.
    pub(crate) slots: Arc<Semaphore>,
    /// None for a component with a fresh instance for each call.
    pub(crate) pool: Option<Arc<InstancePool>>,
}

/// The deadline's own error, to be told apart from other traps.
#[derive(Debug, thiserror::Error)]
#[error("deadline")]
struct DeadlineMissed;

/// Makes a call in an instance of its own, or in one from the pool if the component has one,
/// and checks the answer.
pub(crate) async fn run<I: Send + Sync + 'static, T, U>(
    context: &CallContext,
    instantiate: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<I> + Send,
    call: impl AsyncFnOnce(&mut Store<State>, &I) -> wasmtime::Result<T> + Send,
    check: impl FnOnce(T) -> Result<U, InvalidOutput>,
) -> Outcome<U> {
    let sandbox = &context.sandbox;
    let limits = sandbox.limits();
    let slots = async {
        // The component's own slots first: a call that waits for those must not hold a shared one.
        let own = context.slots.acquire().await;
        let shared = sandbox.slots().acquire().await;
        (own, shared)
    };
    let Some(_slots) = within(limits.queue_time, slots).await else {
        return Outcome::never_ran(Failure::Busy { waited: limits.queue_time });
    };

    let started = Instant::now();
    let idle = context.pool.as_ref().and_then(|pool| pool.take());
    let mut pooled = idle.unwrap_or_else(|| PooledInstance::new(new_store(context)));
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
    match &context.pool {
        Some(pool) if result.is_ok() => pool.release(pooled),
        _ => drop(pooled),
    }
    Outcome { result, report: Report { elapsed: started.elapsed(), peak_memory, log, log_dropped } }
}

fn new_store(context: &CallContext) -> Store<State> {
    let sandbox = &context.sandbox;
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
