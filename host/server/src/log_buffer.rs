//! Log lines on their way to standard error: collected in memory, written by a thread of their own
//! (`log_writer`), so that no request waits for the file, pipe or terminal behind it, and many lines cost one
//! system call.
//!
//! - A line is written at most [`FLUSH_EVERY`] after it was logged; warnings and errors at once.
//! - When standard error is slower than the log for so long that [`CAPACITY`] bytes wait, further lines are
//!   dropped. They are counted, and the count is logged. Warnings and errors have twice the space.
//! - [`LogBuffer::flush`] waits until what was logged before it is written, at the end of the process and
//!   after a panic; at most [`FLUSH_TIMEOUT`], because the reader of standard error may stall. Only what kills
//!   the process without a word (SIGKILL, an abort) can take the last lines with it.

use std::borrow::Cow;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::long_lines;

/// How long a line waits for others.
const FLUSH_EVERY: Duration = Duration::from_millis(50);
/// How long a flush waits for the writer.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are written without waiting for more.
const FLUSH_AT: usize = 64 * 1024;
/// Bytes of lines that may wait.
const CAPACITY: usize = 4 * 1024 * 1024;

/// Lines that wait to be written. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogBuffer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Wakes the writer: for a first line, enough lines, or an urgent one.
    wake: Condvar,
    /// Wakes flushes: lines were written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    urgent: bool,
    dropped: u64,
    /// Bytes that were taken in since the start.
    accepted: u64,
    /// How many of them the writer is done with.
    done: u64,
    /// A flush waited in vain, and the writer has not been done with anything since.
    stalled: bool,
}

/// Lines for the writer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) lines: Vec<u8>,
    /// Lines that were dropped since the last batch.
    pub(crate) dropped: u64,
}

impl LogBuffer {
    /// Waits until all lines before this call are written, for a bounded time.
    pub(crate) fn flush(&self) {
        self.flush_within(FLUSH_TIMEOUT);
    }

    /// Returns whether all lines are written. Of many threads that flush while the writer is stuck, only the
    /// first ones wait.
    fn flush_within(&self, limit: Duration) -> bool {
        let mut waiting = self.lock();
        let target = waiting.accepted;
        waiting.urgent = true;
        self.0.wake.notify_one();
        let pending = |waiting: &mut Waiting| waiting.done < target && !waiting.stalled;
        let waited = self.0.written.wait_timeout_while(waiting, limit, pending);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let written = waiting.done >= target;
        waiting.stalled = !written;
        if !written {
            self.0.written.notify_all();
        }
        written
    }

    /// Adds lines, with their line ends.
    pub(crate) fn push(&self, lines: &[u8], urgent: bool) {
        let mut waiting = self.lock();
        let capacity = if urgent { 2 * CAPACITY } else { CAPACITY };
        if waiting.lines.len() + lines.len() > capacity {
            waiting.dropped += 1;
            return;
        }
        let before = waiting.lines.len();
        waiting.lines.extend_from_slice(lines);
        waiting.accepted = waiting.accepted.wrapping_add(lines.len() as u64);
        let full = before < FLUSH_AT && waiting.lines.len() >= FLUSH_AT;
        let newly_urgent = urgent && !waiting.urgent;
        waiting.urgent |= urgent;
        drop(waiting);
        if before == 0 || full || newly_urgent {
            self.0.wake.notify_one();
        }
    }

    /// The next lines, once there are some. `spare` is an empty vector, whose memory takes the next ones.
    pub(crate) fn next(&self, spare: Vec<u8>) -> Batch {
        let first = self.0.wake.wait_while(self.lock(), |waiting| waiting.lines.is_empty());
        let first = first.unwrap_or_else(PoisonError::into_inner);
        let more = self.0.wake.wait_timeout_while(first, FLUSH_EVERY, |waiting| {
            !waiting.urgent && waiting.lines.len() < FLUSH_AT
        });
        let (mut waiting, _) = more.unwrap_or_else(PoisonError::into_inner);
        waiting.urgent = false;
        Batch { lines: mem::replace(&mut waiting.lines, spare), dropped: mem::take(&mut waiting.dropped) }
    }

    /// The writer is done with the lines of a batch. Returns their memory for the next call of
    /// [`LogBuffer::next`].
    pub(crate) fn done(&self, mut lines: Vec<u8>) -> Vec<u8> {
        let mut waiting = self.lock();
        waiting.done = waiting.done.wrapping_add(lines.len() as u64);
        waiting.stalled = false;
        drop(waiting);
        self.0.written.notify_all();
        lines.clear();
        lines.shrink_to(FLUSH_AT);
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the lines of one event.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    buffer: &'a LogBuffer,
    urgent: bool,
}

impl Write for Lines<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.buffer.push(&long_lines::cut(&one_line(line)), self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event is one line, whatever text of guests, agents and files is in it: line ends within it are escaped. Here,
/// because every place that displays an error would have to do it otherwise.
fn one_line(line: &[u8]) -> Cow<'_, [u8]> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(line);
    }
    let mut escaped = Vec::with_capacity(line.len() + 16);
    for byte in text {
        match byte {
            b'\n' => escaped.extend_from_slice(b"\\n"),
            b'\r' => escaped.extend_from_slice(b"\\r"),
            byte => escaped.push(*byte),
        }
    }
    escaped.push(b'\n');
    Cow::Owned(escaped)
}

impl<'a> MakeWriter<'a> for LogBuffer {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Lines { buffer: self, urgent: false }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        Lines { buffer: self, urgent: *event.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than a test that passes takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn lines_are_taken_together_and_in_order() {
        let buffer = LogBuffer::default();
        buffer.push(b"one\n", false);
        buffer.push(b"two\n", false);
        assert_eq!(buffer.next(Vec::new()).lines, b"one\ntwo\n");
    }

    #[test]
    fn an_event_is_one_line_whatever_text_is_in_it() {
        let buffer = LogBuffer::default();
        let mut lines = Lines { buffer: &buffer, urgent: false };
        for line in ["error=/refuse: \n2030 ERROR forged\r\n\n", "two lines\nno end", "as it is\n"] {
            lines.write_all(line.as_bytes()).expect("it is taken");
        }
        let written = String::from_utf8(buffer.next(Vec::new()).lines).expect("UTF-8");
        assert_eq!(written, "error=/refuse: \\n2030 ERROR forged\\r\\n\ntwo lines\\nno end\nas it is\n");
    }

    #[test]
    fn lines_beyond_the_capacity_are_counted_and_errors_still_fit() {
        let buffer = LogBuffer::default();
        let line = vec![b'x'; CAPACITY / 4];
        (0..6).for_each(|_| buffer.push(&line, false));
        buffer.push(b"error\n", true);
        let batch = buffer.next(Vec::new());
        assert_eq!((batch.lines.len(), batch.dropped), (CAPACITY + 6, 2));
        buffer.push(b"next\n", true);
        assert_eq!(buffer.next(Vec::new()).dropped, 0);
    }

    #[test]
    fn a_flush_waits_until_earlier_lines_are_written() {
        let buffer = LogBuffer::default();
        assert!(buffer.flush_within(PATIENCE), "there is nothing to write");
        buffer.push(b"last words\n", false);
        std::thread::scope(|scope| {
            let flushed = scope.spawn(|| buffer.flush_within(PATIENCE));
            let batch = buffer.next(Vec::new());
            assert!(!flushed.is_finished());
            buffer.done(batch.lines);
            assert!(flushed.join().expect("ended"));
        });
    }

    #[test]
    fn a_flush_gives_up_while_the_writer_is_stuck_and_later_ones_do_not_wait() {
        let buffer = LogBuffer::default();
        buffer.push(b"one\n", false);
        let batch = buffer.next(Vec::new());
        assert!(!buffer.flush_within(Duration::ZERO));
        assert!(!buffer.flush_within(Duration::MAX), "the writer is known to be stuck");
        buffer.done(batch.lines);
        assert!(buffer.flush_within(PATIENCE));
    }
}
