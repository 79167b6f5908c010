//! `${VAR}` and `$VAR` in values of a template, and which variables of the server they may name.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use types::is_env_name;

/// Variables that hold the server's own secrets. An operator who opens others to templates doesn't open these by
/// accident.
const OWN_SECRETS: [&str; 23] = [
    "ADMIN_TOKEN",
    "SECRETS_ENCRYPTION_KEY",
    "SECRETS_ENCRYPTION_KEY_PREVIOUS",
    "DATABASE_URL",
    "TEST_DATABASE_URL",
    "REDIS_URL",
    "AUDIT_LEDGER_SALT",
    "CF_ARTIFACTS_API_TOKEN",
    "CP_ADMIN_API_TOKEN",
    "GITHUB_WEBHOOK_SECRET",
    "MOLECULE_CP_SHARED_SECRET",
    "MOLECULE_GITEA_TOKEN",
    "PROVISION_SHARED_SECRET",
    "GITEA_TOKEN",
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSSLKEY",
    "LANGFUSE_SECRET_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

/// Names of variables of the server that templates may use: `NAME`, or `BEGINNING*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenVariables(Vec<String>);

/// Why a list of variables is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenVariablesError {
    /// It is no name.
    #[error("`{0}` is no name of a variable; write names, or beginnings of names with *, such as TEAM_*")]
    Name(String),
    /// It opens a secret of the server.
    #[error("`{0}` would open {1} to every template; name the variables that templates need")]
    Secret(String, &'static str),
}

impl FromStr for OpenVariables {
    type Err = OpenVariablesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut names = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let plain = name.strip_suffix('*').unwrap_or(name);
            if !plain.is_empty() && !is_env_name(plain) {
                return Err(OpenVariablesError::Name(name.to_owned()));
            }
            if let Some(secret) = OWN_SECRETS.iter().find(|secret| matches(name, secret)) {
                return Err(OpenVariablesError::Secret(name.to_owned(), secret));
            }
            names.push(name.to_owned());
        }
        Ok(Self(names))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

/// The variables of the server that templates may use, with their values. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ServerVariables(Arc<BTreeMap<String, String>>);

impl ServerVariables {
    /// Those of `all` that are open.
    #[must_use]
    pub fn of(open: &OpenVariables, all: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_open = |name: &str| open.0.iter().any(|pattern| matches(pattern, name));
        Self(Arc::new(all.into_iter().filter(|(name, _)| is_open(name)).collect()))
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

/// A value with its references replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// At least one of its variables is not set.
    pub(crate) is_missing: bool,
}

/// Replaces references by the values in `own`. Only a value that is a single reference may also come from
/// the variables of the server. A reference to an unset variable stays as written; a value that is such
/// a reference and nothing else becomes empty.
pub(crate) fn expand(value: &str, own: &BTreeMap<String, String>, server: &ServerVariables) -> Expanded {
    let pieces = pieces(value);
    if let [Piece::Reference { name, .. }] = pieces.as_slice() {
        let found = own.get(*name).cloned().or_else(|| server.get(name)).filter(|value| !value.is_empty());
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

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> [(String, String); N] {
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))
    }

    fn expanded(value: &str) -> String {
        let all = [("AB", "server AB"), ("HOME", "/root"), ("TOKEN", "t"), ("TEAM_DIR", "/srv"), ("B", "3")];
        let server = ServerVariables::of(&"AB, TOKEN, TEAM_*, B".parse().unwrap(), pairs(all));
        expand(value, &pairs([("A", "1"), ("B", "2")]).into(), &server).text
    }

    #[test]
    fn only_variables_that_an_operator_opened_are_the_servers() {
        let all = [
            ("DATABASE_URL", "postgres://u:secret@db/x"),
            ("ADMIN_TOKEN", "secret"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "eu"),
            ("PATH", "/usr/bin"),
            ("WORKSPACE_DIR", "/srv/work"),
            ("STRIPE_KEY", "secret"),
        ];
        let default = ServerVariables::of(&"WORKSPACE_DIR".parse().unwrap(), pairs(all));
        for (name, _) in all {
            let expanded = expand(&format!("${{{name}}}"), &BTreeMap::new(), &default);
            let expected = if name == "WORKSPACE_DIR" { "/srv/work" } else { "" };
            assert_eq!(
                (expanded.text.as_str(), expanded.is_missing),
                (expected, expected.is_empty()),
                "{name}"
            );
        }
        let none = ServerVariables::of(&OpenVariables::default(), pairs(all));
        assert!(expand("$WORKSPACE_DIR", &BTreeMap::new(), &none).is_missing);
    }

    #[test]
    fn a_list_that_opens_a_secret_of_the_server_is_refused() {
        let refused = |list: &str| list.parse::<OpenVariables>().unwrap_err();
        for (list, secret) in [
            ("DATABASE_URL", "DATABASE_URL"),
            ("TEAM_DIR, ADMIN_*", "ADMIN_TOKEN"),
            ("AWS_*", "AWS_ACCESS_KEY_ID"),
            ("*", "ADMIN_TOKEN"),
            ("P*", "PROVISION_SHARED_SECRET"),
        ] {
            assert!(
                matches!(refused(list), OpenVariablesError::Secret(_, found) if found == secret),
                "{list}"
            );
        }
        for list in ["A-B", "1A", "A*B", "$A", "**"] {
            assert_eq!(refused(list), OpenVariablesError::Name(list.to_owned()));
        }
        for list in ["", ",", "A", "TEAM_*, A_1", "AWS_REGION"] {
            list.parse::<OpenVariables>().unwrap();
        }
    }

    #[test]
    fn references_are_replaced() {
        for (value, text) in [
            ("plain", "plain"),
            ("", ""),
            ("${A}", "1"),
            ("$A", "1"),
            ("x${A}y$B/z", "x1y2/z"),
            ("$AB", "server AB"),
            ("${B}", "2"),
            ("${TEAM_DIR}", "/srv"),
            ("${HOME}", ""),
            ("/${TEAM_DIR}", "/${TEAM_DIR}"),
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
