//! `isomer guest new`: writes a crate with an adapter, and beside it the SDK and the WIT of this very
//! version, so that the crate builds anywhere.

use std::fs;
use std::io;
use std::path::Path;

use include_dir::{Dir, DirEntry, include_dir};

use crate::{CliError, print};

static TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guests/template");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guests/sdk");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");

/// The template's own names: as package and runtime, as crate in Rust, and for users.
const PLACEHOLDERS: [&str; 3] = ["my-agent", "my_agent", "My agent"];

/// Bytes of a runtime's name.
const NAME_BYTES: usize = 64;

/// Names that Cargo or rustc refuse for a library, and those of the template's dependencies.
const RESERVED: &str = "abstract alloc as async await become box break const continue core crate do dyn else enum extern \
    false final fn for gen if impl in isomer-sdk let loop macro match mod move mut override priv \
    proc-macro pub ref return self serde static std struct super test trait true try type typeof unsafe \
    unsized use virtual where while";

/// Makes `directory`, whose last part is the name of the guest, its runtime and its crate.
pub(super) fn run(directory: &Path) -> Result<(), CliError> {
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    check(name)?;
    let shown = directory.display();
    fs::create_dir(directory).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => {
            CliError::refused(format!("{shown} exists already: choose another name, or remove it first"))
        }
        _ => CliError::unwritten(directory, source),
    })?;
    let written = || -> io::Result<()> {
        write(&TEMPLATE, directory, name)?;
        for (files, place) in [(&SDK, "isomer/guests/sdk"), (&WIT, "isomer/wit")] {
            let place = directory.join(place);
            fs::create_dir_all(&place)?;
            files.extract(&place)?;
        }
        Ok(())
    };
    written().map_err(|source| CliError::unwritten(directory, source))?;
    let file = format!("target/wasm32-wasip2/release/{}.wasm", crate_name(name));
    print::lines(&format!(
        "{shown} has the guest {name}. Next:\n  cd {shown}\n  cargo test\n  \
         cargo build --release --target wasm32-wasip2\n  isomer guest check {file}\n  \
         isomer guest push {name} {file} --activate\nIts README.md says more."
    ));
    Ok(())
}

/// A name has to do for a runtime (`[a-z0-9][a-z0-9-]*`) and for a crate, which begins with a letter.
fn check(name: &str) -> Result<(), CliError> {
    let form = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !form || name.len() > NAME_BYTES {
        return Err(CliError::refused(format!(
            "`{name}` can't be the name of a guest: take 1 to {NAME_BYTES} lower-case letters, digits and hyphens, \
             beginning with a letter, such as my-agent"
        )));
    }
    if RESERVED.split(' ').any(|reserved| reserved == name) {
        return Err(CliError::refused(format!(
            "`{name}` can't be the name of a guest: Rust or a dependency of the crate has that name; take another \
             one, such as {name}-agent"
        )));
    }
    Ok(())
}

/// Writes the template's files with the guest's names in place of its own.
fn write(files: &Dir<'_>, root: &Path, name: &str) -> io::Result<()> {
    for entry in files.entries() {
        let path = root.join(entry.path());
        match entry {
            DirEntry::Dir(files) => {
                fs::create_dir_all(&path)?;
                write(files, root, name)?;
            }
            DirEntry::File(file) => match file.contents_utf8() {
                Some(text) => fs::write(&path, renamed(text, name))?,
                None => fs::write(&path, file.contents())?,
            },
        }
    }
    Ok(())
}

fn renamed(text: &str, name: &str) -> String {
    let [package, library, display] = PLACEHOLDERS;
    text.replace(package, name).replace(library, &crate_name(name)).replace(display, &display_name(name))
}

/// `crew-pilot` as a crate in Rust: `crew_pilot`.
fn crate_name(name: &str) -> String {
    name.replace('-', "_")
}

/// `crew-pilot` for users: `Crew pilot`.
fn display_name(name: &str) -> String {
    let words: Vec<&str> = name.split('-').filter(|word| !word.is_empty()).collect();
    let mut display = words.join(" ");
    if let Some(first) = display.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    display
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_crate_or_runtime_are_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let long = "a".repeat(NAME_BYTES + 1);
        for name in
            ["My-Agent", "1agent", "-agent", "my_agent", "my agent", "ä", "a.b", &long, "test", "fn", "serde"]
        {
            let error = run(&dir.path().join(name)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}` can't be the name of a guest")), "{error}");
        }
        for directory in ["", "/", ".."] {
            run(Path::new(directory)).unwrap_err();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_name_stands_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("crew-pilot");
        run(&root).unwrap();
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        assert!(read("Cargo.toml").contains("name = \"crew-pilot\""));
        assert!(
            read("README.md")
                .contains("isomer guest push crew-pilot target/wasm32-wasip2/release/crew_pilot.wasm")
        );
        assert!(read("src/lib.rs").contains("Description::container(\"crew-pilot\", \"Crew pilot\")"));
        for path in ["Cargo.toml", "README.md", "src/lib.rs", ".gitignore"] {
            assert!(PLACEHOLDERS.iter().all(|it| !read(path).contains(it)), "{path}");
        }
        assert!(root.join("isomer/guests/sdk/Cargo.toml").exists() && root.join("isomer/wit").exists());
    }

    #[test]
    fn an_existing_directory_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("crew-pilot");
        fs::create_dir(&root).unwrap();
        let error = run(&root).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    }
}
