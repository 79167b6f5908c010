//! Log lines on their way to standard error: collected in memory, written by a thread of their own, so that
//! no request waits for the file, pipe or terminal behind it, and many lines cost one system call.
//!
//! - A line is written at most [`FLUSH_EVERY`] after it was logged; warnings and errors at once.
//! - When standard error is slower than the log for so long that [`CAPACITY`] bytes wait, further lines are
//!   dropped. They are counted, and the count is logged. Warnings and errors have twice the space.
//! - [`LogBuffer::flush`] writes what is left: at the end of the process and before a panic is printed. Only
//!   what kills the process without a word (SIGKILL, an abort) can take the last lines with it.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others.
const FLUSH_EVERY: Duration = Duration::from_millis(50);
/// Bytes that are written without waiting for more.
const FLUSH_AT: usize = 64 * 1024;
/// Bytes of lines that may wait.
const CAPACITY: usize = 4 * 1024 * 1024;

/// Lines that wait to be written. Cheap to clone.
#[derive(Debug)]
pub struct LogBuffer<W = io::Stderr>(Arc<Shared<W>>);

#[derive(Debug)]
struct Shared<W> {
    waiting: Mutex<Waiting>,
    /// Wakes the thread: for a first line, enough lines, or an urgent one.
    wake: Condvar,
    output: Mutex<Output<W>>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    urgent: bool,
    dropped: u64,
}

/// Locked while lines are written, so that they stay in order.
#[derive(Debug)]
struct Output<W> {
    to: W,
    /// What was written last, emptied: its memory takes the next lines.
    spare: Vec<u8>,
}

impl<W> Clone for LogBuffer<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl LogBuffer {
    /// Starts the thread that writes to standard error.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        Self::start_with(io::stderr())
    }
}

impl<W: Write + Send + 'static> LogBuffer<W> {
    fn new(to: W) -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            output: Mutex::new(Output { to, spare: Vec::new() }),
        }))
    }

    fn start_with(to: W) -> io::Result<Self> {
        let buffer = Self::new(to);
        let writer = buffer.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.run())?;
        Ok(buffer)
    }

    fn run(&self) {
        loop {
            let waiting = lock(&self.0.waiting);
            let first = self.0.wake.wait_while(waiting, |waiting| waiting.lines.is_empty());
            let first = first.unwrap_or_else(PoisonError::into_inner);
            let more = self.0.wake.wait_timeout_while(first, FLUSH_EVERY, |waiting| {
                !waiting.urgent && waiting.lines.len() < FLUSH_AT
            });
            drop(more);
            let dropped = self.flush();
            if dropped > 0 {
                metrics::counter!("isomer_log_lines_dropped_total").increment(dropped);
                tracing::warn!(dropped, "log lines were dropped because standard error was too slow");
            }
        }
    }

    /// Writes what is there. Returns how many lines were dropped since the last time.
    pub fn flush(&self) -> u64 {
        let mut output = lock(&self.0.output);
        let Output { to, spare } = &mut *output;
        let dropped = {
            let mut waiting = lock(&self.0.waiting);
            mem::swap(&mut waiting.lines, spare);
            waiting.urgent = false;
            mem::take(&mut waiting.dropped)
        };
        // Where standard error is closed there is no place left to complain.
        let _ = to.write_all(spare).and_then(|()| to.flush());
        spare.clear();
        spare.shrink_to(FLUSH_AT);
        dropped
    }

    fn push(&self, line: &[u8], urgent: bool) {
        let mut waiting = lock(&self.0.waiting);
        let capacity = if urgent { 2 * CAPACITY } else { CAPACITY };
        if waiting.lines.len() + line.len() > capacity {
            waiting.dropped += 1;
            return;
        }
        let before = waiting.lines.len();
        waiting.lines.extend_from_slice(line);
        let full = before < FLUSH_AT && waiting.lines.len() >= FLUSH_AT;
        let newly_urgent = urgent && !waiting.urgent;
        waiting.urgent |= urgent;
        drop(waiting);
        if before == 0 || full || newly_urgent {
            self.0.wake.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the lines of one event.
#[derive(Debug)]
pub struct Lines<'a, W> {
    buffer: &'a LogBuffer<W>,
    urgent: bool,
}

impl<W: Write + Send + 'static> Write for Lines<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.buffer.push(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: Write + Send + 'static> MakeWriter<'a> for LogBuffer<W> {
    type Writer = Lines<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Lines { buffer: self, urgent: false }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        Lines { buffer: self, urgent: *event.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Channel(Sender<Vec<u8>>);

    impl Write for Channel {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn channel() -> (Channel, Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel();
        (Channel(sender), receiver)
    }

    #[test]
    fn lines_are_written_together_and_in_order_without_a_flush() {
        let (output, written) = channel();
        let buffer = LogBuffer::start_with(output).expect("a thread");
        buffer.push(b"one\n", false);
        buffer.push(b"two\n", false);
        let mut text = Vec::new();
        while text != b"one\ntwo\n" {
            text.extend(written.recv_timeout(PATIENCE).expect("written"));
        }
    }

    #[test]
    fn a_flush_writes_what_is_left() {
        let (output, written) = channel();
        let buffer = LogBuffer::new(output);
        buffer.push(b"last words\n", false);
        assert_eq!(buffer.flush(), 0);
        assert_eq!(written.try_recv().expect("written"), b"last words\n");
    }

    #[test]
    fn lines_beyond_the_capacity_are_counted_and_errors_still_fit() {
        let (output, written) = channel();
        let buffer = LogBuffer::new(output);
        let line = vec![b'x'; CAPACITY / 4];
        (0..6).for_each(|_| buffer.push(&line, false));
        buffer.push(b"error\n", true);
        assert_eq!(buffer.flush(), 2);
        assert_eq!(written.try_recv().expect("written").len(), CAPACITY + 6);
        assert_eq!(buffer.flush(), 0);
    }
}
