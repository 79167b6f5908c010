//! Why a template could not be imported.

use store::StoreError;
use wasm::Problem;

use crate::{fields::Invalid, requirements::Requirement, upload::UploadError};

/// Why an import did not begin. Nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The template's directory can't be called that.
    #[error("invalid org directory")]
    Directory,
    /// There is no such template.
    #[error("org template not found")]
    NotFound,
    /// What was sent along is no template directory.
    #[error("invalid org archive")]
    Upload(#[from] UploadError),
    /// Its files don't make a tree.
    #[error("org template expansion failed")]
    Expansion(Problem),
    /// A value of it isn't of its field's type.
    #[error("invalid org template")]
    Template(#[from] Invalid),
    /// There is neither a directory nor a template with a name.
    #[error("provide 'dir' or 'template'")]
    Nothing,
    /// It could not be found out which settings there are.
    #[error("could not verify required environment variables; try again")]
    Settings(#[source] StoreError),
    /// Settings are missing.
    #[error("missing required environment variables")]
    MissingEnv {
        /// Those.
        missing: Vec<Requirement>,
        /// All that are required.
        required: Vec<Requirement>,
        /// What the template is called.
        template: String,
    },
}

impl ImportError {
    /// What its author has to mend, and where; none where the error itself says it all.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        let at = |at: &Option<String>, text: String| match at {
            Some(at) => format!("{at}: {text}"),
            None => text,
        };
        match self {
            Self::Upload(error) => Some(error.to_string()),
            Self::Expansion(problem) => Some(at(&problem.at, problem.message.clone())),
            Self::Template(invalid) => Some(at(&invalid.at, invalid.to_string())),
            _ => None,
        }
    }
}
