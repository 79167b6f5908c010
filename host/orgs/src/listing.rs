//! The templates that there are.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use futures::{StreamExt as _, stream};
use serde::Serialize;

use crate::{
    Orgs,
    decode::count,
    error::ImportError,
    requirements::{Requirement, Requirements},
};

/// Templates that are read side by side.
const AT_ONCE: usize = 4;

/// A template that can be imported, or one that can't with the reason.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// What it is for, for people who choose one.
    pub description: String,
    /// Name of its directory: what an import is asked with.
    pub dir: String,
    /// What is wrong with it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the organisation is called.
    pub name: String,
    /// The same, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Broken>,
    /// Settings without which it works less well.
    pub recommended_env: Vec<Requirement>,
    /// Settings without which it can't be imported.
    pub required_env: Vec<Requirement>,
    /// Its workspaces, those that are only drawn too.
    pub workspaces: usize,
}

/// What is wrong with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// A repository of which nothing was checked out.
    HalfCheckout,
    /// Its files don't make a tree.
    IncludeExpansionFailed,
    /// A value of it isn't of its field's type.
    YamlInvalid,
}

impl Orgs {
    /// Every template, by the name of its directory. Those that can't be imported are in the log, and in
    /// the list where that is asked for.
    pub async fn templates(&self, broken_too: bool) -> Vec<Listed> {
        let root = self.root.clone();
        let directories = tokio::task::spawn_blocking(move || directories(&root)).await.unwrap_or_default();
        let listed = stream::iter(directories).map(|dir| self.listed(dir)).buffered(AT_ONCE);
        let shown = listed.filter_map(async |listed| listed.filter(|it| broken_too || it.reason.is_none()));
        shown.collect().await
    }

    /// None for a directory that is no template at all.
    async fn listed(&self, dir: String) -> Option<Listed> {
        let files = self.directory(&dir)?;
        let broken = |reason, error: &ImportError| Listed {
            description: String::new(),
            dir: dir.clone(),
            error: Some(error.detail().unwrap_or_else(|| error.to_string())),
            name: dir.clone(),
            reason: Some(reason),
            recommended_env: Vec::new(),
            required_env: Vec::new(),
            workspaces: 0,
        };
        let read = self.template(&files).await;
        let listed = match read {
            Ok(org) => {
                let Requirements { required, recommended } = Requirements::of(&org);
                Listed {
                    workspaces: count(&org.workspaces),
                    description: org.description,
                    error: None,
                    name: org.name,
                    reason: None,
                    recommended_env: recommended,
                    required_env: required,
                    dir,
                }
            }
            Err(error @ ImportError::NotFound) if self.root.join(&dir).join(".git").exists() => {
                broken(Broken::HalfCheckout, &error)
            }
            Err(ImportError::NotFound) => return None,
            Err(error @ ImportError::Expansion(_)) => broken(Broken::IncludeExpansionFailed, &error),
            Err(error) => broken(Broken::YamlInvalid, &error),
        };
        if let Some(error) = &listed.error {
            tracing::warn!(template = listed.dir, reason = ?listed.reason, error, "an org template is not listed");
        }
        Some(listed)
    }
}

/// Names of the directories in a directory, sorted. Links are none.
fn directories(root: &Path) -> Vec<String> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
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
