//! `${VAR}` and `$VAR` in values of a template.

use std::collections::BTreeMap;

use crate::env_file::is_name;

/// Variables of this process that a template never sees: they are the platform's own.
const OURS: [&str; 14] = [
    "ADMIN_TOKEN",
    "SECRETS_ENCRYPTION_KEY",
    "SECRETS_ENCRYPTION_KEY_PREVIOUS",
    "DATABASE_URL",
    "TEST_DATABASE_URL",
    "REDIS_URL",
    "MOLECULE_GITEA_TOKEN",
    "GITEA_TOKEN",
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "PGPASSWORD",
    "LANGFUSE_SECRET_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

/// What a value came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Some reference in it names nothing.
    pub(crate) missing: bool,
}

/// Replaces references by what `own` says. A value that is one reference and nothing else may come from
/// the environment of this process too. References that name nothing stay as they are, except that a
/// value which is nothing else is empty then.
pub(crate) fn expand(
    value: &str,
    own: &BTreeMap<String, String>,
    process: impl Fn(&str) -> Option<String>,
) -> Expanded {
    let pieces = pieces(value);
    if let [Piece::Reference { name, .. }] = pieces.as_slice() {
        let from_process = || (!OURS.contains(name)).then(|| process(name)).flatten();
        let text = own.get(*name).cloned().or_else(from_process).filter(|text| !text.is_empty());
        return Expanded { missing: text.is_none(), text: text.unwrap_or_default() };
    }
    let mut expanded = Expanded { text: String::new(), missing: false };
    for piece in pieces {
        match piece {
            Piece::Text(text) => expanded.text.push_str(text),
            Piece::Reference { name, written } => match own.get(name) {
                Some(text) => expanded.text.push_str(text),
                None => {
                    expanded.missing = true;
                    expanded.text.push_str(written);
                }
            },
        }
    }
    expanded
}

#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Reference { name: &'a str, written: &'a str },
}

/// Cuts a value into text and references. What only looks like a reference is text.
fn pieces(value: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let (piece, left) = reference(after).unwrap_or_else(|| {
            let (dollar, left) = after.split_at(1);
            (Piece::Text(dollar), left)
        });
        pieces.push(piece);
        rest = left;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// The reference that a text begins with, and what comes after it.
fn reference(text: &str) -> Option<(Piece<'_>, &str)> {
    let after = text.strip_prefix('$')?;
    let (name, left) = match after.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            after.split_at(end)
        }
    };
    let written = text.strip_suffix(left)?;
    is_name(name).then_some((Piece::Reference { name, written }, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(value: &str) -> (String, bool) {
        let own = [("A", "1"), ("B", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let process = |name: &str| (name != "UNSET").then(|| format!("process {name}"));
        let done = expand(value, &own.into(), process);
        (done.text, done.missing)
    }

    #[test]
    fn references_by_table() {
        for (value, text, missing) in [
            ("plain", "plain", false),
            ("", "", false),
            ("${A}", "1", false),
            ("$A", "1", false),
            ("x${A}y$B/z", "x1y2/z", false),
            ("$AB", "process AB", false),
            ("${HOME}", "process HOME", false),
            ("/${HOME}", "/${HOME}", true),
            ("https://h/${TOKEN}", "https://h/${TOKEN}", true),
            ("${UNSET}", "", true),
            ("${ADMIN_TOKEN}", "", true),
            ("$5", "$5", false),
            ("$$", "$$", false),
            ("$", "$", false),
            ("${A", "${A", false),
            ("${A-b}", "${A-b}", false),
            ("a$$A", "a$1", false),
            ("ä${A}ö", "ä1ö", false),
        ] {
            assert_eq!(expanded(value), (text.to_owned(), missing), "{value:?}");
        }
    }
}
