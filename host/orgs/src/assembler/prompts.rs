//! Texts of prompts: inline, from files, or of the defaults. Each file is read once, and each text is held once,
//! however many workspaces have it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
};

use local_files::shown_size;
use types::SharedText;

use crate::{
    fields::{Marks, with_place},
    files::{Files, normalize_in, shown_path},
    limits::PROMPT_BYTES,
    notes::Notes,
    template::{Defaults, Node, Prompt, Prompts},
};

/// One of the two prompts of an agent.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    prompt: fn(&Prompts) -> &Prompt,
    file_field: &'static str,
}

pub(super) const INITIAL: Kind =
    Kind { prompt: |prompts| &prompts.initial, file_field: "initial_prompt_file" };
pub(super) const IDLE: Kind = Kind { prompt: |prompts| &prompts.idle, file_field: "idle_prompt_file" };

/// The texts of one template.
pub(super) struct PromptTexts<'a> {
    files: &'a Files,
    defaults: &'a Defaults,
    /// By path.
    read: RefCell<HashMap<String, Option<SharedText>>>,
    /// Bytes read so far.
    bytes: Cell<usize>,
    trimmed: RefCell<HashMap<String, Option<SharedText>>>,
    default_initial: OnceCell<Option<SharedText>>,
    default_idle: OnceCell<Option<SharedText>>,
}

impl<'a> PromptTexts<'a> {
    pub(super) fn new(files: &'a Files, defaults: &'a Defaults) -> Self {
        Self {
            files,
            defaults,
            read: RefCell::default(),
            bytes: Cell::default(),
            trimmed: RefCell::default(),
            default_initial: OnceCell::new(),
            default_idle: OnceCell::new(),
        }
    }

    /// A prompt of a node: inline, else from the file, else the same two of the defaults.
    pub(super) fn prompt(&self, kind: Kind, node: &Node, notes: &mut Notes) -> Option<SharedText> {
        let own = self.text(kind, &node.prompts, &node.files_dir, &node.marks, notes);
        own.or_else(|| self.default(kind, notes))
    }

    fn default(&self, kind: Kind, notes: &mut Notes) -> Option<SharedText> {
        let cell =
            if kind.file_field == INITIAL.file_field { &self.default_initial } else { &self.default_idle };
        let defaults = self.defaults;
        cell.get_or_init(|| self.text(kind, &defaults.prompts, "", &defaults.marks, notes)).clone()
    }

    fn text(
        &self,
        kind: Kind,
        prompts: &Prompts,
        directory: &str,
        marks: &Marks,
        notes: &mut Notes,
    ) -> Option<SharedText> {
        let prompt = (kind.prompt)(prompts);
        if let Some(inline) = trimmed(&prompt.text) {
            return Some(inline);
        }
        let key = key(directory, &prompt.file);
        if let Some(known) = self.trimmed.borrow().get(&key) {
            return known.clone();
        }
        let text = self.file(directory, &prompt.file, kind.file_field, marks, notes);
        let text = text.as_deref().and_then(trimmed);
        self.trimmed.borrow_mut().insert(key, text.clone());
        text
    }

    /// The text of a file, as it is. None for no file, for one that can't be read, which is noted, and for a
    /// blank one.
    pub(super) fn file(
        &self,
        directory: &str,
        path: &str,
        field: &'static str,
        marks: &Marks,
        notes: &mut Notes,
    ) -> Option<SharedText> {
        if path.is_empty() || !self.files.has_directory() {
            return None;
        }
        let key = key(directory, path);
        if let Some(known) = self.read.borrow().get(&key) {
            return known.clone();
        }
        let text = if self.bytes.get() > PROMPT_BYTES {
            Err(format!("the files of all prompts have more than {}", shown_size(PROMPT_BYTES as u64)))
        } else {
            self.files.text(directory, path)
        };
        self.bytes.update(|bytes| bytes + text.as_ref().map_or(0, String::len) + key.len());
        let text = match text {
            Ok(text) => Some(SharedText::from(text)).filter(|text| !text.trim().is_empty()),
            Err(reason) => {
                notes.add(|| {
                    let shown = shown_path(directory, path);
                    with_place(marks.of(field), &format!("{field} `{shown}` is not used: {reason}"))
                });
                None
            }
        };
        self.read.borrow_mut().insert(key, text.clone());
        text
    }
}

/// What stands for a file: one path may be written in a hundred thousand ways.
fn key(directory: &str, path: &str) -> String {
    let normalized = normalize_in(directory, path).map(|path| path.to_string_lossy().into_owned());
    normalized.unwrap_or_else(|| shown_path(directory, path))
}

/// Without blank ends, and with no line that ends with blanks. None for a blank text.
fn trimmed(text: &str) -> Option<SharedText> {
    let text = text.trim();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    (!text.is_empty()).then(|| SharedText::from(lines.join("\n")))
}
