//! Why a template could not be imported.

use catalog::{NoAnswer, UndecidedRuntime};
use store::StoreError;
use wasm::Problem;

use crate::{
    fields::{InvalidValue, with_place},
    files::entry_hint,
    json::JsonError,
    shown::shown_within,
    template::Requirement,
    upload::UploadError,
};

/// Bytes of a detail at most: what a resolver, or a long value, says is not repeated without limit.
const DETAIL_BYTES: usize = 4 << 10;

/// Why an import did not begin. Nothing was created. The texts go to clients as they are.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Other imports are under way.
    #[error("other imports are under way; try again later")]
    Busy,
    /// The directory name is empty, absolute, or leads out of the templates' directory.
    #[error("invalid org directory")]
    Directory,
    /// The templates' directory has no such template.
    #[error("org template not found")]
    NotFound {
        /// A file of the directory whose name nearly is that of a template.
        similar: Option<String>,
    },
    /// The uploaded archive is not a template directory.
    #[error("invalid org archive")]
    Upload(#[from] UploadError),
    /// The template's files can't be resolved to one tree.
    #[error("org template expansion failed")]
    Expansion(Problem),
    /// The guest that resolves templates gave no answer.
    #[error("org template expansion failed")]
    Unresolved(NoAnswer),
    /// It is not known yet whether the runtime of a workspace exists.
    #[error(transparent)]
    Undecided(#[from] UndecidedRuntime),
    /// The tree has a value that its field does not take.
    #[error("invalid org template")]
    Template(#[from] InvalidValue),
    /// The inline template is nested deeper than any template.
    #[error("invalid org template")]
    Nesting(#[source] JsonError),
    /// The request has neither a directory nor a template with a name.
    #[error("provide 'dir' or 'template'")]
    MissingSource,
    /// The global settings could not be read.
    #[error("could not verify required environment variables; try again")]
    SettingsLookup(#[source] StoreError),
    /// Required settings are missing.
    #[error("missing required environment variables")]
    MissingEnv {
        /// The unmet requirements.
        missing: Vec<Requirement>,
        /// All requirements of the template.
        required: Vec<Requirement>,
        /// Name of the template.
        template: String,
        /// Where the template asks for them; none for an inline template.
        detail: Option<String>,
    },
}

impl ImportError {
    /// What the template's author has to change, with its place; none where the error itself is enough.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        let detail = match self {
            Self::NotFound { similar } => {
                similar.as_deref().map(|similar| format!("there is no org.yaml{}", entry_hint(Some(similar))))
            }
            Self::Upload(error) => Some(error.to_string()),
            Self::Unresolved(why) => Some(why.to_string()),
            Self::Expansion(problem) => Some(with_place(problem.at.as_ref(), &problem.message)),
            Self::Template(invalid) => Some(with_place(invalid.at.as_ref(), &invalid.to_string())),
            Self::Nesting(error) => Some(error.to_string()),
            Self::MissingEnv { detail, .. } => detail.clone(),
            _ => None,
        };
        detail.map(|detail| shown_within(&detail, DETAIL_BYTES))
    }
}
