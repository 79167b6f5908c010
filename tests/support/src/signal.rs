//! Signals to processes, by system call.

use std::process::{Child, ExitStatus};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the child has not been waited for");
}

/// Asks a child to stop, and waits until it has.
pub fn stop(child: &mut Child) -> ExitStatus {
    signal(child, Signal::TERM);
    child.wait().expect("it is a child of this process")
}
