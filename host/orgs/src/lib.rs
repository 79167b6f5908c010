//! Organizations from YAML templates.
//!
//! [`Orgs::templates`] lists templates, [`Orgs::import`] imports one. A template is read (`source`): a resolver
//! guest turns its `files` into one tree (`resolve`), which is decoded (`fields`, `decode`) into data
//! (`template`). Its required settings are checked (`requirements`). Defaults, prompts and `.env` files are
//! merged into each workspace (`assembler`), the actions are planned on the workspace index (`plan`), and one
//! change of the fleet executes them (`import`, with events in `context` and the answer in `report`).

#![forbid(unsafe_code)]

mod assembler;
mod blocking;
mod channels;
mod context;
mod cron;
mod decode;
mod documents;
mod env_file;
mod error;
mod fields;
mod files;
mod findings;
mod import;
mod import_permit;
mod json;
mod layout;
pub mod limits;
mod listing;
mod notes;
mod plan;
mod private_names;
mod report;
mod requirements;
mod resolve;
mod shown;
mod similar_path;
mod source;
mod template;
mod unsupported;
mod upload;
mod variables;

use std::{path::Path, sync::Arc};

use catalog::Catalog;
use fleet::Fleet;
use tokio::sync::Semaphore;

pub use channels::SkippedChannel;
pub use error::ImportError;
pub use fields::InvalidValue;
pub use files::{Files, SKIPPED_DIRECTORIES};
pub use import::Import;
pub use import_permit::ImportPermit;
pub use json::{JsonError, from_json};
pub use limits::Limits;
pub use listing::{InvalidReason, TemplateSummary};
pub use plan::Action;
pub use private_names::may_be_sent;
pub use report::{Imported, ImportedWorkspace, Mode, RemovedWorkspace};
pub use source::TemplateSource;
pub use template::Requirement;
pub use upload::{UploadError, unpack};
pub use variables::{OpenVariables, OpenVariablesError, ServerVariables};

/// Lists and imports organizations. Cheap to clone.
#[derive(Clone)]
pub struct Orgs {
    fleet: Fleet,
    catalog: Catalog,
    templates_dir: Arc<Path>,
    personas_dir: Arc<Path>,
    variables: ServerVariables,
    limits: Limits,
    imports: Arc<Semaphore>,
}

impl Orgs {
    /// `templates_dir` holds org templates, `personas_dir` the variables of personas. Both may be missing.
    /// `variables` are those of the server that templates may use.
    #[must_use]
    pub fn new(
        fleet: Fleet,
        catalog: Catalog,
        templates_dir: &Path,
        personas_dir: &Path,
        variables: ServerVariables,
        limits: Limits,
    ) -> Self {
        Self {
            fleet,
            catalog,
            templates_dir: templates_dir.into(),
            personas_dir: personas_dir.into(),
            variables,
            limits,
            imports: import_permit::permits(),
        }
    }
}
