//! What a guest may use. Every limit is on by default; each is enforced in this crate.

use std::time::Duration;

/// Limits of one sandbox. [`Default`] is what the server runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all linear memories of one call together.
    pub memory_bytes: usize,
    /// Elements of all tables of one call together.
    pub table_elements: usize,
    /// Wall clock of one call, from its instantiation on.
    pub call_time: Duration,
    /// How long a call may wait for a free slot before it fails as busy.
    pub queue_time: Duration,
    /// Bytes that one answer may make the host allocate: a tree's. Other functions have less, by what their callers
    /// can use.
    pub answer_bytes: usize,
    /// The same of all answers that are read at once, apart from small ones. Checking an answer takes up to three times
    /// as much.
    pub answers_bytes: usize,
    /// The same of one component, so that one guest that hangs leaves room for others.
    pub answers_bytes_per_component: usize,
    /// Bytes of standard output and error kept per call; what follows is dropped.
    pub log_bytes: usize,
    /// Calls running at once. More of them wait. A call of a guest with many memories counts as two.
    pub slots: u32,
    /// Calls of one component running at once, so that one guest that hangs leaves room for others.
    pub slots_per_component: u32,
    /// Bytes of a component file. A language's runtime is most of those that have more than 1 MiB: JavaScript's has 12
    /// MiB, Python's 18 MiB.
    pub component_bytes: usize,
    /// Bytes of a guest row's settings, as compact JSON.
    pub settings_bytes: usize,
    /// Native stack of one call, bytes. Deep recursion ends here.
    pub stack_bytes: usize,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 * MIB,
            table_elements: 20_000,
            call_time: Duration::from_secs(2),
            queue_time: Duration::from_secs(10),
            answer_bytes: 32 * MIB,
            answers_bytes: 128 * MIB,
            answers_bytes_per_component: 96 * MIB,
            log_bytes: 64 * KIB,
            slots: 64,
            slots_per_component: 48,
            component_bytes: 32 * MIB,
            settings_bytes: 64 * KIB,
            stack_bytes: 512 * KIB,
        }
    }
}

/// Bytes of a compiled component. Code is three to five times as large as its Wasm.
pub(crate) const ARTIFACT_BYTES: u64 = 128 << 20;

/// How often running guests look up from their work: the grain of [`Limits::call_time`]. Ten
/// milliseconds cost one core a few microseconds a second, and cutting a call 10 ms late does no harm.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// What the outer timeout adds to [`Limits::call_time`]: a computing guest is cut by the epoch, so
/// this one only ends a guest that waits for something that never comes.
pub(crate) const WAIT_GRACE: Duration = Duration::from_millis(100);

/// Lines of one call's log that are kept: each becomes an event of the server's log.
pub(crate) const LOG_LINES: usize = 256;

/// Random bytes that a guest gets at once. The host makes them one by one, outside the deadline.
pub(crate) const RANDOM_BYTES: u64 = 64 * KIB as u64;

/// Handles (streams, pollables) that a call may hold at once. They live in the host's memory; a Rust
/// guest holds three.
pub(crate) const HANDLES: usize = 1_024;

/// Calls after which a pooled instance is replaced: bounds what one can accumulate.
pub(crate) const POOLED_CALLS: u32 = 1_000;

/// Linear memory above which an instance does not return to its pool, bytes: it would hold on to it.
pub(crate) const POOLED_MEMORY: usize = 16 * MIB;

/// Idle instances of one guest row. More than there are cores are seldom busy.
pub(crate) const POOLED_PER_GUEST: usize = 4;

/// Idle instances of all guest rows together, in slots.
pub(crate) const POOLED_TOTAL: u32 = 32;

/// Linear memory that a freed slot keeps mapped, so that the next call need not fault it in again.
/// 64 KiB is about what a small Rust guest touches.
pub(crate) const KEEP_RESIDENT: usize = 64 * KIB;

/// Core instances of one component. A Rust guest has about four (itself and linking shims), a Python guest 38: its
/// libraries are modules of their own. They cost what is in them:
/// [`wasmtime::PoolingAllocationConfig::max_component_instance_size`] bounds that for all of one component.
pub(crate) const CORE_INSTANCES: u32 = 40;

/// Linear memories of one component. A Rust guest has one, a guest of QuickJS three.
pub(crate) const MEMORIES: u32 = 3;

/// Tables of one component: its own and the shims'.
pub(crate) const TABLES: u32 = 8;

/// Memories and tables that there are for each slot. Address space is reserved for all of them at the start; a
/// component with more takes more slots.
pub(crate) const MEMORIES_PER_SLOT: u32 = 2;
pub(crate) const TABLES_PER_SLOT: u32 = 8;

/// Address space reserved for one memory. With 4 GiB every 32-bit address is in bounds or faults,
/// and compiled code needs no bounds checks.
pub(crate) const RESERVATION: u64 = 4 << 30;

/// Nodes of a tree that a guest hands out. More than the 100,000 that the contract promises: 2,000 workspaces
/// with 25 fields each that only their author knows have more.
pub(crate) const TREE_NODES: usize = 200_000;

/// Depth of a tree that a guest hands out. More than the 48 that the contract promises: 64 workspaces nested in
/// each other, each in a list, are 129 levels.
pub(crate) const TREE_DEPTH: usize = 192;

/// Files of one plan.
pub(crate) const PLAN_FILES: usize = 512;

/// Bytes of all files of one plan.
pub(crate) const PLAN_BYTES: usize = 5 * MIB;

/// Variables, copies and groups of one plan, each.
pub(crate) const PLAN_ENTRIES: usize = 512;

/// Paths that a resolver may ask for in one round.
pub(crate) const ROUND_PATHS: usize = 4_096;

/// Bytes of an answer that every call has room for: it has a few names, or a problem. A guest's writes to its log pass
/// through the same room, in pieces of 64 KiB at most.
pub(crate) const SMALL_ANSWER: usize = 128 * KIB;

/// Bytes that a plan may take: its files, and the nodes of a tree with as many as are allowed.
pub(crate) const PLAN_ANSWER: usize = 16 * MIB;

/// Parts of a synthetic reply, and bytes of all of them: as many as a message to an agent has.
pub(crate) const REPLY_PARTS: usize = 64;
pub(crate) const REPLY_BYTES: usize = MIB;

/// Bytes of a translated message. A message has 1 MiB at most.
pub(crate) const TRANSLATED_BYTES: usize = 2 * MIB;

/// What a translation may add to a message of this many bytes: messages wait in memory while agents work, and many
/// small ones must not become many large ones.
pub(crate) fn translated_bytes(message: usize) -> usize {
    message.saturating_mul(4).saturating_add(64 * KIB).min(TRANSLATED_BYTES)
}

/// Bytes of a problem's message or a verdict's reason that are kept.
pub(crate) const MESSAGE_BYTES: usize = 4 * KIB;

/// Frames of a backtrace that are kept, and bytes of each. A name section may have a name of megabytes.
pub(crate) const FRAMES: usize = 32;
pub(crate) const FRAME_BYTES: usize = 256;

/// Pieces of one call's log: each has a cost of its own in memory.
pub(crate) const LOG_PIECES: usize = 4 * LOG_LINES;
