//! What other users of this machine may do with the files that the settings name.

use std::env;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;
use store::DatabaseUrl;

use super::finding::Finding;
use crate::settings::Settings;

/// Bits of a mode: others than the owner may write.
const WRITABLE: u32 = 0o022;
/// In a directory with this bit, users delete and rename their own entries only.
const STICKY: u32 = 0o1000;

/// What a server has in its data directory as long as that exists.
const LOCK: &str = "isomer.lock";

/// Where container engines listen that no variable names.
const ENGINE: &str = "/var/run/docker.sock";

pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let Settings { storage, guests, workspaces, orgs, messages, .. } = settings;
    let mut found = Vec::new();
    if geteuid().is_root() {
        found.push(Finding::note("user", "the program runs as root: give it a user of its own"));
    }
    found.extend(private("DATA_DIR", &storage.data_dir));
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
    let Ok(metadata) = fs::metadata(path) else {
        let text = format!("{shown} is not there yet: the server makes it, for its own user only");
        return Some(Finding::ok(subject, text));
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
    let replaced = "a user who does can put another one in the place of the server's data";
    let ok = || Finding::ok(subject, format!("only its owner reads {shown}"));
    Some(guarded(subject, path, replaced).unwrap_or_else(ok))
}

/// A file or directory that others must not change, nor put another one in its place.
fn guarded(subject: &'static str, path: &Path, what: &str) -> Option<Finding> {
    // Links on the way are followed: what counts is where they lead.
    let path = fs::canonicalize(path).ok()?;
    let owner = fs::metadata(&path).ok()?.uid();
    let mut open = path.ancestors().filter_map(|place| Some((place, fs::metadata(place).ok()?)));
    let (place, metadata) = open.find(|(place, metadata)| may_change(metadata, owner, *place == path))?;
    let whose = if metadata.mode() & STICKY != 0 {
        // Its mode is right: it is for temporary files of all users.
        format!("Name a directory of its own, such as {}/isomer", place.display())
    } else if metadata.mode() & WRITABLE != 0 {
        format!("Close it: chmod go-w {}", place.display())
    } else {
        format!(
            "It belongs to the user {}: use directories of root and the server's user only",
            metadata.uid()
        )
    };
    Some(Finding::open(
        subject,
        format!("other users of this machine may write to {}, and {what}. {whose}", place.display()),
    ))
}

/// Whether others than root and the user `owner` may write there. `itself`: it is the file or directory in question,
/// else a directory above.
fn may_change(metadata: &Metadata, owner: u32, itself: bool) -> bool {
    let sticky = metadata.is_dir() && metadata.mode() & STICKY != 0 && !itself;
    (metadata.mode() & WRITABLE != 0 && !sticky) || ![0, owner, geteuid().as_raw()].contains(&metadata.uid())
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
