//! From a template's files to one tree: the resolver guest asks for files in rounds until it is done or
//! has failed.

use std::collections::HashSet;

use catalog::{NoAnswer, TemplateResolver};
use wasm::{
    Problem,
    template::{Answer, Expansion, KnownFile, Progress, Tree},
};

use crate::{
    blocking::off_async_threads,
    files::{ENTRIES, Files},
    limits::{RESOLVED_BYTES, RESOLVED_FILES, ROUNDS},
};

/// Why a template has no tree.
#[derive(Debug)]
pub(crate) enum ResolveError {
    /// The template has neither `org.yaml` nor `org.yml`.
    NoEntry {
        /// A file whose name nearly is one of these.
        similar: Option<String>,
    },
    /// The template's author has to change something.
    Problem(Problem),
    /// The resolver gave no answer.
    NoAnswer(NoAnswer),
}

/// A template's tree, and the files that it was made of.
pub(crate) struct Resolved {
    pub(crate) tree: Tree,
    /// Path and content of each file.
    pub(crate) texts: Vec<(String, Vec<u8>)>,
}

/// Resolves a template.
pub(crate) async fn resolve(resolver: &TemplateResolver, files: &Files) -> Result<Resolved, ResolveError> {
    let (entry, answer) = read(files, read_entry).await;
    if answer == Answer::Missing {
        return Err(ResolveError::NoEntry { similar: read(files, Files::similar_entry).await });
    }
    if let Answer::Refused(reason) = answer {
        return Err(problem(entry, &reason));
    }
    let mut request = Expansion {
        entry: entry.to_owned(),
        has_directory: files.has_directory(),
        files: vec![KnownFile { path: entry.to_owned(), answer }],
    };
    for _ in 0..ROUNDS {
        match resolver.expand(&request).await.map_err(ResolveError::NoAnswer)? {
            Progress::Done(tree) => {
                let texts = request.files.into_iter().filter_map(|file| match file.answer {
                    Answer::Bytes(bytes) => Some((file.path, bytes)),
                    Answer::Missing | Answer::Refused(_) => None,
                });
                return Ok(Resolved { tree, texts: texts.collect() });
            }
            Progress::Failed(problem) => return Err(ResolveError::Problem(problem)),
            Progress::Need(paths) => {
                let known: HashSet<&str> = request.files.iter().map(|file| file.path.as_str()).collect();
                if paths.is_empty() || paths.iter().any(|path| known.contains(path.as_str())) {
                    return Err(problem(entry, "the resolver asks for files that it has already"));
                }
                let files_left = RESOLVED_FILES.saturating_sub(request.files.len());
                let bytes_left = RESOLVED_BYTES.saturating_sub(request.files.iter().map(size).sum());
                let answered = read(files, move |files| answers(files, paths, files_left, bytes_left)).await;
                request.files.extend(answered.ok_or_else(|| {
                    let mib = RESOLVED_BYTES >> 20;
                    problem(entry, &format!("the template has more than {RESOLVED_FILES} files or {mib} MiB"))
                })?);
            }
        }
    }
    Err(problem(
        entry,
        &format!("includes are nested so that {ROUNDS} rounds of reading don't find all files"),
    ))
}

/// The template's first file with its content.
fn read_entry(files: &Files) -> (&'static str, Answer) {
    let [first, ..] = ENTRIES;
    let mut answers = ENTRIES.iter().map(|entry| (*entry, files.answer(entry)));
    answers.find(|(_, answer)| *answer != Answer::Missing).unwrap_or((first, Answer::Missing))
}

/// Reads the files at `paths`. None as soon as they are more than is left: what a resolver asks for in one
/// round may be gigabytes.
fn answers(
    files: &Files,
    paths: Vec<String>,
    files_left: usize,
    mut bytes_left: usize,
) -> Option<Vec<KnownFile>> {
    if paths.len() > files_left {
        return None;
    }
    let mut known = Vec::with_capacity(paths.len());
    for path in paths {
        let file = KnownFile { answer: files.answer(&path), path };
        bytes_left = bytes_left.checked_sub(size(&file))?;
        known.push(file);
    }
    Some(known)
}

/// Reads off the async threads.
async fn read<T: Send + 'static>(files: &Files, read: impl FnOnce(&Files) -> T + Send + 'static) -> T {
    let files = files.clone();
    off_async_threads(move || read(&files)).await
}

fn size(file: &KnownFile) -> usize {
    match &file.answer {
        Answer::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

fn problem(entry: &str, message: &str) -> ResolveError {
    ResolveError::Problem(Problem { at: Some(entry.to_owned()), message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn reading_stops_at_the_limits() {
        let files = ["a", "b", "c"].map(|name| (name.to_owned(), Bytes::from_static(b"1234")));
        let files = Files::in_memory(files.into());
        let read =
            |count, bytes| answers(&files, ["a", "b", "none", "c"].map(str::to_owned).into(), count, bytes);
        assert_eq!(read(4, 12).map(|known| known.len()), Some(4));
        assert_eq!(read(3, 12), None);
        assert_eq!(read(4, 11), None);
    }
}
