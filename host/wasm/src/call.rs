//! One call: a slot, a store, a deadline, and a report of what it took.

use std::{
    fmt::{self, Write as _},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use types::clip;
use wasmtime::{Store, UpdateDeadline, WasmBacktrace};

use crate::{
    Failure, InvalidOutput, Limits, LogLine, Outcome, Report, Sandbox, Stream,
    failure::one_line,
    instance_pool::{InstancePool, PooledInstance},
    limits::{FRAME_BYTES, FRAMES, HANDLES, MESSAGE_BYTES, SMALL_ANSWER, WAIT_GRACE},
    state::State,
};

/// What the calls of a component share.
#[derive(Clone)]
pub(crate) struct CallContext {
    pub(crate) sandbox: Sandbox,
    /// The component's own; calls hold one of the sandbox too.
    pub(crate) slots: Arc<Semaphore>,
    /// The component's own room for answers, KiB; calls hold some of the sandbox's too.
    pub(crate) answers: Arc<Semaphore>,
    /// Slots that one call takes.
    pub(crate) weight: u32,
    /// None for a component with a fresh instance for each call.
    pub(crate) pool: Option<Arc<InstancePool>>,
}

/// The deadline's own error, to be told apart from other traps.
#[derive(Debug, thiserror::Error)]
#[error("deadline")]
struct DeadlineMissed;

/// Makes a call in an instance of its own, or in one from the pool if the component has one,
/// and checks the answer, which may make the host allocate `room` bytes.
///
/// The engine counts what it allocates for an answer, by the size that each value has in the host, and ends the call at
/// the limit. Before the call nothing is known of its answer, so that all of its room is reserved.
pub(crate) async fn run<I: Send + Sync + 'static, T, U>(
    context: &CallContext,
    room: usize,
    instantiate: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<I> + Send,
    call: impl AsyncFnOnce(&mut Store<State>, &I) -> wasmtime::Result<T> + Send,
    check: impl FnOnce(T) -> Result<U, InvalidOutput>,
) -> Outcome<U> {
    let sandbox = &context.sandbox;
    let limits = sandbox.limits();
    let room = room.min(limits.answer_bytes).max(SMALL_ANSWER);
    let waits_for_room = AtomicBool::new(false);
    let permits = async {
        // The component's own first: a call that waits for those must not hold shared ones. And the shared slot last:
        // calls that wait for room must not keep out those that need none.
        let own = context.slots.acquire_many(context.weight).await;
        waits_for_room.store(true, Ordering::Relaxed);
        let reserved = reserve(context, room).await;
        waits_for_room.store(false, Ordering::Relaxed);
        let shared = sandbox.slots().acquire_many(context.weight).await;
        (own, reserved, shared)
    };
    let Some(_permits) = within(limits.queue_time, permits).await else {
        let wanted = if waits_for_room.into_inner() { "room for its answer" } else { "slot" };
        return Outcome::never_ran(Failure::Busy { wanted, waited: limits.queue_time });
    };

    let started = Instant::now();
    let idle = context.pool.as_ref().and_then(|pool| pool.take());
    let mut pooled = idle.unwrap_or_else(|| PooledInstance::new(new_store(context), context.weight));
    pooled.store.data_mut().usage.begin_call();
    pooled.store.set_hostcall_fuel(room);
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
        Some(Err(error)) => Err(classify(&error, state, &log, limits, room)),
        None => Err(Failure::Timeout { limit: limits.call_time, backtrace: Vec::new() }),
    };
    let peak_memory = state.usage.memory();
    match &context.pool {
        Some(pool) if result.is_ok() => pool.release(pooled),
        _ => drop(pooled),
    }
    Outcome { result, report: Report { elapsed: started.elapsed(), peak_memory, log, log_dropped } }
}

/// Room for an answer, of the component and of all. Every call has that for a small one.
async fn reserve(
    context: &CallContext,
    room: usize,
) -> Result<Option<(SemaphorePermit<'_>, SemaphorePermit<'_>)>, AcquireError> {
    if room <= SMALL_ANSWER {
        return Ok(None);
    }
    let permits = u32::try_from(room.div_ceil(1 << 10)).unwrap_or(u32::MAX);
    let own = context.answers.acquire_many(permits).await?;
    Ok(Some((own, context.sandbox.answers().acquire_many(permits).await?)))
}

fn new_store(context: &CallContext) -> Store<State> {
    let sandbox = &context.sandbox;
    let mut store = Store::new(sandbox.engine(), State::new(sandbox.limits()));
    store.limiter(|state| &mut state.usage);
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
fn classify(
    error: &wasmtime::Error,
    state: &State,
    log: &[LogLine],
    limits: &Limits,
    room: usize,
) -> Failure {
    let frames = error
        .downcast_ref::<WasmBacktrace>()
        .map(|trace| trace.frames().iter().take(FRAMES).map(frame).collect());
    if error.is::<DeadlineMissed>() {
        return Failure::Timeout { limit: limits.call_time, backtrace: frames.unwrap_or_default() };
    }
    if let Some(limit) = state.usage.exceeded() {
        return Failure::Memory { limit };
    }
    let cause = error.root_cause().to_string();
    match frames {
        Some(backtrace) => Failure::Trap { message: with_last_words(cause, log), backtrace },
        // No guest frame was running: the guest had returned, and its answer could not be read.
        None => Failure::InvalidOutput(InvalidOutput::new(
            "answer",
            format!("{cause} (an answer must be well formed and at most {} KiB)", room >> 10),
        )),
    }
}

/// `module!function`, demangled. The name section gives the names.
fn frame(frame: &wasmtime::FrameInfo) -> String {
    let module = beginning(frame.module().name().unwrap_or("guest"), FRAME_BYTES);
    let mut text = Beginning(String::new());
    // It fails where the text is cut.
    let _ = match frame.func_name() {
        // Longer names than these are not a compiler's. A short one can stand for a very long one.
        Some(name) => {
            let name = beginning(name, 16 * FRAME_BYTES);
            write!(text, "{module}!{:#}", rustc_demangle::demangle(name))
        }
        None => write!(text, "{module}!function {}", frame.func_index()),
    };
    one_line(&clip(text.0, FRAME_BYTES))
}

fn beginning(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

/// What is written to it, as far as a frame keeps it.
struct Beginning(String);

impl fmt::Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > FRAME_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(beginning(text, FRAME_BYTES + 1));
        Ok(())
    }
}

/// A guest says on standard error why it stops itself, and then executes `unreachable`; the first is what its author
/// wants to read.
fn with_last_words(cause: String, log: &[LogLine]) -> String {
    let lines: Vec<&str> =
        log.iter().filter(|line| line.stream == Stream::Err).map(|line| line.text.as_str()).collect();
    let words = exception(&lines).map_or_else(|| panic_message(&lines), str::to_owned);
    let text = if words.is_empty() { cause } else { format!("{cause}: {words}") };
    one_line(&clip(text, MESSAGE_BYTES))
}

/// The exception that the guest did not catch: in Python the line that follows the frames of the last traceback, in
/// JavaScript (StarlingMonkey) the one before its stack.
fn exception<'a>(lines: &[&'a str]) -> Option<&'a str> {
    if let Some(traceback) = lines.iter().rposition(|line| *line == "Traceback (most recent call last):") {
        return lines.get(traceback + 1..)?.iter().find(|line| !line.starts_with(' ')).copied();
    }
    let stack = lines.iter().rposition(|line| *line == "Stack:")?;
    lines.get(stack.checked_sub(1)?).copied()
}

/// Rust's: the place, and what follows it.
fn panic_message(lines: &[&str]) -> String {
    let words = lines.iter().filter(|line| !line.starts_with("note: "));
    let words: Vec<&str> = words.skip_while(|line| !line.contains("panicked at")).take(4).copied().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(lines: &[&str]) -> String {
        let log: Vec<LogLine> =
            lines.iter().map(|text| LogLine { stream: Stream::Err, text: (*text).to_owned() }).collect();
        with_last_words("unreachable".to_owned(), &log)
    }

    #[test]
    fn the_message_of_a_trap_says_what_the_guest_wrote_about_it() {
        assert_eq!(message(&["a warning"]), "unreachable");
        let panic = ["thread '<unnamed>' panicked at src/lib.rs:1:2:", "no such model", "note: run with"];
        assert_eq!(
            message(&panic),
            "unreachable: thread '<unnamed>' panicked at src/lib.rs:1:2: no such model"
        );
        let first = ["Traceback (most recent call last):", "  File \"a.py\", line 1", "KeyError: 'a'"];
        let second =
            ["Traceback (most recent call last):", "  File \"a.py\", line 2", "ValueError: no such model"];
        let python = [&first[..], &second, &panic].concat();
        assert_eq!(message(&python), "unreachable: ValueError: no such model");
        assert_eq!(
            message(&["no such model", "Stack:", "  plan@a.js:1:2", "abort()"]),
            "unreachable: no such model"
        );
        for unfinished in [&["Stack:"][..], &["Traceback (most recent call last):", "  File"]] {
            assert_eq!(message(unfinished), "unreachable");
        }
    }
}
