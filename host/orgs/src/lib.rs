//! Organizations from YAML templates.
//!
//! [`Orgs::templates`] lists templates, [`Orgs::import`] imports one. A resolver guest turns a template's
//! `files` into one tree (`resolve`), which is decoded (`fields`, `decode`) into data (`template`). Its
//! required settings are checked (`requirements`). Defaults, prompts and `.env` files are merged into each
//! workspace (`assembler`), the actions are planned on the workspace index (`plan`), and one change of the
//! fleet executes them (`import`, with events in `context` and the answer in `report`).

#![forbid(unsafe_code)]

mod assembler;
mod context;
mod decode;
mod env_file;
mod error;
mod fields;
mod files;
mod import;
mod layout;
pub mod limits;
mod listing;
mod plan;
mod report;
mod requirements;
mod resolve;
mod template;
mod unsupported;
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
use types::SealedText;

pub use assembler::SkippedChannel;
pub use error::ImportError;
pub use fields::InvalidValue;
pub use files::Files;
pub use import::{Import, TemplateSource};
pub use limits::Limits;
pub use listing::{InvalidReason, TemplateSummary};
pub use plan::Action;
pub use report::{Imported, ImportedWorkspace, Mode, RemovedWorkspace};
pub use template::Requirement;
pub use upload::{UploadError, unpack};

use crate::{
    assembler::{Assembler, Assembly},
    files::normalize_path,
    resolve::{ResolveError, resolve},
    template::Org,
};

/// Lists and imports organizations. Cheap to clone.
#[derive(Clone)]
pub struct Orgs {
    fleet: Fleet,
    catalog: Catalog,
    templates_dir: Arc<Path>,
    personas_dir: Arc<Path>,
    limits: Limits,
}

impl Orgs {
    /// `templates_dir` holds org templates, `personas_dir` the variables of personas. Both may be missing.
    #[must_use]
    pub fn new(
        fleet: Fleet,
        catalog: Catalog,
        templates_dir: &Path,
        personas_dir: &Path,
        limits: Limits,
    ) -> Self {
        Self {
            fleet,
            catalog,
            templates_dir: templates_dir.into(),
            personas_dir: personas_dir.into(),
            limits,
        }
    }

    /// The files of one of the server's templates. None for a name that leads out of their directory.
    fn directory(&self, dir: &str) -> Option<Files> {
        let dir = normalize_path(dir).filter(|dir| !dir.as_os_str().is_empty())?;
        let root: PathBuf = self.templates_dir.join(dir);
        let containment_root =
            fs::canonicalize(&self.templates_dir).unwrap_or_else(|_| self.templates_dir.to_path_buf());
        Some(Files::Directory { root, containment_root })
    }

    /// Resolves and decodes a template.
    async fn template(&self, files: &Files) -> Result<Org, ImportError> {
        let resolved = resolve(&self.catalog.resolver().await, files).await;
        let tree = resolved.map_err(|error| match error {
            ResolveError::NoEntry => ImportError::NotFound,
            ResolveError::Problem(problem) => ImportError::Expansion(problem),
        })?;
        Ok(decode::org(&tree, self.limits)?)
    }

    /// Assembles every workspace of a template. It reads many files, so it runs off the async threads.
    async fn assemble(&self, org: Org, dir: String, files: Files, globals: HashSet<String>) -> Assembly {
        // Templates name any runtimes, by name or alias.
        self.catalog.all_ready().await;
        let orgs = self.clone();
        let assembly = tokio::task::spawn_blocking(move || {
            let seal = |plain: &[u8]| {
                let sealed = orgs.fleet.credentials().seal(plain).ok()?;
                Some(SealedText { sealed: BASE64_STANDARD.encode(sealed.bytes), version: sealed.version })
            };
            let assembler = Assembler {
                org: &org,
                dir: &dir,
                files: &files,
                runtimes: &orgs.catalog,
                default_tier: orgs.fleet.default_tier(),
                globals: &globals,
                personas: &orgs.personas_dir,
                seal: &seal,
            };
            assembler.assemble()
        });
        assembly.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }
}
