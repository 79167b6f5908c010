//! Organisations: templates in YAML, and what becomes of them.
//!
//! [`Orgs::templates`] lists, [`Orgs::import`] imports. A template's `files` are made one tree by a guest
//! (`resolve`), which is decoded (`fields`, `decode`) into data (`template`); its settings are checked
//! (`requirements`); defaults, prompts and `.env` files are merged into each workspace (`member`); what
//! is to happen is planned on memory (`plan`); and one change of the fleet does it (`import`).

#![forbid(unsafe_code)]

mod decode;
pub mod env_file;
mod error;
mod fields;
mod files;
mod import;
mod kept;
mod layout;
pub mod limits;
mod listing;
mod member;
mod plan;
mod requirements;
mod resolve;
mod template;
mod upload;
mod variables;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use catalog::Catalog;
use fleet::Fleet;
use serde_json::json;

pub use error::ImportError;
pub use fields::Invalid;
pub use files::Files;
pub use import::{From, Import, Imported, Placed, RECONCILE, Removed};
pub use limits::Limits;
pub use listing::{Broken, Listed};
pub use member::SkippedChannel;
pub use plan::Fate;
pub use requirements::{Requirement, Requirements};
pub use upload::{UploadError, unpack};

use crate::{
    files::clean,
    member::{Members, Resolver},
    resolve::{Unresolved, resolve},
    template::Org,
};

/// Imports organisations. Cheap to clone.
#[derive(Clone)]
pub struct Orgs {
    fleet: Fleet,
    catalog: Catalog,
    root: Arc<Path>,
    personas: Arc<Path>,
    limits: Limits,
}

impl Orgs {
    /// `root`: where templates lie; `personas`: where variables of personas do. Neither need be there.
    #[must_use]
    pub fn new(fleet: Fleet, catalog: Catalog, root: &Path, personas: &Path, limits: Limits) -> Self {
        Self { fleet, catalog, root: root.into(), personas: personas.into(), limits }
    }

    /// The files of a template among the server's own; none if no directory can be called that.
    fn directory(&self, dir: &str) -> Option<Files> {
        let clean = clean(dir).filter(|clean| !clean.as_os_str().is_empty())?;
        let root: PathBuf = self.root.join(clean);
        let bound = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.to_path_buf());
        Some(Files::Directory { root, bound })
    }

    /// What the files of a template say.
    async fn template(&self, files: &Files) -> Result<Org, ImportError> {
        let resolved = resolve(&self.catalog.resolver().await, files).await;
        let tree = resolved.map_err(|error| match error {
            Unresolved::NoEntry => ImportError::NotFound,
            Unresolved::Problem(problem) => ImportError::Expansion(problem),
        })?;
        Ok(decode::org(&tree, self.limits)?)
    }

    /// What every workspace of a template is to be. Reads many files, so off the async threads.
    async fn members(&self, org: Org, dir: String, files: Files, globals: HashSet<String>) -> Members {
        // Templates name any runtimes, by name or alias.
        self.catalog.all_ready().await;
        let orgs = self.clone();
        let members = tokio::task::spawn_blocking(move || {
            let seal = |plain: &[u8]| {
                let sealed = orgs.fleet.seal(plain).ok()?;
                Some(json!({ "sealed": BASE64_STANDARD.encode(sealed.bytes), "version": sealed.version }))
            };
            let resolver = Resolver {
                org: &org,
                dir: &dir,
                files: &files,
                runtimes: &orgs.catalog,
                tier: orgs.fleet.default_tier(),
                globals: &globals,
                personas: &orgs.personas,
                seal: &seal,
            };
            resolver.members()
        });
        members.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }
}
