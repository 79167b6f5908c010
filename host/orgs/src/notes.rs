//! Remarks to a template's author: sentences, of which a few are kept and the rest is counted.

use crate::shown::shown_within;

/// Sentences that are kept.
const MAX_NOTES: usize = 50;

/// Bytes of a sentence at most: names of a template may have a megabyte.
const SENTENCE_BYTES: usize = 1 << 10;

/// What an author should look at, though it prevents nothing.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    sentences: Vec<String>,
    more: usize,
}

impl Notes {
    pub(crate) fn add(&mut self, sentence: impl FnOnce() -> String) {
        if self.sentences.len() < MAX_NOTES {
            self.sentences.push(shown_within(&sentence(), SENTENCE_BYTES));
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn sentences(&self) -> impl Iterator<Item = String> {
        let more = (self.more > 0).then(|| format!("and {} more remarks of this kind", self.more));
        self.sentences.iter().cloned().chain(more)
    }
}
