//! From a template's files to one tree: the resolver asks for files, and is answered or refused, until
//! it is done.

use std::collections::HashSet;

use catalog::TemplateResolver;
use wasm::{
    Problem,
    template::{Answer, Expansion, KnownFile, Progress, Tree},
};

use crate::{
    files::{ENTRIES, Files},
    limits::{RESOLVED_BYTES, RESOLVED_FILES, ROUNDS},
};

/// Why there is no tree.
#[derive(Debug)]
pub(crate) enum Unresolved {
    /// There is nothing that a template could begin with.
    NoEntry,
    /// Its author has something to mend.
    Problem(Problem),
}

/// Resolves a template.
pub(crate) async fn resolve(resolver: &TemplateResolver, files: &Files) -> Result<Tree, Unresolved> {
    let (entry, answer) = read(files, begin).await;
    if answer == Answer::Missing {
        return Err(Unresolved::NoEntry);
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
        match resolver.expand(&request).await {
            Progress::Done(tree) => return Ok(tree),
            Progress::Failed(problem) => return Err(Unresolved::Problem(problem)),
            Progress::Need(paths) => {
                let known: HashSet<&str> = request.files.iter().map(|file| file.path.as_str()).collect();
                if paths.is_empty() || paths.iter().any(|path| known.contains(path.as_str())) {
                    return Err(problem(entry, "the resolver asks for what it knows already"));
                }
                let answered = read(files, move |files| {
                    let answer = |path: String| KnownFile { answer: files.answer(&path), path };
                    paths.into_iter().map(answer).collect::<Vec<_>>()
                });
                request.files.extend(answered.await);
                let bytes: usize = request.files.iter().map(size).sum();
                if bytes > RESOLVED_BYTES || request.files.len() > RESOLVED_FILES {
                    let limit = format!(
                        "the template has more than {RESOLVED_FILES} files or {} MiB",
                        RESOLVED_BYTES >> 20
                    );
                    return Err(problem(entry, &limit));
                }
            }
        }
    }
    Err(problem(
        entry,
        &format!("includes are nested so that {ROUNDS} rounds of reading don't find all files"),
    ))
}

/// The file to begin with, and what it says.
fn begin(files: &Files) -> (&'static str, Answer) {
    let [first, ..] = ENTRIES;
    let mut answers = ENTRIES.iter().map(|entry| (*entry, files.answer(entry)));
    answers.find(|(_, answer)| *answer != Answer::Missing).unwrap_or((first, Answer::Missing))
}

/// Reads off the async threads.
async fn read<T: Send + 'static>(files: &Files, read: impl FnOnce(&Files) -> T + Send + 'static) -> T {
    let files = files.clone();
    let read = tokio::task::spawn_blocking(move || read(&files)).await;
    read.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

fn size(file: &KnownFile) -> usize {
    match &file.answer {
        Answer::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

fn problem(entry: &str, message: &str) -> Unresolved {
    Unresolved::Problem(Problem { at: Some(entry.to_owned()), message: message.to_owned() })
}
