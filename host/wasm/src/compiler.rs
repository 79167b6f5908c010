//! Where guests are compiled, from the server's side: in a process of their own (`compile_process`), which is
//! ended when it takes too much, or when no caller waits for it any more.
//!
//! The compiler runs on bytes that anybody made, and its memory and time grow faster than they do. In a process
//! of its own it can take neither the server's memory nor its life, and what it allocated is the system's again.

use std::{
    fmt, io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin, Command},
    time::timeout,
};

use crate::{LoadError, compile_process::Order, limits::ARTIFACT_BYTES};

/// Where a sandbox compiles guests.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// In the process of the sandbox, without limits: for tools and tests, whose guests are their user's.
    InProcess,
    /// In a process of this program, which has [`crate::COMPILE_COMMAND`], under these limits.
    Process(PathBuf, CompileLimits),
}

/// What compiling one component may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileLimits {
    /// What the process may allocate, bytes. Guests of ours take up to 210 MiB with four threads, a third of which the
    /// process really uses: the rest is what the allocator and the stacks of threads have in reserve. A JavaScript
    /// engine of 10 MB takes 600 MiB.
    pub memory_bytes: u64,
    /// Seconds of processor time. Guests of ours take half a second.
    pub cpu_seconds: u32,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory_bytes: 1 << 30, cpu_seconds: 60 }
    }
}

impl CompileLimits {
    /// On a machine that is busy with other things, processor time passes slowly.
    fn time(&self) -> Duration {
        Duration::from_secs(5 * u64::from(self.cpu_seconds))
    }
}

impl fmt::Display for CompileLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB and {} s", self.memory_bytes >> 20, self.cpu_seconds)
    }
}

/// Bytes of standard error that are read for the cause of a death.
const STDERR_BYTES: u64 = 4 << 10;

/// Threads of a process at most. Each has a stack and a heap, and the limit of memory is the same on any machine.
const THREADS: usize = 4;

/// Why a component was not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It can't run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no process to compile it in: no fault of the component.
    #[error("the process that compiles guests can't be used: {0}")]
    NoProcess(String),
}

impl Compiler {
    /// In processes of the running program, whatever its file is called by now: an upgrade may have replaced it.
    #[must_use]
    pub fn this_program(limits: CompileLimits) -> Self {
        const SELF: &str = "/proc/self/exe";
        let program = if Path::new(SELF).exists() {
            PathBuf::from(SELF)
        } else {
            let called = std::env::args_os().next().unwrap_or_default();
            std::path::absolute(called).unwrap_or_default()
        };
        Self::Process(program, limits)
    }
}

/// Runs a compile process to its end.
pub(crate) async fn run(
    program: &Path,
    order: &Order,
    limits: &CompileLimits,
    bytes: &[u8],
    output: &NamedTempFile,
) -> Result<(), CompileError> {
    let unusable = |error: io::Error| CompileError::NoProcess(error.to_string());
    let output = output.reopen().map_err(unusable)?;
    let mut child = command(program, order).stdout(output).spawn().map_err(unusable)?;
    let Some(pipes) = child.stdin.take().zip(child.stderr.take()) else {
        return Err(CompileError::NoProcess("it has no pipes".to_owned()));
    };
    match timeout(limits.time(), finish(&mut child, pipes, bytes)).await {
        Ok(ended) => ended.map_err(unusable)?.result(limits),
        // The child is killed when it is dropped. It had hardly any processor: that is no fault of the component.
        Err(_) => {
            Err(CompileError::NoProcess(format!("it did not end within {} s", limits.time().as_secs())))
        }
    }
}

fn command(program: &Path, order: &Order) -> Command {
    let mut command = Command::new(program);
    command
        .args(order.arguments())
        .env_clear()
        // Its allocator otherwise reserves 1 GiB at once, which would count as allocated.
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
        .env("RAYON_NUM_THREADS", threads().to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        // What a terminal sends to the server's group is not for it: the server ends it.
        .process_group(0)
        .kill_on_drop(true);
    command
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS))
}

/// How a process ended.
struct Ended {
    status: ExitStatus,
    /// Of standard error.
    last_words: Vec<u8>,
}

async fn finish(
    child: &mut Child,
    (mut stdin, stderr): (ChildStdin, ChildStderr),
    bytes: &[u8],
) -> io::Result<Ended> {
    let write = async {
        stdin.write_all(&(bytes.len() as u64).to_le_bytes()).await?;
        stdin.write_all(bytes).await?;
        stdin.flush().await
    };
    let read = async {
        let mut last_words = Vec::new();
        stderr.take(STDERR_BYTES).read_to_end(&mut last_words).await.map(|_| last_words)
    };
    // A process that ended early says why by its status.
    let (_written, last_words) = tokio::join!(write, read);
    let status = child.wait().await?;
    // Only now: its end ends the process.
    drop(stdin);
    Ok(Ended { status, last_words: last_words? })
}

impl Ended {
    fn result(self, limits: &CompileLimits) -> Result<(), CompileError> {
        let last_words = String::from_utf8_lossy(&self.last_words);
        let Some(signal) = self.status.signal() else {
            let reason = || CompileError::NoProcess(last_words.trim().to_owned());
            return if self.status.success() { Ok(()) } else { Err(reason()) };
        };
        let how = match Signal::from_named_raw(signal) {
            // Whoever ends services sends these to all of their processes. Of itself the component can't have more
            // memory than its limit, so that it is the machine's memory that is too small.
            Some(Signal::KILL) => {
                let how = "it was killed, as happens when the machine is out of memory";
                return Err(CompileError::NoProcess(how.to_owned()));
            }
            Some(Signal::HUP | Signal::INT | Signal::QUIT | Signal::TERM) => {
                return Err(CompileError::NoProcess(format!("it was ended by signal {signal}")));
            }
            Some(Signal::XCPU) => {
                format!("took more than {} s of processor time (GUEST_COMPILE_SECONDS)", limits.cpu_seconds)
            }
            Some(Signal::XFSZ) => format!("made more than {} MiB of code", ARTIFACT_BYTES >> 20),
            Some(Signal::ABORT) if last_words.contains("memory allocation of") => too_much_memory(limits),
            _ => format!("crashed the compiler (signal {signal})"),
        };
        Err(LoadError::CompilerDied { how }.into())
    }
}

pub(crate) fn too_much_memory(limits: &CompileLimits) -> String {
    format!("took more than {} MiB of memory (GUEST_COMPILE_MIB)", limits.memory_bytes >> 20)
}
