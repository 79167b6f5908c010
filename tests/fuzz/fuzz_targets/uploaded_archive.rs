//! The reader of uploaded archives: it must not panic, and the paths of what it takes stay inside, within the limits.
//!
//! Archives are made of headers that the fuzzer's bytes choose, or taken as they come.

#![no_main]

extern crate isomer_wasm as wasm;

// From their sources alone: their crate brings the whole server.
#[allow(dead_code)]
#[path = "../../../host/orgs/src/files.rs"]
mod files;
#[allow(dead_code)]
#[path = "../../../host/orgs/src/limits.rs"]
mod limits;
#[path = "../../../host/orgs/src/shown.rs"]
mod shown;
#[allow(dead_code)]
#[path = "../../../host/orgs/src/similar_path.rs"]
mod similar_path;
#[path = "../../../host/orgs/src/upload.rs"]
mod upload;

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use tar::{EntryType, Header};
use wasm::template::Answer;

use crate::{
    limits::{UPLOAD_BYTES, UPLOAD_FILES},
    upload::unpack,
};

/// Parts of paths.
const PARTS: [&str; 14] = [
    "org.yaml",
    "a",
    "b",
    "..",
    ".",
    "",
    "/",
    "\\",
    "ü",
    "\u{1}",
    ".git",
    "node_modules",
    ".#org.yaml",
    "acme",
];

/// Types of entries, GNU's long names and PAX headers among them.
const KINDS: [u8; 19] = *b"00000050123456LKxgS";

fuzz_target!(|bytes: &[u8]| {
    let (kind, rest) = bytes.split_first().unwrap_or((&0, &[]));
    if kind % 4 == 0 {
        check(rest);
    } else {
        check(&archive(rest));
    }
});

/// What is unpacked keeps every rule on paths, counts and sizes.
fn check(bytes: &[u8]) {
    let files = match unpack(bytes) {
        Ok(files) => files,
        Err(error) => {
            assert!(error.to_string().len() < 2_000, "{error}");
            return;
        }
    };
    let (mut count, mut size) = (0, 0);
    for path in files.uploaded() {
        let mut parts = Path::new(path).components();
        assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{path:?}");
        count += 1;
        if let Answer::Bytes(content) = files.answer(path) {
            size += content.len();
        }
    }
    assert!((1..=UPLOAD_FILES).contains(&count) && size <= UPLOAD_BYTES && size <= bytes.len());
}

fn archive(mut bytes: &[u8]) -> Vec<u8> {
    let mut next = || {
        let (first, rest) = bytes.split_first()?;
        bytes = rest;
        Some(*first)
    };
    let mut archive = Vec::new();
    while let Some(kind) = next() {
        let mut header = if kind < 128 { Header::new_gnu() } else { Header::new_ustar() };
        header.set_entry_type(EntryType::new(KINDS[usize::from(kind) % KINDS.len()]));
        let parts =
            (0..next().unwrap_or(0) % 5).map(|_| PARTS[usize::from(next().unwrap_or(0)) % PARTS.len()]);
        let path = parts.collect::<Vec<_>>().join("/");
        let length = path.len().min(100);
        header.as_old_mut().name[..length].copy_from_slice(&path.as_bytes()[..length]);
        let content = match next().unwrap_or(0) {
            // A PAX record, or a long name.
            0..20 => format!("{} path={path}\n", path.len() + 9).into_bytes(),
            20..30 => format!("{} size={}\n", 20, u64::MAX).into_bytes(),
            size => vec![next().unwrap_or(b'x'); usize::from(size)],
        };
        // Mostly true.
        let said = match next().unwrap_or(0) {
            0..10 => u64::MAX,
            10..20 => 1 << 33,
            20..30 => (32 << 20) + 1,
            _ => content.len() as u64,
        };
        header.set_size(said);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(&content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.extend_from_slice(&[0; 1024]);
    archive
}
