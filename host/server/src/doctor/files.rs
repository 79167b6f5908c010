//! What other users of this machine may do with the files that the settings name.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use local_files::writers::{self, Writers, is_sticky};
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use store::DatabaseUrl;

use super::finding::Finding;
use crate::settings::Settings;

/// Files of a directory that are looked at: enough for every template, and done in a second.
const FILES: usize = 20_000;

const DATA_DIR: &str = "DATA_DIR";

/// What a server has in its data directory as long as that exists.
const LOCK: &str = "isomer.lock";

/// What comes of it that others can write to a directory above.
const REPLACED: &str = "a user who does can put another one in the place of the server's data";

/// Where container engines listen that no variable names.
const ENGINE: &str = "/var/run/docker.sock";

pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let Settings { storage, guests, workspaces, orgs, messages, .. } = settings;
    let mut found = Vec::new();
    if geteuid().is_root() {
        found.push(Finding::note("user", "the program runs as root: give it a user of its own"));
    }
    found.extend(private(DATA_DIR, &storage.data_dir));
    let database = storage.database_url.as_ref().and_then(|url| DatabaseUrl::parse(url.expose()).ok());
    found.extend(database.as_ref().and_then(|url| private("DATABASE_URL", url.file()?)));
    let named = [
        ("GUEST_CACHE_DIR", guests.guest_cache_dir.clone(), "what is written there runs as native code"),
        ("GUESTS_DIR", guests.guests_dir.clone(), "components that are written there become guests"),
        ("CONFIGS_DIR", workspaces.runtime_templates(), "runtime templates decide what workspaces run"),
        (
            "ORG_TEMPLATES_DIR",
            Some(orgs.templates(workspaces.runtime_templates().as_deref())),
            "imports read it",
        ),
        ("MOLECULE_PERSONA_ROOT", Some(orgs.molecule_persona_root.clone()), "imports read it"),
        (
            "WORKSPACE_MANIFEST_PATH",
            guests.workspace_manifest_path.clone(),
            "it says which runtimes there are",
        ),
        ("AGENT_CA_FILE", messages.agent_ca_file.clone(), "it says whose certificates agents may have"),
    ];
    for (variable, path, what) in named {
        found.extend(path.and_then(|path| guarded(variable, &path, what)));
    }
    found.extend(engine(env::var("DOCKER_HOST").ok().filter(|host| !host.trim().is_empty()).as_deref()));
    found
}

/// A file or directory that only the server's user may read.
fn private(subject: &'static str, path: &Path) -> Option<Finding> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(missing(subject, path)),
        Err(error) => {
            let text = format!("{shown} can't be looked at: {error}. Run this command as the server's user");
            return Some(Finding::open(subject, text));
        }
    };
    if metadata.uid() != geteuid().as_raw() {
        return Some(Finding::open(
            subject,
            format!(
                "{shown} belongs to the user {}, and this command runs as the user {}. Run it as the server's user; if \
                 this is the server's, it won't start there: give it a directory of its own",
                metadata.uid(),
                geteuid().as_raw(),
            ),
        ));
    }
    // To enter a directory is enough to read files in it that are readable.
    let others = if metadata.is_dir() { 0o077 } else { 0o066 };
    if metadata.mode() & others != 0 {
        // A directory where no server ran may be one of the system.
        let close = match metadata.is_dir() {
            true if !path.join(LOCK).exists() => {
                format!("Name a directory of its own, such as {shown}/isomer")
            }
            true => format!("Close it: chmod 700 {shown}"),
            false => format!("Close it: chmod 600 {shown}"),
        };
        return Some(Finding::open(
            subject,
            format!("other users of this machine may enter or read {shown}. {close}"),
        ));
    }
    let ok = || Finding::ok(subject, format!("only its owner reads {shown}"));
    Some(guarded(subject, path, REPLACED).unwrap_or_else(ok))
}

/// What the server makes at its start: its data directory with all above, or a database in a directory that exists.
fn missing(subject: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    match path.parent().filter(|parent| subject != DATA_DIR && !parent.as_os_str().is_empty()) {
        Some(parent) if !parent.is_dir() => Finding::open(
            subject,
            format!(
                "the server won't start: the directory {0} doesn't exist. Make it: mkdir -p -m 700 {0}",
                parent.display()
            ),
        ),
        _ => {
            let ok = format!("{shown} is not there yet: the server makes it, for its own user only");
            let above = path.ancestors().skip(1).find_map(|above| fs::canonicalize(above).ok());
            let first = above.and_then(|above| writers::above(&above.join(LOCK), geteuid().as_raw()).next());
            first.map_or_else(
                || Finding::ok(subject, ok),
                |(place, writers)| writable(subject, &place, writers, REPLACED),
            )
        }
    }
}

/// A file or directory that others must not change, with all that is in it, nor put another one in its place.
fn guarded(subject: &'static str, path: &Path, what: &str) -> Option<Finding> {
    // Links on the way are followed: what counts is where they lead.
    let path = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&path).ok()?;
    let owner = geteuid().as_raw();
    let itself = Writers::of(&metadata, owner).map(|writers| (path.clone(), writers));
    let open = itself.or_else(|| writers::above(&path, owner).next()).or_else(|| within(&path, owner));
    open.map(|(place, writers)| writable(subject, &place, writers, what))
}

fn writable(subject: &'static str, place: &Path, writers: Writers, what: &str) -> Finding {
    let shown = place.display();
    let remedy = match writers {
        // Its mode is right: it is for temporary files of all users.
        _ if fs::metadata(place).is_ok_and(|metadata| is_sticky(&metadata)) => {
            format!("Name a directory of its own, such as {shown}/isomer")
        }
        Writers::Everyone | Writers::Group => format!("Close it: chmod go-w {shown}"),
        Writers::Owner(_) => "Use files and directories of root and the server's user only".to_owned(),
    };
    let text = format!("{writers} may write to {shown}, and {what}. {remedy}");
    match writers {
        // That may be the operator.
        Writers::Owner(_) => Finding::note(subject, text),
        Writers::Everyone | Writers::Group => Finding::open(subject, text),
    }
}

/// The first file or directory within a directory that others may write to. Links are not followed: the server
/// refuses those that lead out.
fn within(path: &Path, owner: u32) -> Option<(PathBuf, Writers)> {
    let mut directories = vec![path.to_owned()];
    let mut left = FILES;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            left = left.checked_sub(1)?;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_symlink() {
                continue;
            }
            if let Some(writers) = Writers::of(&metadata, owner) {
                return Some((entry.path(), writers));
            }
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    None
}

/// The socket of the container engine, by which its machine is controlled.
fn engine(host: Option<&str>) -> Option<Finding> {
    const SUBJECT: &str = "DOCKER_HOST";
    let host = host.map(str::trim);
    if let Some(address) = host.and_then(|host| host.strip_prefix("tcp://"))
        && env::var_os("DOCKER_TLS_VERIFY").is_none_or(|value| value.is_empty())
    {
        return Some(Finding::open(
            SUBJECT,
            format!(
                "the container engine at {address} is asked without TLS: every client that reaches it controls \
                 its machine. Use its socket, or TLS with DOCKER_TLS_VERIFY=1"
            ),
        ));
    }
    let socket = match host {
        None => PathBuf::from(ENGINE),
        Some(host) => PathBuf::from(host.strip_prefix("unix://")?),
    };
    let metadata = fs::metadata(&socket).ok().filter(|metadata| metadata.file_type().is_socket())?;
    let shown = socket.display();
    if metadata.mode() & 0o002 != 0 {
        return Some(Finding::open(
            SUBJECT,
            format!(
                "every user of this machine may use the container engine at {shown}, and thereby the whole machine. \
                 Close it: chmod o-rw {shown}"
            ),
        ));
    }
    access(&socket, Access::WRITE_OK).ok()?;
    Some(Finding::note(
        SUBJECT,
        format!(
            "this user may use the container engine at {shown}: a client that controls the server controls this machine"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::super::finding::Level;
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("own file");
    }

    fn level(finding: Option<Finding>) -> Option<Level> {
        finding.map(|finding| finding.level)
    }

    #[test]
    fn a_data_directory_is_open_by_its_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("data");
        assert_eq!(level(private("DATA_DIR", &data)), Some(Level::Ok));
        fs::create_dir(&data).expect("a new directory");
        for (mode, expected) in [
            (0o700, Level::Ok),
            (0o711, Level::Open),
            (0o755, Level::Open),
            (0o750, Level::Open),
            (0o733, Level::Open),
        ] {
            chmod(&data, mode);
            assert_eq!(level(private("DATA_DIR", &data)), Some(expected), "{mode:o}");
        }
    }

    #[test]
    fn what_lies_below_a_directory_of_others_is_open() {
        let directory = tempfile::tempdir().expect("a directory");
        let (shared, guests) = (directory.path().join("shared"), directory.path().join("shared/guests"));
        fs::create_dir_all(&guests).expect("new directories");
        let link = directory.path().join("link");
        symlink(&guests, &link).expect("a link");
        for (mode, expected) in [(0o755, None), (0o777, Some(Level::Open)), (0o1777, None)] {
            chmod(&shared, mode);
            for path in [&guests, &link] {
                assert_eq!(level(guarded("GUESTS_DIR", path, "")), expected, "{mode:o} {}", path.display());
            }
        }
        chmod(&guests, 0o1777);
        assert_eq!(level(guarded("GUESTS_DIR", &guests, "")), Some(Level::Open), "everybody may add to it");
        assert_eq!(guarded("GUESTS_DIR", &directory.path().join("none"), ""), None);
    }

    #[test]
    fn what_lies_in_a_directory_is_looked_at_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let (templates, deep) = (directory.path().join("orgs"), directory.path().join("orgs/crew/files"));
        fs::create_dir_all(&deep).expect("new directories");
        let file = deep.join("org.yaml");
        fs::write(&file, "").expect("a new file");
        symlink("/dev/null", deep.join("link")).expect("a link");
        assert_eq!(guarded("ORG_TEMPLATES_DIR", &templates, ""), None);
        for path in [&file, &deep] {
            chmod(path, 0o777);
            let text = guarded("ORG_TEMPLATES_DIR", &templates, "").expect("a finding").text;
            assert!(text.contains(&format!("chmod go-w {}", path.display())), "{text}");
            chmod(path, 0o755);
        }
    }

    #[test]
    fn what_is_not_there_yet_is_open_below_a_directory_of_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let shared = directory.path().join("shared");
        fs::create_dir(&shared).expect("a new directory");
        for (mode, expected) in [(0o755, Level::Ok), (0o777, Level::Open), (0o1777, Level::Ok)] {
            chmod(&shared, mode);
            assert_eq!(level(private(DATA_DIR, &shared.join("deep/data"))), Some(expected), "{mode:o}");
        }
    }

    /// Only root can give directories to another user.
    #[test]
    fn directories_of_another_user_are_noted() {
        let directory = tempfile::tempdir().expect("a directory");
        let guests = directory.path().join("guests");
        fs::create_dir(&guests).expect("a new directory");
        if std::os::unix::fs::chown(&guests, Some(65_533), None).is_ok() {
            assert_eq!(level(guarded("GUESTS_DIR", &guests, "")), Some(Level::Note));
        }
    }

    #[test]
    fn a_database_without_its_directory_is_no_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let deep = directory.path().join("none/x.db");
        assert_eq!(level(private("DATABASE_URL", &deep)), Some(Level::Open));
        assert_eq!(level(private("DATABASE_URL", &directory.path().join("x.db"))), Some(Level::Ok));
        assert_eq!(level(private(DATA_DIR, &deep)), Some(Level::Ok), "the server makes it");
    }

    #[test]
    fn an_engine_is_open_by_its_socket() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("engine.sock");
        let _listening = UnixListener::bind(&socket).expect("a socket");
        let host = format!("unix://{}", socket.display());
        chmod(&socket, 0o666);
        assert_eq!(level(engine(Some(&host))), Some(Level::Open));
        chmod(&socket, 0o660);
        assert_eq!(level(engine(Some(&host))), Some(Level::Note));
        assert_eq!(level(engine(Some("tcp://10.0.0.1:2375"))), Some(Level::Open));
        assert_eq!(engine(Some("ssh://host")), None);
    }
}
