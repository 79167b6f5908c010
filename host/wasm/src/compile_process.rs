//! The process in which one component is compiled: `isomer compile-guest`, which only a server starts.
//!
//! It takes the bytes from its standard input, and writes a [`CompileResult`] to its standard output, which is a file
//! of the AOT cache. It gives away what it doesn't need before it reads the bytes: descriptors, priority, core dumps,
//! new privileges; its memory, its processor time and its output are limited by the kernel. The server starts it
//! without the environment.
//!
//! It ends when its standard input does, which the server keeps open as long as it wants the result: so it never
//! outlives a server, however that ends. (The kernel's signal at a parent's death comes already when the
//! *thread* ends that started the process.)

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
};

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

use crate::{Digest, Limits, compile_result::CompileResult, engine, limits::ARTIFACT_BYTES};

/// The hidden command by which this program compiles one guest.
pub const COMPILE_COMMAND: &str = "compile-guest";

/// Exit code of a process that could not begin.
pub(crate) const UNUSABLE: u8 = 3;

/// How much less of the processor it gets than a server that is busy: a third.
const NICE: i32 = 5;

/// Descriptors that it may have open: three, and what the thread pool looks up about processors.
const DESCRIPTORS: u64 = 64;

/// What its server says to it, as arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Address space for each memory, on which compiled code depends; bytes.
    pub(crate) reservation: u64,
    /// What it may allocate, bytes.
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_seconds: u64,
}

impl Order {
    pub(crate) fn arguments(&self) -> [String; 4] {
        let Self { reservation, memory_bytes, cpu_seconds } = self;
        [
            COMPILE_COMMAND.to_owned(),
            reservation.to_string(),
            memory_bytes.to_string(),
            cpu_seconds.to_string(),
        ]
    }

    fn parse(arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let numbers: Option<Vec<u64>> = arguments.map(|number| number.to_str()?.parse().ok()).collect();
        let [reservation, memory_bytes, cpu_seconds] = numbers?.try_into().ok()?;
        Some(Self { reservation, memory_bytes, cpu_seconds })
    }
}

/// Compiles one component. `arguments` are those after [`COMPILE_COMMAND`]. Never returns when the server has
/// gone.
#[must_use]
pub fn run_compile_process(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    close_inherited_descriptors();
    let run = || -> io::Result<()> {
        let order =
            Order::parse(arguments).ok_or_else(|| io::Error::other("only a server starts this command"))?;
        restrict(&order)?;
        let bytes = read_component()?;
        end_with_input();
        let result = compile(&order, &bytes);
        io::stdout().write_all(&result.into_bytes())?;
        io::stdout().flush()
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The server may be gone.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Closes what the server's parent may have left open to it (descriptors of this program aren't inherited).
#[allow(unsafe_code)]
fn close_inherited_descriptors() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet: it is called first in `main`. The call
    // takes numbers only. On a kernel without it (before 5.9), descriptors stay open.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

fn restrict(order: &Order) -> io::Result<()> {
    let limit = |resource, most: u64| set_at_most(resource, most, most);
    // What is allocated, not what is mapped: stacks and the program's own file don't count.
    limit(Resource::Data, order.memory_bytes)?;
    // The first signal names the cause; a second later it would be the one that also ends it out of memory.
    set_at_most(Resource::Cpu, order.cpu_seconds, order.cpu_seconds + 1)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, ARTIFACT_BYTES)?;
    limit(Resource::Nofile, DESCRIPTORS)?;
    rustix::thread::set_no_new_privs(true)?;
    // The rest helps where it is possible.
    let _ = nice(NICE);
    // Where memory runs out, this process goes first, not its server.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Lower limits of whoever started the server stay.
fn set_at_most(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let highest = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let (current, maximum) = (Some(current.min(highest)), Some(maximum.min(highest)));
    setrlimit(resource, Rlimit { current, maximum }).map_err(io::Error::from)
}

/// Length (8 bytes, little endian) and bytes. What follows is the end.
fn read_component() -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    io::stdin().read_exact(&mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > Limits::default().component_bytes {
        return Err(io::Error::other("more than a component may have"));
    }
    let mut bytes = vec![0; length];
    io::stdin().read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Ends this process when its standard input ends: the server doesn't want the result any more.
fn end_with_input() {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        // At once: without waiting for threads that compile.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
    });
}

fn compile(order: &Order, bytes: &[u8]) -> CompileResult {
    // A panic of the compiler on odd input is a bad component.
    let compiled = catch_unwind(AssertUnwindSafe(|| {
        let engine = engine::for_compiling(&Limits::default(), order.reservation)?;
        let payload = engine.precompile_component(bytes)?;
        Ok((engine::compatibility(&engine), payload))
    }));
    match compiled.unwrap_or_else(|_| Err(wasmtime::Error::msg("the compiler gave up on it"))) {
        Ok((hash, payload)) => CompileResult::compiled(hash, &Digest::of(bytes), &payload),
        Err(error) => CompileResult::Refused(format!("{error:#}")),
    }
}
