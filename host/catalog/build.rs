//! Builds the first-party guests and writes the table of their rows, with the components inside the
//! binary.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// A row of `guests/first-party.yaml`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    component: String,
    world: String,
    trusted: bool,
    #[serde(default)]
    pooled: bool,
    settings: serde_json::Map<String, serde_json::Value>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let workspace = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for input in ["guests", "wit", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }

    let rows: Vec<Row> =
        serde_yaml::from_str(&fs::read_to_string(workspace.join("guests/first-party.yaml"))?)?;
    let mut components: Vec<&str> = rows.iter().map(|row| row.component.as_str()).collect();
    components.sort_unstable();
    components.dedup();
    let files = guest_build::build(&workspace, &guest_build::target_dir(&out), &components)?;
    // Copies, because builds of other guests (tests, benches) write to the same place, and shared
    // dependencies built with other features make other bytes.
    let mut copies: BTreeMap<&str, (PathBuf, String)> = BTreeMap::new();
    for (component, file) in components.iter().copied().zip(files) {
        let bytes = fs::read(file)?;
        let copy = out.join(format!("{component}.wasm"));
        fs::write(&copy, &bytes)?;
        copies.insert(component, (copy, hex::encode(Sha256::digest(&bytes))));
    }

    let mut table = String::from("&[\n");
    for row in &rows {
        let (file, digest) = copies.get(row.component.as_str()).ok_or("a row's component was not built")?;
        writeln!(
            table,
            "Row {{ name: {:?}, component: {:?}, world: {:?}, trusted: {}, pooled: {}, settings: {:?}, digest: {digest:?}, bytes: include_bytes!({:?}) }},",
            row.name,
            row.component,
            row.world,
            row.trusted,
            row.pooled,
            serde_json::to_string(&row.settings)?,
            file.display().to_string(),
        )?;
    }
    table.push_str("]\n");
    fs::write(out.join("first_party.rs"), table)?;
    Ok(())
}
