//! Where a template comes from, and how it becomes data: its files are found, resolved to one tree, decoded.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use serde_json::Value as Json;
use wasm::Problem;

use crate::{
    Orgs,
    blocking::off_async_threads,
    decode, documents,
    error::ImportError,
    fields::InvalidValue,
    files::{Files, normalize_path},
    limits::{DIRECTORY_BYTES, INLINE_VALUES},
    notes::Notes,
    resolve::{ResolveError, Resolved, resolve},
    shown::shown,
    template::Org,
    upload,
};

/// Where a template is.
#[derive(Debug)]
pub enum TemplateSource {
    /// In a directory among the server's templates.
    Directory(String),
    /// In the request, as JSON.
    Inline(Json),
    /// In a tar archive.
    Archive(Bytes),
}

/// A template that was read.
pub(crate) struct Template {
    /// Its directory as the client named it; empty for inline and uploaded templates.
    pub(crate) dir: String,
    pub(crate) files: Files,
    pub(crate) org: Org,
}

/// How deeply workspaces are nested is counted in three places, of which the author need not know: by the reader of
/// JSON, by the resolver of YAML, and by the decoder of both.
fn refused(problem: Problem) -> ImportError {
    let Problem { at, message } = problem;
    // Not by a part of it: a file of the template may have any name.
    match message.starts_with("nested more than ")
        && message.ends_with(" deep; workspaces may be nested 64 deep")
    {
        true => ImportError::Template(InvalidValue { at, path: String::new(), message }),
        false => ImportError::Expansion(Problem { at, message }),
    }
}

impl Orgs {
    /// Reads a template.
    pub(crate) async fn read(&self, source: TemplateSource) -> Result<Template, ImportError> {
        let (dir, files) = match source {
            TemplateSource::Inline(template) => {
                // Decoding may be a second of work.
                let limits = self.limits;
                if decode::exceeds(&template, INLINE_VALUES) {
                    let message = format!("it has more than {INLINE_VALUES} values");
                    return Err(InvalidValue { at: None, path: "template".to_owned(), message }.into());
                }
                let decoded = off_async_threads(move || decode::org(&decode::tree(&template), limits)).await;
                let org = decoded?;
                if org.name.is_empty() {
                    return Err(ImportError::MissingSource);
                }
                return Ok(Template { dir: String::new(), files: Files::none(), org });
            }
            TemplateSource::Directory(dir) => {
                // It is stored with each workspace.
                let files = (dir.len() <= DIRECTORY_BYTES).then(|| self.directory(&dir)).flatten();
                let files = files.ok_or(ImportError::Directory)?;
                (dir, files)
            }
            TemplateSource::Archive(archive) => {
                // Unpacking may be 32 MiB of work.
                (String::new(), off_async_threads(move || upload::unpack(&archive)).await?)
            }
        };
        let org = self.template(&files).await?;
        Ok(Template { dir, files, org })
    }

    /// The files of one of the server's templates. None for a name that leads out of their directory.
    pub(crate) fn directory(&self, dir: &str) -> Option<Files> {
        let dir = normalize_path(dir).filter(|dir| !dir.as_os_str().is_empty())?;
        let root: PathBuf = self.templates_dir.join(dir);
        let containment_root =
            fs::canonicalize(&self.templates_dir).unwrap_or_else(|_| self.templates_dir.to_path_buf());
        Some(Files::directory(root, containment_root))
    }

    /// Resolves and decodes a template.
    pub(crate) async fn template(&self, files: &Files) -> Result<Org, ImportError> {
        let resolved = resolve(&self.catalog.resolver().await, files).await;
        let Resolved { tree, texts } = resolved.map_err(|error| match error {
            ResolveError::NoEntry { similar } => ImportError::NotFound { similar },
            ResolveError::Problem(problem) => refused(problem),
            ResolveError::NoAnswer(why) => ImportError::Unresolved(why),
        })?;
        let limits = self.limits;
        off_async_threads(move || {
            if let Some(problem) = decode::external(&tree) {
                return Err(ImportError::Expansion(problem));
            }
            let mut org = decode::org(&tree, limits)?;
            let mut notes = Notes::default();
            for (path, bytes) in &texts {
                if let Some(line) = documents::second(&String::from_utf8_lossy(bytes)) {
                    let warning = "a second document begins here; a file of a template is one document, and the \
                                   rest is ignored";
                    notes.add(|| format!("{}:{line}:1: {warning}", shown(path)));
                }
            }
            org.warnings.extend(notes.sentences());
            Ok(org)
        })
        .await
    }
}
