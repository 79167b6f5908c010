//! Writes the lines of a [`LogBuffer`], on a thread of its own. A line that can't be written is counted, never
//! lost silently.
//!
//! - Output that takes no bytes for the moment (`O_NONBLOCK`, which standard error has when another process
//!   that shares it set that) gets the rest as soon as it does.
//! - After any other error (no space on the disk, say) the rest of the lines at hand is dropped.
//! - How many lines were dropped is logged as soon as lines can be written again.

use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use crate::log_buffer::{Batch, LogBuffer};

/// Pause before output that takes no bytes is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Writes the lines of a buffer to `to`.
pub(crate) struct LogWriter<W> {
    buffer: LogBuffer,
    to: W,
    /// A write failed in the middle of a line.
    torn: bool,
    /// Dropped lines that no log line reports yet.
    unreported: u64,
}

impl<W: Write + Send + 'static> LogWriter<W> {
    pub(crate) fn new(buffer: LogBuffer, to: W) -> Self {
        Self { buffer, to, torn: false, unreported: 0 }
    }

    pub(crate) fn start(mut self) -> io::Result<()> {
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut spare = Vec::new();
            loop {
                let batch = self.buffer.next(spare);
                let dropped = self.write(&batch);
                spare = self.buffer.done(batch.lines);
                if dropped > 0 {
                    tracing::warn!(dropped, "log lines were dropped: standard error was too slow, or failed");
                }
            }
        })?;
        Ok(())
    }

    /// Writes a batch. Returns how many lines were dropped before it, and have to be reported now. While
    /// writes fail that is 0, because the report would be dropped too.
    fn write(&mut self, batch: &Batch) -> u64 {
        let unwritten = self.write_lines(&batch.lines);
        let lost = unwritten.iter().filter(|byte| **byte == b'\n').count() as u64;
        let dropped = batch.dropped + lost;
        if dropped > 0 {
            metrics::counter!("isomer_log_lines_dropped_total").increment(dropped);
        }
        self.unreported += dropped;
        if unwritten.is_empty() { std::mem::take(&mut self.unreported) } else { 0 }
    }

    /// Returns what can't be written.
    fn write_lines<'a>(&mut self, lines: &'a [u8]) -> &'a [u8] {
        // The next line must not continue half of another.
        if self.torn && !self.write_all(b"\n").is_empty() {
            return lines;
        }
        let rest = self.write_all(lines);
        let written = lines.len() - rest.len();
        let last = lines.get(..written).and_then(<[u8]>::last);
        self.torn = !rest.is_empty() && last.is_some_and(|last| *last != b'\n');
        rest
    }

    /// Returns what can't be written.
    fn write_all<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while !bytes.is_empty() {
            match self.to.write(bytes) {
                Ok(0) => return bytes,
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
                Err(_) => return bytes,
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::mpsc;

    use super::*;

    /// Takes what the next step says, and everything when there is none.
    #[derive(Default)]
    struct Scripted {
        steps: VecDeque<Result<usize, ErrorKind>>,
        written: Vec<u8>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = self.steps.pop_front().unwrap_or(Ok(bytes.len()))?;
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer(steps: &[Result<usize, ErrorKind>]) -> LogWriter<Scripted> {
        let to = Scripted { steps: steps.iter().copied().collect(), written: Vec::new() };
        LogWriter::new(LogBuffer::default(), to)
    }

    fn batch(lines: &str) -> Batch {
        Batch { lines: lines.as_bytes().to_vec(), dropped: 0 }
    }

    fn written(writer: &LogWriter<Scripted>) -> &str {
        std::str::from_utf8(&writer.to.written).expect("UTF-8")
    }

    #[test]
    fn output_that_would_block_gets_the_rest_later() {
        let blocked = Err(ErrorKind::WouldBlock);
        let mut writer = writer(&[blocked, Ok(3), blocked, blocked, Err(ErrorKind::Interrupted), Ok(2)]);
        assert_eq!(writer.write(&batch("one\ntwo\n")), 0);
        assert_eq!(written(&writer), "one\ntwo\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_when_writes_work_again() {
        let full = Err(ErrorKind::StorageFull);
        let mut writer = writer(&[Ok(5), full, full]);
        assert_eq!(writer.write(&batch("one\ntwo\nthree\n")), 0);
        assert_eq!(writer.write(&batch("four\n")), 0);
        assert_eq!(writer.write(&batch("five\n")), 3, "two, three and four");
        assert_eq!(written(&writer), "one\nt\nfive\n");
        assert_eq!(writer.write(&batch("six\n")), 0);
        assert_eq!(written(&writer), "one\nt\nfive\nsix\n");
    }

    #[test]
    fn lines_that_did_not_fit_into_the_buffer_are_reported_with_the_next_batch() {
        let mut writer = writer(&[]);
        assert_eq!(writer.write(&Batch { lines: b"one\n".to_vec(), dropped: 7 }), 7);
        assert_eq!(writer.write(&batch("two\n")), 0);
    }

    #[test]
    fn the_thread_writes_without_a_flush() {
        struct Channel(mpsc::Sender<Vec<u8>>);

        impl Write for Channel {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (sender, receiver) = mpsc::channel();
        let buffer = LogBuffer::default();
        LogWriter::new(buffer.clone(), Channel(sender)).start().expect("a thread");
        buffer.push(b"one\n", false);
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)).expect("written"), b"one\n");
    }
}
