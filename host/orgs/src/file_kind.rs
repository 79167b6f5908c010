//! Kinds of files that are no part of a template, and directories that other tools leave in one.

use std::{fs::FileType, os::unix::fs::FileTypeExt as _};

/// Directories that are skipped wherever files of a template are collected: versions, caches and
/// dependencies of other tools.
pub const SKIPPED_DIRECTORIES: [&str; 6] =
    [".git", ".hg", ".svn", ".external-cache", ".terraform", "node_modules"];

/// What a file is that is not a regular one.
#[must_use]
pub fn special(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_char_device() || kind.is_block_device() {
        Some("a device")
    } else {
        Some("a special file")
    }
}
