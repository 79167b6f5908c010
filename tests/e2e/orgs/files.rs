//! Files that are none: sockets, FIFOs, devices, links to nothing; and what other tools keep in a directory.

use std::{fs, os::unix::fs::symlink, os::unix::net::UnixListener, path::Path};

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;
use support::{Database, Server};

use super::{import, template, templates_at, write};

fn fifo(path: &Path) {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_are_named_and_never_waited_for() {
    let org = "name: T\nworkspaces:\n  - name: A\n    runtime: claude-code\n    files_dir: lead\n    \
               initial_prompt_file: pipe.md\n    idle_prompt_file: lock.md\n";
    let dir = template(&[("org.yaml", org), ("lead/role.md", "x")]);
    fifo(&dir.path().join("t/lead/pipe.md"));
    fifo(&dir.path().join("t/lead/.env"));
    let _listener = UnixListener::bind(dir.path().join("t/.env")).unwrap();
    symlink("me@host.99:1", dir.path().join("t/lead/lock.md")).unwrap();
    symlink("me@host.99:1", dir.path().join("t/.#org.yaml")).unwrap();
    for name in ["piped", "socket", "device", "locked", "node_modules", ".git"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fifo(&dir.path().join("piped/org.yaml"));
    let _other = UnixListener::bind(dir.path().join("socket/org.yml")).unwrap();
    symlink("/dev/zero", dir.path().join("device/org.yaml")).unwrap();
    symlink("me@host.99:1", dir.path().join("locked/org.yaml")).unwrap();
    write(&dir.path().join("node_modules"), &[("org.yaml", "name: N\n")]);
    write(&dir.path().join("included"), &[("org.yaml", "name: I\nworkspaces: [!include pipe.yaml]\n")]);
    fifo(&dir.path().join("included/pipe.yaml"));
    // A persona's file too.
    let personas = dir.path().join(".personas");
    fs::create_dir_all(personas.join("lead")).unwrap();
    fifo(&personas.join("lead/env"));
    fs::write(personas.join("lead/token"), "secret\n").unwrap();
    let start = templates_at(Database::sqlite(), dir.path());
    let server = Server::start(start.env("MOLECULE_PERSONA_ROOT", personas.to_str().unwrap())).await;

    let listed = server.get("/org/templates?include_broken=true").await.ok();
    let listed: Vec<(&str, &str)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["dir"].as_str().unwrap(), it["error"].as_str().unwrap_or_default()))
        .collect();
    let of = |dir: &str| listed.iter().find(|(name, _)| *name == dir).map(|(_, error)| *error);
    assert_eq!(of("t"), Some(""));
    assert!(of("piped").unwrap().contains("a FIFO, not a regular file"), "{listed:?}");
    assert!(of("socket").unwrap().contains("a socket, not a regular file"), "{listed:?}");
    assert!(of("device").unwrap().contains("a link leads out"), "{listed:?}");
    assert!(of("included").unwrap().contains("a FIFO, not a regular file"), "{listed:?}");
    assert_eq!((of("locked"), of("node_modules"), of(".git")), (None, None, None));

    for (name, text) in [("piped", "a FIFO"), ("socket", "a socket"), ("included", "org.yaml:2:14")] {
        let answer = import(&server, json!({ "dir": name })).await;
        assert_eq!(answer.error(400), "org template expansion failed");
        assert!(answer.json["detail"].as_str().unwrap().contains(text), "{}", answer.json);
    }
    assert_eq!(import(&server, json!({ "dir": "locked" })).await.error(404), "org template not found");
    let made = import(&server, json!({ "dir": "t" })).await;
    assert_eq!(made.status, 201);
    let warnings = made.json["warnings"].to_string();
    for part in [
        "`.env` is not used: it is a socket",
        "org.yaml:5:16: `lead/.env` is not used: it is a FIFO",
        "org.yaml:6:26: initial_prompt_file `lead/pipe.md` is not used: it is a FIFO",
        "org.yaml:7:23: idle_prompt_file `lead/lock.md` is not used: missing file",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    // The persona's token stands in for variables that can't be read.
    assert_eq!(
        super::count(&server, "SELECT count(*) FROM workspace_secrets WHERE key LIKE 'GITEA_%'").await,
        3
    );
}

/// Its `.env` is read for every workspace, whatever its runtime.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_differs_in_case_is_named() {
    let org = "name: T\ndefaults: {runtime: mock}\nworkspaces: [{name: A, files_dir: ROLE}]\n";
    let dir = template(&[("org.yaml", org), ("role/.env", "A=1\n")]);
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    let made = import(&server, json!({ "dir": "t" })).await;
    let warnings = made.json["warnings"].to_string();
    assert!(
        warnings.contains("files_dir `ROLE` is not used") && warnings.contains("`role` differs"),
        "{}",
        made.json
    );
}
