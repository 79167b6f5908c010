//! A part of `make check`: dependencies between crates point down, some libraries are for one crate only, and
//! the imports between modules of a crate have no cycles. The rules are in `.ci/architecture`.

#![forbid(unsafe_code)]

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde_json::Value;

mod modules;
mod rules;
mod source;

use rules::Rules;

fn main() -> ExitCode {
    match check() {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            faults.iter().for_each(|fault| eprintln!("architecture: {fault}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("architecture: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A package of the workspace.
struct Package {
    /// Without the prefix `isomer-`.
    name: String,
    directory: PathBuf,
    /// Dependencies outside of tests, without the prefix.
    dependencies: Vec<String>,
}

fn check() -> io::Result<Vec<String>> {
    // As `cargo run` says, not as the build did: two checkouts may share a target directory.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&package).join("../..").canonicalize()?;
    let rules = Rules::parse(&fs::read_to_string(root.join(".ci/architecture"))?);
    let mut faults = Vec::new();
    for package in packages(&root)? {
        let host = package.directory.starts_with(root.join("host")) || package.name == "migrations";
        if host {
            faults.extend(rules.order(&package.name, &package.dependencies));
            let circles = modules::circles(&package.directory.join("src"))?;
            faults.extend(rules.circles(&package.name, &circles));
        }
        if !package.directory.starts_with(root.join("tests")) {
            faults.extend(rules.owners(&package.name, &package.dependencies));
        }
    }
    Ok(faults)
}

fn packages(root: &Path) -> io::Result<Vec<Package>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Ok(packages.iter().filter_map(package).collect())
}

fn package(package: &Value) -> Option<Package> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let short = |name: String| name.strip_prefix("isomer-").map(str::to_owned).unwrap_or(name);
    let dependencies = package.get("dependencies")?.as_array()?;
    Some(Package {
        name: short(text(package, "name")?),
        directory: Path::new(&text(package, "manifest_path")?).parent()?.to_owned(),
        dependencies: dependencies
            .iter()
            .filter(|dependency| dependency.get("kind").and_then(Value::as_str) != Some("dev"))
            .filter_map(|dependency| text(dependency, "name").map(short))
            .collect(),
    })
}
