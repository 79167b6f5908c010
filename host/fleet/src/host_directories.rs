//! Directories of the host that workspaces may have, by the real places that paths lead to: a link or another spelling
//! opens nothing that the rules refuse, and none of the server's own directories can be mounted into a workspace.
//!
//! A place may become a link after this check; backends that mount it check again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::rules::{self, InvalidDirectory, SYSTEM_DIRECTORIES};

/// Places below system directories that real systems keep elsewhere: sockets of container engines are in the first.
const MOVED: [&str; 2] = ["/var/run", "/var/lock"];

/// Directories of users that some systems keep below a system directory: there `/home` is a link to `/var/home`.
const OF_USERS: [&str; 6] = ["/var/home", "/var/media", "/var/mnt", "/var/opt", "/var/roothome", "/var/srv"];

/// Directories of the host that no workspace may have. Cheap to clone. Their real places are looked up once: an import
/// checks thousands of paths.
#[derive(Debug, Clone)]
pub struct HostDirectories(Arc<Places>);

#[derive(Debug)]
struct Places {
    /// Directories of the system by their names, with the places that these lead to.
    system: Vec<(&'static str, PathBuf)>,
    own: Vec<PathBuf>,
}

impl Default for HostDirectories {
    fn default() -> Self {
        Self::new([])
    }
}

impl HostDirectories {
    /// `own` are files and directories of the server. Relative ones are below its working directory.
    #[must_use]
    pub fn new(own: impl IntoIterator<Item = PathBuf>) -> Self {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let system = SYSTEM_DIRECTORIES.into_iter().chain(MOVED);
        Self(Arc::new(Places {
            system: system.map(|name| (name, real(Path::new(name)))).collect(),
            own: own.into_iter().map(|path| real(&absolute(path))).collect(),
        }))
    }

    /// Checks a directory to mount into a workspace, as [`rules::workspace_dir`] and by the place that it really is.
    ///
    /// # Errors
    /// If a workspace may not have it.
    pub fn check(&self, dir: &str) -> Result<(), InvalidDirectory> {
        rules::workspace_dir(dir)?;
        let real = real(Path::new(dir));
        let is_of_users = OF_USERS.iter().any(|users| real.starts_with(users));
        let mut system = self.0.system.iter().filter(|(name, _)| !is_of_users || *name != "/var");
        if let Some((name, _)) =
            system.find(|(name, place)| real.starts_with(name) || real.starts_with(place))
        {
            return Err(InvalidDirectory::System(name));
        }
        let is_own = self.0.own.iter().any(|own| real.starts_with(own) || own.starts_with(&real));
        if is_own { Err(InvalidDirectory::Own) } else { Ok(()) }
    }
}

/// The path with the links of what there is of it followed.
fn real(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(real) = fs::canonicalize(above) {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            // An empty path would add a slash.
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn system_directories_are_refused_by_other_names_too() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        symlink("/etc", at("link")).unwrap();
        symlink(at("link"), at("again")).unwrap();
        let host = HostDirectories::default();
        for dir in ["/etc", "/usr/share", &at("link"), &at("link/ssh"), &at("again/none/such")] {
            assert!(matches!(host.check(dir), Err(InvalidDirectory::System(_))), "{dir}");
        }
        // Where the system keeps /var/run elsewhere.
        if let Ok(run) = fs::canonicalize("/var/run") {
            let socket = run.join("docker.sock").display().to_string();
            assert!(matches!(host.check(&socket), Err(InvalidDirectory::System(_))), "{socket}");
        }
        for dir in [at("work"), at("work/deep"), "/srv/none/such".to_owned()] {
            assert_eq!(host.check(&dir), Ok(()), "{dir}");
        }
    }

    #[test]
    fn directories_of_the_server_are_refused_with_all_above_and_below_them() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir_all(at("server/data")).unwrap();
        symlink(at("server/data"), at("link")).unwrap();
        let host = HostDirectories::new([PathBuf::from(at("link")), PathBuf::from(at("x.db"))]);
        for dir in [at(""), at("server"), at("server/data"), at("link"), at("link/components"), at("x.db")] {
            assert_eq!(host.check(&dir), Err(InvalidDirectory::Own), "{dir}");
        }
        for dir in [at("server/other"), at("server/database")] {
            assert_eq!(host.check(&dir), Ok(()), "{dir}");
        }
    }
}
