//! What confines a server: a memory cgroup where this machine lets one be made, and the limits of a shell.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
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
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let cgroup = make(Path::new(CGROUPS), &own, limit);
        match &cgroup {
            Some(cgroup) => println!("memory is limited by {}", cgroup.display()),
            None => {
                println!("no memory cgroup can be made here: the peak of resident memory is compared");
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

/// Waits until the last process of a cgroup has ended.
fn wait_until_empty(cgroup: &Path) {
    let give_up = Instant::now() + REMOVE_TIMEOUT;
    loop {
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        let Some(process) = processes.lines().find_map(|pid| Pid::from_raw(pid.parse().ok()?)) else {
            return;
        };
        // One that has ended meanwhile is no longer in the file.
        let Ok(process) = pidfd_open(process, PidfdFlags::empty()) else { continue };
        let left = give_up.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let timeout = Timespec::try_from(left).expect("seconds");
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout));
    }
}

/// Makes a cgroup in the hierarchy of version 2 or 1, if this process may.
fn make(root: &Path, own: &str, limit: u64) -> Option<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("isomer-attack-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let (above, files) = version_2(root, own).or_else(|| version_1(root, own))?;
    let cgroup = above.join(name);
    fs::create_dir(&cgroup).ok()?;
    // Without the second file, there is no swap to limit.
    let limited = files.map(|file| fs::write(cgroup.join(file), limit.to_string()));
    if limited[0].is_err() {
        let _ = fs::remove_dir(&cgroup);
        return None;
    }
    Some(cgroup)
}

/// The nearest place above this process that hands the memory controller down, with the files of the limit.
fn version_2(root: &Path, own: &str) -> Option<(PathBuf, [&'static str; 2])> {
    // Only the hierarchy of version 2 has this file at its root.
    fs::metadata(root.join("cgroup.controllers")).ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let above = Path::new(own).ancestors().map(|above| root.join(above)).find(|above| {
        let handed_down = fs::read_to_string(above.join("cgroup.subtree_control")).unwrap_or_default();
        handed_down.split_whitespace().any(|controller| controller == "memory")
    })?;
    Some((above, ["memory.max", "memory.swap.max"]))
}

/// The place of this process in the hierarchy of the memory controller, with the files of the limit. The second one
/// limits memory and swap together.
fn version_1(root: &Path, own: &str) -> Option<(PathBuf, [&'static str; 2])> {
    let own = own.lines().find_map(|line| line.split_once(":memory:/"))?.1;
    let above = root.join("memory").join(own);
    // A container may see the root of its hierarchy only.
    let above = if above.is_dir() { above } else { root.join("memory") };
    Some((above, ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]))
}

/// Lets this process open as many files as the system allows: the attackers are in it.
pub(crate) fn open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    maximum.unwrap_or(u64::MAX)
}

#[test]
fn a_cgroup_is_made_where_the_memory_controller_is() {
    let root = tempfile::tempdir().unwrap();
    let limit = |made: &Path, file: &str| fs::read_to_string(made.join(file)).unwrap();
    assert_eq!(make(root.path(), "0::/\n", 1), None);
    fs::create_dir_all(root.path().join("memory/of/this")).unwrap();
    let own = "4:memory:/of/this\n0::/a/b\n";
    let made = make(root.path(), own, 12).unwrap();
    assert_eq!(made.parent().unwrap(), root.path().join("memory/of/this"));
    assert_eq!(limit(&made, "memory.limit_in_bytes"), "12");
    // Version 2 comes first, where it hands the controller down.
    fs::write(root.path().join("cgroup.controllers"), "cpu memory").unwrap();
    assert!(make(root.path(), own, 1).unwrap().starts_with(root.path().join("memory")));
    fs::create_dir_all(root.path().join("a/b")).unwrap();
    fs::write(root.path().join("a/cgroup.subtree_control"), "cpu memory\n").unwrap();
    let made = make(root.path(), own, 123).unwrap();
    assert_eq!(made.parent().unwrap(), root.path().join("a"));
    assert_eq!(limit(&made, "memory.max"), "123");
}
