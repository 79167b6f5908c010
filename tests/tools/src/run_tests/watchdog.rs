//! Ends test programs with a test that hangs. libtest reports a test that runs longer than a minute.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{processes, report::Report};

/// How long a test may run after libtest's report, which comes after 60 s.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Watchdog {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Watches the test programs of a run.
pub(crate) fn start(report: Arc<Mutex<Report>>, run: String) -> Watchdog {
    let (stop, stopped) = mpsc::channel();
    let thread = thread::spawn(move || {
        while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let hung = report.lock().unwrap_or_else(PoisonError::into_inner).take_hung(LIMIT);
            for name in &hung {
                eprintln!("test {name} hangs: its program is ended");
            }
            if !hung.is_empty() {
                processes::kill_test_programs(&run);
            }
        }
    });
    Watchdog { stop, thread }
}

impl Watchdog {
    pub(crate) fn stop(self) {
        drop(self.stop);
        // A panic of the watchdog has been printed already.
        let _ = self.thread.join();
    }
}
