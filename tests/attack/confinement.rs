//! What confines a server: a memory cgroup where this machine lets one be made, and the limits of a shell.

use std::{
    fs,
    io::{Read as _, Seek as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::Server;

const CGROUPS: &str = "/sys/fs/cgroup";

/// How long a cgroup may take to be empty, after its processes were killed.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The memory that a server may have, in bytes.
pub(crate) struct Memory {
    limit: u64,
    /// None: the peak is compared with the limit afterwards.
    cgroup: Option<PathBuf>,
}

impl Memory {
    pub(crate) fn of(limit: u64) -> Self {
        let cgroup = make(Path::new(CGROUPS), limit);
        match &cgroup {
            Some(cgroup) => println!("memory is limited by {}", cgroup.display()),
            None => {
                println!("no cgroup of version 2 can be made here: the peak of resident memory is compared");
            }
        }
        Self { limit, cgroup }
    }

    /// For [`support::Start::confined_by`].
    pub(crate) fn commands(&self) -> String {
        match &self.cgroup {
            Some(cgroup) => format!("echo $$ > '{}'", cgroup.join("cgroup.procs").display()),
            None => String::new(),
        }
    }

    /// Fails if the server needed more. In a cgroup it would have been killed.
    pub(crate) fn check(&self, server: &mut Server) {
        assert!(server.is_running(), "the server was killed: {}", server.log());
        let peak = server.peak_memory();
        println!("peak of resident memory: {} MiB", peak >> 20);
        assert!(peak < self.limit, "{peak} bytes are more than {}", self.limit);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Some(cgroup) = &self.cgroup else { return };
        wait_until_empty(cgroup);
        if let Err(error) = fs::remove_dir(cgroup) {
            println!("{} stays: {error}", cgroup.display());
        }
    }
}

/// Waits until the last process of a cgroup has ended: the kernel announces a change of `cgroup.events`.
fn wait_until_empty(cgroup: &Path) {
    let Ok(mut events) = fs::File::open(cgroup.join("cgroup.events")) else { return };
    let give_up = Instant::now() + REMOVE_TIMEOUT;
    loop {
        let mut text = String::new();
        let read = events.rewind().and_then(|()| events.read_to_string(&mut text));
        let left = give_up.saturating_duration_since(Instant::now());
        if read.is_err() || text.contains("populated 0") || left.is_zero() {
            return;
        }
        let timeout = Timespec::try_from(left).expect("seconds");
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
    }
}

/// Makes a cgroup at the nearest place above this process that hands the memory controller down, if this process may.
fn make(root: &Path, limit: u64) -> Option<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // Only the hierarchy of version 2 has this file at its root.
    fs::metadata(root.join("cgroup.controllers")).ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    let name = format!("isomer-attack-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    Path::new(&own).ancestors().find_map(|above| {
        let above = root.join(above);
        let handed_down = fs::read_to_string(above.join("cgroup.subtree_control")).ok()?;
        handed_down.split_whitespace().find(|controller| *controller == "memory")?;
        let cgroup = above.join(&name);
        fs::create_dir(&cgroup).ok()?;
        // Without the second file, there is no swap to limit.
        let _ = fs::write(cgroup.join("memory.swap.max"), "0");
        let limited = fs::write(cgroup.join("memory.max"), limit.to_string());
        if limited.is_err() {
            let _ = fs::remove_dir(&cgroup);
        }
        limited.ok().map(|()| cgroup)
    })
}

/// Lets this process open as many files as the system allows: the attackers are in it.
pub(crate) fn open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    maximum.unwrap_or(u64::MAX)
}

#[test]
fn a_cgroup_is_made_where_the_memory_controller_is_handed_down() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(make(root.path(), 1), None);
    fs::write(root.path().join("cgroup.controllers"), "cpu memory").unwrap();
    assert_eq!(make(root.path(), 1), None);
    fs::write(root.path().join("cgroup.subtree_control"), "cpu memory\n").unwrap();
    // Files of a real cgroup are there when it has been made; here they are created by the write.
    if let Some(made) = make(root.path(), 123) {
        assert_eq!(fs::read_to_string(made.join("memory.max")).unwrap(), "123");
    }
}
