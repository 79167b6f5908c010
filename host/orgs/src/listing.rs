//! Lists the templates of the server.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    Orgs, decode::count, error::ImportError, files::SKIPPED_DIRECTORIES, requirements::Requirements,
    template::Requirement,
};

/// A template that can be imported, or an invalid one with the reason.
#[derive(Debug, Serialize)]
pub struct TemplateSummary {
    /// The template's own words for users who choose one.
    pub description: String,
    /// Name of the template's directory, by which it is imported.
    pub dir: String,
    /// What is wrong with an invalid template, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Name of the organization.
    pub name: String,
    /// What is wrong with an invalid template, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<InvalidReason>,
    /// Settings whose absence is no obstacle.
    pub recommended_env: Vec<Requirement>,
    /// Settings without which the import is refused.
    pub required_env: Vec<Requirement>,
    /// Workspaces of all levels, those with `spawning: false` included.
    pub workspaces: usize,
}

/// Why a template can't be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidReason {
    /// A git repository without a checked-out template.
    HalfCheckout,
    /// The files can't be resolved to one tree.
    IncludeExpansionFailed,
    /// A value is not of its field's type.
    YamlInvalid,
}

impl Orgs {
    /// Every template, sorted by directory. Invalid ones are logged, and listed with `include_invalid`.
    ///
    /// # Errors
    /// If imports keep it waiting for too long, or the guest that resolves templates is busy or out of service.
    pub async fn templates(&self, include_invalid: bool) -> Result<Vec<TemplateSummary>, ImportError> {
        let _permit = self.import_permit().await?;
        let root = self.templates_dir.clone();
        let directories = tokio::task::spawn_blocking(move || directories(&root)).await.unwrap_or_default();
        let mut listed = Vec::new();
        for dir in directories {
            let summary = self.summary(dir).await?;
            listed.extend(summary.filter(|it| include_invalid || it.reason.is_none()));
        }
        Ok(listed)
    }

    /// None for a directory without a template.
    async fn summary(&self, dir: String) -> Result<Option<TemplateSummary>, ImportError> {
        let Some(files) = self.directory(&dir) else { return Ok(None) };
        let invalid = |reason, error: &ImportError| TemplateSummary {
            description: String::new(),
            dir: dir.clone(),
            error: Some(error.detail().unwrap_or_else(|| error.to_string())),
            name: dir.clone(),
            reason: Some(reason),
            recommended_env: Vec::new(),
            required_env: Vec::new(),
            workspaces: 0,
        };
        let summary = match self.template(&files).await {
            Ok(org) => {
                let requirements = Requirements::of(&org);
                TemplateSummary {
                    workspaces: count(&org.workspaces),
                    description: org.description,
                    error: None,
                    name: org.name,
                    reason: None,
                    recommended_env: requirements.recommended(),
                    required_env: requirements.required(),
                    dir,
                }
            }
            Err(error @ ImportError::NotFound { .. })
                if self.templates_dir.join(&dir).join(".git").exists() =>
            {
                invalid(InvalidReason::HalfCheckout, &error)
            }
            Err(ImportError::NotFound { .. }) => return Ok(None),
            // That says nothing of the template.
            Err(ImportError::Unresolved(why)) if why.is_transient() => {
                return Err(ImportError::Unresolved(why));
            }
            Err(error @ (ImportError::Expansion(_) | ImportError::Unresolved(_))) => {
                invalid(InvalidReason::IncludeExpansionFailed, &error)
            }
            Err(error) => invalid(InvalidReason::YamlInvalid, &error),
        };
        if let Some(error) = &summary.error {
            tracing::warn!(template = summary.dir, reason = ?summary.reason, error, "an org template is invalid");
        }
        Ok(Some(summary))
    }
}

/// Sorted names of the directories in `root`. Links to directories don't count.
fn directories(root: &Path) -> Vec<String> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            let name = entry.file_name().into_string();
            let name = name.ok().filter(|name| !SKIPPED_DIRECTORIES.contains(&name.as_str()));
            if entry.file_type()?.is_dir() {
                names.extend(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    read().unwrap_or_else(|error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        if !missing {
            tracing::warn!(root = %PathBuf::from(root).display(), %error, "org templates can't be listed");
        }
        Vec::new()
    })
}
