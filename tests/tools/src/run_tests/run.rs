//! One run: a directory for every temporary file, a name for every process, and their removal.
//!
//! A run holds a lock on a file beside its directory for as long as its process lives. The next run removes what
//! runs without a lock left.

use std::{
    env,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::processes;

/// The variable by which processes of a run are found. Servers under test keep it.
pub(crate) const VARIABLE: &str = "ISOMER_TEST_RUN";

/// The binary that drops databases, built with the tests. Not linked into this one: its dependencies would be
/// built twice, once with the features that the tests use and once without.
const REMOVE_DATABASES: &str = "remove-test-databases";

/// A run in progress.
pub(crate) struct Run {
    base: PathBuf,
    name: String,
    directory: PathBuf,
    _lock: File,
}

impl Run {
    /// Removes what earlier runs left, and makes the directory of a new one.
    pub(crate) fn begin() -> io::Result<Self> {
        let base = env::temp_dir().join("isomer-tests");
        fs::create_dir_all(&base)?;
        // Postgres runs as another user and has its data in here.
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755))?;
        // Held while a run begins: a run without its lock yet must not look like one that has ended.
        let all = File::create(base.join("lock"))?;
        all.lock()?;
        for entry in fs::read_dir(&base)? {
            let file = entry?.path();
            let Some(name) = lock_of(&file) else { continue };
            if File::open(&file)?.try_lock().is_ok() {
                remove(&base, name);
            }
        }
        let name = std::process::id().to_string();
        let lock = File::create(base.join(format!("{name}.lock")))?;
        lock.lock()?;
        let directory = base.join(&name);
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        Ok(Self { base, name, directory, _lock: lock })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes everything that the run left.
    pub(crate) fn end(self) {
        remove(&self.base, &self.name);
        let program = env::current_exe().map(|this| this.with_file_name(REMOVE_DATABASES));
        if let Ok(program) = program
            && program.exists()
            && let Err(error) = Command::new(program).status()
        {
            eprintln!("run-tests: databases were not removed: {error}");
        }
    }
}

/// The name of the run whose lock this file is.
fn lock_of(file: &Path) -> Option<&str> {
    (file.extension()? == "lock").then(|| file.file_stem()?.to_str()).flatten()
}

fn remove(base: &Path, name: &str) {
    let directory = base.join(name);
    processes::end_all(name, &directory);
    unmount_below(&directory);
    let removed = match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_file(base.join(format!("{name}.lock"))),
    };
    if let Err(error) = removed {
        eprintln!("run-tests: {} was not removed: {error}", directory.display());
    }
}

fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(path).starts_with(directory) {
            // A directory that cannot be unmounted cannot be removed either, which is reported.
            let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
        }
    }
}
