//! What belongs to one call: its memory usage, its log, and a WASI that grants nothing.
//!
//! Determinism is made here: clocks stand still, random numbers come from a fixed seed, the
//! environment and the arguments are empty, standard input is closed.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use rand::{SeedableRng, rngs::SmallRng};
use tokio::io::AsyncWrite;
use types::{clip, printable};
use wasmtime::ResourceLimiter;
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, ResourceTable, WasiCtx, WasiCtxView, WasiView,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::{
    Limits, LogLine, Stream,
    limits::{HANDLES, LOG_LINES, LOG_PIECES, RANDOM_BYTES},
};

/// Data of a call's store.
pub(crate) struct State {
    pub(crate) usage: ResourceUsage,
    pub(crate) log: Log,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl State {
    pub(crate) fn new(limits: &Limits) -> Self {
        let log = Log::new(limits.log_bytes);
        let mut wasi = WasiCtx::builder();
        wasi.stdout(log.writer(Stream::Out))
            .stderr(log.writer(Stream::Err))
            .wall_clock(StoppedClock)
            .monotonic_clock(StoppedClock)
            .secure_random(seeded())
            .insecure_random(seeded())
            .insecure_random_seed(u128::from(SEED))
            .max_random_size(RANDOM_BYTES);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self { usage: ResourceUsage::new(limits), log, wasi: wasi.build(), table }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Every call draws the same random numbers.
const SEED: u64 = 0x1503_e12e_5eed;

fn seeded() -> SmallRng {
    SmallRng::seed_from_u64(SEED)
}

/// A clock that stands at 2000-01-01T00:00:00Z: late enough for code that refuses 1970.
struct StoppedClock;

const STOPPED_AT: Duration = Duration::from_secs(946_684_800);

impl HostWallClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        STOPPED_AT
    }
}

impl HostMonotonicClock for StoppedClock {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

// === ResourceUsage ===

/// Counts what a call's memories and tables hold together. The engine's own limits are per memory
/// and per table; an author could otherwise multiply them.
#[derive(Debug)]
pub(crate) struct ResourceUsage {
    memory_limit: usize,
    table_limit: usize,
    memory: usize,
    table: usize,
    refused: Option<&'static str>,
}

impl ResourceUsage {
    fn new(limits: &Limits) -> Self {
        Self {
            memory_limit: limits.memory_bytes,
            table_limit: limits.table_elements,
            memory: 0,
            table: 0,
            refused: None,
        }
    }

    /// Clears what was refused to an earlier call of the same instance.
    pub(crate) fn begin_call(&mut self) {
        self.refused = None;
    }

    /// Bytes of linear memory; a call never gives any back, so this is the peak too.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// The limit that a growth met, as text with its unit.
    pub(crate) fn exceeded(&self) -> Option<String> {
        self.refused.map(|what| match what {
            "memory" => format!("{} MiB of memory", self.memory_limit >> 20),
            _ => format!("{} table elements", self.table_limit),
        })
    }
}

impl ResourceLimiter for ResourceUsage {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.memory_limit {
            self.refused = Some("memory");
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table.saturating_add(desired.saturating_sub(current));
        if total > self.table_limit {
            self.refused = Some("table");
            return Ok(false);
        }
        self.table = total;
        Ok(true)
    }
}

// === Log ===

/// What a call writes to its standard streams, up to a limit.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Written>>);

struct Written {
    chunks: Vec<(Stream, Vec<u8>)>,
    /// Bytes per call.
    limit: usize,
    room: usize,
    dropped: usize,
}

impl Log {
    fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Written { chunks: Vec::new(), limit, room: limit, dropped: 0 })))
    }

    fn writer(&self, stream: Stream) -> Writer {
        Writer { log: self.clone(), stream }
    }

    fn push(&self, stream: Stream, bytes: &[u8]) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = bytes.len().min(written.room);
        written.room -= kept;
        written.dropped += bytes.len() - kept;
        let bytes = bytes.get(..kept).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        let pieces = written.chunks.len();
        match written.chunks.last_mut() {
            Some((last, chunk)) if *last == stream => chunk.extend_from_slice(bytes),
            _ if pieces < LOG_PIECES => written.chunks.push((stream, bytes.to_vec())),
            _ => written.dropped += bytes.len(),
        }
    }

    /// The lines written since the last time, without characters that a terminal obeys, and how many bytes did not fit.
    /// What stands in for such a character counts like what the guest wrote.
    pub(crate) fn take(&self) -> (Vec<LogLine>, usize) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        let (mut dropped, mut room) = (written.dropped, written.limit);
        for (stream, chunk) in written.chunks.drain(..) {
            for line in String::from_utf8_lossy(&chunk).lines().filter(|line| !line.is_empty()) {
                if lines.len() == LOG_LINES || room == 0 {
                    dropped += line.len() + 1;
                    continue;
                }
                let text = printable(line);
                dropped += text.len().saturating_sub(room);
                let text = clip(text.into_owned(), room);
                room = room.saturating_sub(text.len() + 1);
                lines.push(LogLine { stream, text });
            }
        }
        written.room = written.limit;
        written.dropped = 0;
        (lines, dropped)
    }
}

struct Writer {
    log: Log,
    stream: Stream,
}

impl IsTerminal for Writer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Writer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.log.writer(self.stream))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.log.writer(self.stream))
    }
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.push(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.log.push(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
