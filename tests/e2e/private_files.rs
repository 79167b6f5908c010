//! What the server keeps on disk can be read and replaced by its own user only.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use support::{program, program_file, stop};

/// Starts the program with a umask that takes no right away, and stops it once it listens. Returns its log, and the
/// files that are there while it runs.
fn run(data: &Path, variables: &[(&str, &str)]) -> Result<(String, Vec<PathBuf>), String> {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$0\" serve"]).arg(program_file()).env_clear();
    command.envs(program().get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PORT", "0").env("BIND_ADDR", "127.0.0.1").env("DATA_DIR", data);
    let mut child = command
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut errors = child.stderr.take().expect("piped");
    let log = thread::spawn(move || {
        let mut log = String::new();
        errors.read_to_string(&mut log).map(|_| log).expect("a log")
    });
    let mut welcome = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut welcome).expect("a line");
    let files = walk(data);
    stop(&mut child);
    let log = log.join().expect("read");
    if welcome.contains("listening") { Ok((log, files)) } else { Err(log) }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
}

/// Files that are gone meanwhile, such as the write-ahead log of a stopped server, are left out.
fn assert_private(files: &[PathBuf]) {
    for path in files.iter().filter(|path| path.exists()) {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(path), expected, "{}", path.display());
    }
}

#[test]
fn a_new_data_directory_is_private_whatever_the_umask() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let (_, files) = run(&data, &[]).expect("started");
    for name in ["isomer.lock", "isomer.db", "isomer.db-wal", "isomer.db-shm", "components", "compiled"] {
        assert!(files.contains(&data.join(name)), "{name} in {files:?}");
    }
    assert_private(&files);
}

#[test]
fn a_data_directory_of_an_earlier_release_is_tightened_and_the_log_says_so() {
    let data = tempfile::tempdir().expect("a directory");
    let (_, files) = run(data.path(), &[]).expect("started");
    // What the last rows are in is there after a crash.
    fs::write(data.path().join("isomer.db-wal"), "").expect("written");
    for path in files.iter().chain([&data.path().join("isomer.db-wal")]).filter(|path| path.exists()) {
        set_mode(path, if path.is_dir() { 0o777 } else { 0o666 });
    }
    let (log, again) = run(data.path(), &[]).expect("started");
    assert_private(&files);
    assert_private(&again);
    for text in [
        "was open to other users (mode 0777); its mode is 0700 now",
        "isomer.db was open to other users (mode 0666); its mode is 0600 now",
        "isomer.db-wal was open",
    ] {
        assert!(log.contains(text), "{text} in {log}");
    }
    let (log, _) = run(data.path(), &[]).expect("started");
    assert!(!log.contains("was open to other users"), "{log}");
}

#[test]
fn a_directory_with_files_of_others_is_refused_with_what_to_do() {
    let data = tempfile::tempdir().expect("a directory");
    fs::write(data.path().join("notes.txt"), "").expect("written");
    set_mode(data.path(), 0o775);
    let log = run(data.path(), &[]).expect_err("refused");
    let path = fs::canonicalize(data.path()).expect("there");
    assert!(log.contains(&format!("of its own, such as {}/isomer", path.display())), "{log}");
    assert!(log.contains("DATA_DIR") && log.contains("notes.txt"), "{log}");
    assert_eq!(walk(data.path()).len(), 2, "nothing was made");
    let (_, files) = run(&data.path().join("isomer"), &[]).expect("started");
    assert_private(&files);
}

#[test]
fn links_in_the_data_directory_lead_the_server_nowhere() {
    let victim = tempfile::NamedTempFile::new().expect("a file");
    fs::write(victim.path(), "precious").expect("written");
    for name in ["isomer.lock", "isomer.db", "isomer.db-wal", "isomer.db-shm", "components", "compiled"] {
        let data = tempfile::tempdir().expect("a directory");
        symlink(victim.path(), data.path().join(name)).expect("linked");
        let log = run(data.path(), &[]).expect_err(name);
        assert!(log.contains(&format!("{name} is a link")), "{log}");
    }
    assert_eq!(fs::read(victim.path()).expect("there"), b"precious");
    // The directory itself may be one.
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("disk")).expect("made");
    symlink("disk", dir.path().join("data")).expect("linked");
    let (_, files) = run(&dir.path().join("data"), &[]).expect("started");
    assert_private(&files);
    assert!(dir.path().join("disk/isomer.db").exists());
}

#[test]
fn a_database_elsewhere_is_private_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).expect("made");
    set_mode(&shared, 0o755);
    let file = shared.join("team.db");
    let url = format!("sqlite:{}?mode=rwc", file.display());
    let data = dir.path().join("data");
    run(&data, &[("DATABASE_URL", &url)]).expect("started");
    assert_eq!((mode(&file), mode(&shared)), (0o600, 0o755));
    set_mode(&file, 0o644);
    let (log, _) = run(&data, &[("DATABASE_URL", &url)]).expect("started");
    assert_eq!(mode(&file), 0o600);
    assert!(log.contains("team.db was open to other users"), "{log}");

    symlink(&file, shared.join("link.db")).expect("linked");
    let link = format!("sqlite:{}", shared.join("link.db").display());
    let log = run(&data, &[("DATABASE_URL", &link)]).expect_err("a link");
    assert!(log.contains("link.db is a link") && log.contains("team.db"), "{log}");

    set_mode(&shared, 0o1777);
    let log = run(&data, &[("DATABASE_URL", &url)]).expect_err("everybody's");
    assert!(log.contains("shared/isomer/team.db") && !log.contains("chmod"), "{log}");
}

#[test]
fn a_second_server_on_a_database_file_is_refused_whatever_its_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("first")).unwrap();
    let first = format!("sqlite:{}", at("first/isomer.db").display());
    let mut holder = Command::new("flock");
    holder.arg("--exclusive").arg(at("first/isomer.db.lock")).args(["sh", "-c", "echo held; read line"]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("flock is installed");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).unwrap();
    // By its URL, and as the database of its own data directory.
    for (data, variables) in [(at("second"), &[("DATABASE_URL", first.as_str())][..]), (at("first"), &[])] {
        let log = run(&data, variables).unwrap_err();
        assert!(log.contains("is in use by another isomer server") && log.contains("DATABASE_URL"), "{log}");
    }
    drop(holder.stdin.take());
    holder.wait().unwrap();
    run(&at("second"), &[("DATABASE_URL", &first)]).unwrap();
    assert_eq!(mode(&at("first/isomer.db.lock")), 0o600);
}
