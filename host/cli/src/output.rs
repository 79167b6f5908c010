//! Standard output of the commands. A reader that is gone (`| head`) ends a command quietly; every other failure, such
//! as a full disk, is remembered and makes the command fail at its end.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};

use super::CliError;

/// The first failure of the process.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes a line. `false`: it or an earlier one was not written.
pub(super) fn write(line: &str) -> bool {
    let mut failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    if failure.is_none() {
        *failure = write_line(line).err();
    }
    failure.is_none()
}

/// Not through `io::stdout`, which takes an output that is not open for writing for a written one.
fn write_line(line: &str) -> io::Result<()> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(format!("{line}\n").as_bytes())
}

/// Waits until the reader of the output is gone, for commands that may have nothing to write for a long time. Outputs
/// without a reader, such as files, end no command.
pub(super) async fn reader_is_gone() {
    // On a thread of its own: to register the output for events could make the whole terminal non-blocking.
    let gone = tokio::task::spawn_blocking(|| {
        let output = io::stdout();
        // Errors are reported without being asked for.
        let mut output = [PollFd::new(&output, PollFlags::empty())];
        loop {
            match poll(&mut output, None) {
                // An output that is not open has no reader either: writing to it fails.
                Ok(_) => return output.iter().all(|output| !output.revents().contains(PollFlags::NVAL)),
                Err(error) if error == rustix::io::Errno::INTR => {}
                Err(_) => return false,
            }
        }
    });
    if !gone.await.unwrap_or(false) {
        std::future::pending::<()>().await;
    }
}

/// Ends the output of a command.
///
/// # Errors
/// If not all of it was written, unless its reader is gone.
pub fn finish_output() -> Result<(), CliError> {
    let failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner).take();
    failure.map_or(Ok(()), output_failed)
}

/// What a failed write to the output means for a command.
///
/// # Errors
/// Unless the output's reader is gone.
pub fn output_failed(error: io::Error) -> Result<(), CliError> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(CliError::Output(error)) }
}
