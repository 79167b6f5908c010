//! Known runtimes: names and aliases of every adapter that is or was in service, and the names in the platform's
//! manifest.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use local_files::SETTINGS_BYTES;
use serde::Deserialize;
use wasm::adapter::Description;

/// Runtime that replaces an unknown one.
pub const FALLBACK: &str = "claude-code";

/// Paths of the manifest, tried in this order when no setting names one.
const PLACES: [&str; 4] = ["/app/manifest.json", "manifest.json", "../manifest.json", "../../manifest.json"];

/// Names in the platform's manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest(BTreeSet<String>);

#[derive(Deserialize)]
struct ManifestFile {
    workspace_templates: Vec<Template>,
}

#[derive(Deserialize)]
struct Template {
    #[serde(default)]
    name: String,
}

impl Manifest {
    /// Reads the manifest at `path`, else at the usual places. A missing or unreadable one is an
    /// empty one: the active adapters are the full list then.
    #[must_use]
    pub fn load(path: Option<&Path>) -> Self {
        let places = path.map_or_else(|| PLACES.map(PathBuf::from).to_vec(), |path| vec![path.to_owned()]);
        for place in places {
            let read = local_files::read(&place, SETTINGS_BYTES);
            match read.and_then(|bytes| Ok(Self::parse(&bytes)?)) {
                Ok(manifest) => return manifest,
                Err(error) if error.is_missing() && path.is_none() => {}
                Err(error) => {
                    tracing::warn!(path = %place.display(), %error, "the runtime manifest can't be read and is ignored");
                    return Self::default();
                }
            }
        }
        Self::default()
    }

    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let file: ManifestFile = serde_json::from_slice(bytes)?;
        let names = file.workspace_templates.into_iter().map(|template| {
            let name = template.name.trim();
            name.strip_suffix("-default").unwrap_or(name).to_owned()
        });
        Ok(Self(names.filter(|name| !name.is_empty()).collect()))
    }
}

/// Guests by runtime.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runtimes {
    guests: BTreeMap<String, Known>,
    known: BTreeSet<String>,
}

/// What is known of a runtime.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Name of the guest that it belongs to, in service or not.
    pub(crate) guest: String,
    /// What that guest says, or said last.
    pub(crate) description: Arc<Description>,
}

impl Runtimes {
    /// `guests` are names and aliases with the guest that they belong to.
    pub(crate) fn new(manifest: &Manifest, guests: BTreeMap<String, Known>) -> Self {
        let known = manifest.0.iter().chain(guests.keys()).cloned().collect();
        Self { guests, known }
    }

    pub(crate) fn get(&self, runtime: &str) -> Option<&Known> {
        self.guests.get(runtime)
    }

    pub(crate) fn guest(&self, runtime: &str) -> Option<&str> {
        self.get(runtime).map(|known| known.guest.as_str())
    }

    pub(crate) fn is_known(&self, runtime: &str) -> bool {
        self.known.contains(runtime.trim())
    }

    pub(crate) fn known(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(String::as_str)
    }

    /// The runtime itself if it is known, else [`FALLBACK`].
    pub(crate) fn sanitize<'a>(&'a self, runtime: &str) -> &'a str {
        self.known.get(runtime.trim()).map_or(FALLBACK, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtimes(manifest: &str, answered: &[&str]) -> Runtimes {
        let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
        let known = |name: &str| Known {
            guest: name.to_owned(),
            description: Arc::new(crate::defaults::description(name)),
        };
        Runtimes::new(&manifest, answered.iter().map(|&name| (name.to_owned(), known(name))).collect())
    }

    #[test]
    fn a_manifest_adds_names_without_their_suffix() {
        let runtimes = runtimes(
            r#"{"workspace_templates": [{"name": "claude-code-default"}, {"name": " "}, {"name": "letta"}, {}]}"#,
            &["mock"],
        );
        assert_eq!(runtimes.known().collect::<Vec<_>>(), ["claude-code", "letta", "mock"]);
    }

    #[test]
    fn an_unknown_runtime_is_sanitized() {
        let runtimes = runtimes(r#"{"workspace_templates": [{"name": "letta"}]}"#, &["mock"]);
        for (given, sane) in [("mock", "mock"), (" letta ", "letta"), ("", FALLBACK), ("unknown", FALLBACK)] {
            assert_eq!(runtimes.sanitize(given), sane, "{given:?}");
        }
    }

    #[test]
    fn a_broken_manifest_is_an_empty_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{").unwrap();
        assert_eq!(Manifest::load(Some(file.path())), Manifest::default());
    }
}
