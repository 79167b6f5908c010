//! `${VAR}` and `$VAR` in values of a template.

use std::collections::BTreeMap;

use types::is_env_name;

/// Variables of this process that a template never gets: they hold the platform's own secrets.
const PLATFORM_SECRETS: [&str; 14] = [
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

/// A value with its references replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// At least one of its variables is not set.
    pub(crate) is_missing: bool,
}

/// Replaces references by the values in `own`. Only a value that is a single reference may also come from
/// the environment of this process. A reference to an unset variable stays as written; a value that is such
/// a reference and nothing else becomes empty.
pub(crate) fn expand(
    value: &str,
    own: &BTreeMap<String, String>,
    process: impl Fn(&str) -> Option<String>,
) -> Expanded {
    let pieces = pieces(value);
    if let [Piece::Reference { name, .. }] = pieces.as_slice() {
        let from_process = || (!PLATFORM_SECRETS.contains(name)).then(|| process(name)).flatten();
        let found = own.get(*name).cloned().or_else(from_process).filter(|value| !value.is_empty());
        return Expanded { is_missing: found.is_none(), text: found.unwrap_or_default() };
    }
    let mut is_missing = false;
    let mut text = String::new();
    for piece in pieces {
        text.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Reference { name, written } => own.get(name).map_or_else(
                || {
                    is_missing = true;
                    written
                },
                String::as_str,
            ),
        });
    }
    Expanded { text, is_missing }
}

#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Reference { name: &'a str, written: &'a str },
}

/// Cuts a value into text and references. `$5`, `$$`, a lone `$` and an unclosed `${` are text.
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

/// The reference at the beginning of a text, and the rest of the text.
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
    is_env_name(name).then_some((Piece::Reference { name, written }, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(value: &str) -> String {
        let own = [("A", "1"), ("B", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let process = |name: &str| (name != "UNSET").then(|| format!("process {name}"));
        expand(value, &own.into(), process).text
    }

    #[test]
    fn references_are_replaced() {
        for (value, text) in [
            ("plain", "plain"),
            ("", ""),
            ("${A}", "1"),
            ("$A", "1"),
            ("x${A}y$B/z", "x1y2/z"),
            ("$AB", "process AB"),
            ("${HOME}", "process HOME"),
            ("/${HOME}", "/${HOME}"),
            ("https://h/${TOKEN}", "https://h/${TOKEN}"),
            ("${UNSET}", ""),
            ("${ADMIN_TOKEN}", ""),
            ("$5", "$5"),
            ("$$", "$$"),
            ("$", "$"),
            ("${A", "${A"),
            ("${A-b}", "${A-b}"),
            ("a$$A", "a$1"),
            ("ä${A}ö", "ä1ö"),
        ] {
            assert_eq!(expanded(value), text, "{value:?}");
        }
    }
}
