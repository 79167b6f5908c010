//! Names of files that hold credentials. No field of a template may name such a file, no include and no link may lead
//! to one, and neither the program nor the server takes one from an uploaded directory. The README has the list.
//!
//! A `.env` is no exception for fields and includes, but it is sent and read: its variables become sealed secrets.

use std::path::{Component, Path};

/// Variables of a directory of the template.
pub(crate) const ENV: &str = ".env";

/// Whole names, of files and of directories.
const NAMES: [&str; 37] = [
    ".auth_token",
    ".credentials.json",
    ".password-store",
    ".vault_pass",
    ".bash_history",
    ".zsh_history",
    ".platform_inbound_secret",
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".gcloud",
    ".kube",
    ".docker",
    ".dockercfg",
    ".git",
    ".hg",
    ".svn",
    ".git-credentials",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".gem",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".vault-token",
    ".terraformrc",
    ".boto",
    ".s3cfg",
    "auth.json",
    "credentials.json",
    "credentials.toml",
    "service-account.json",
    "kubeconfig",
];

/// Names that are those of such files in a directory of this name only.
const PLACES: [(&str, &str); 2] = [(".cargo", "credentials"), ("gh", "hosts.yml")];

/// What names begin with. `.env.example` is one too: it is mostly a copy that somebody filled in.
const BEGINNINGS: [&str; 5] = [ENV, "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"];

/// What names end with.
const ENDS: [&str; 13] = [
    ".env",
    ".pem",
    ".key",
    ".p12",
    ".pfx",
    ".p8",
    ".ppk",
    ".jks",
    ".keystore",
    ".kdbx",
    ".tfstate",
    ".tfvars",
    ".ovpn",
];

/// What editors, tools and people append to the name of a file when they keep a copy.
const COPIES: [&str; 7] = ["~", ".bak", ".old", ".orig", ".save", ".swo", ".swp"];

/// Whether the file or a directory above it has such a name, in any case: some file systems have only one. So have
/// copies of such files.
pub(crate) fn is_private(path: &Path) -> bool {
    pattern(path).is_some()
}

/// Why a file is refused that is private.
pub(crate) fn refusal(path: &Path) -> String {
    let pattern = pattern(path).unwrap_or_default();
    format!(
        "files with credentials can't be included, and its name, or that of a directory above it, is one of such files \
         (`{pattern}`). Rename it if it has none"
    )
}

/// Which of the names of private files the path has.
fn pattern(path: &Path) -> Option<String> {
    let mut above = String::new();
    path.components().find_map(|part| {
        let Component::Normal(name) = part else { return None };
        // What is not UTF-8 stands in names of private files as well.
        let name = name.to_string_lossy().to_ascii_lowercase();
        let name = original(&name);
        let place = PLACES.iter().find(|place| **place == (above.as_str(), name));
        let found =
            place.map(|(directory, file)| format!("{directory}/{file}")).or_else(|| name_pattern(name));
        name.clone_into(&mut above);
        found
    })
}

/// Whether a file of a directory may be part of an upload.
#[must_use]
pub fn may_be_sent(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(Path::new(""));
    path.file_name().is_some_and(|name| name == ENV) && !is_private(directory) || !is_private(path)
}

/// The name of which this is a copy's, else the name itself.
fn original(name: &str) -> &str {
    // `#name#` is what Emacs has not saved yet.
    let mut name = name.trim_end().trim_matches('#');
    while let Some(shorter) = COPIES.iter().find_map(|copy| name.strip_suffix(copy)) {
        // `name.~1~` is a numbered copy.
        let numbered = shorter.rsplit_once(".~").filter(|(_, number)| number.parse::<u32>().is_ok());
        name = numbered.map_or(shorter, |(name, _)| name).trim_end();
    }
    name
}

fn name_pattern(name: &str) -> Option<String> {
    // The swap file of `id_rsa` is `.id_rsa.swp`.
    let visible = name.strip_prefix('.').unwrap_or(name);
    let begins = |beginning: &&&str| name.starts_with(**beginning) || visible.starts_with(**beginning);
    let whole = NAMES.iter().find(|whole| [name, visible].contains(*whole)).map(|whole| (*whole).to_owned());
    whole
        .or_else(|| BEGINNINGS.iter().find(begins).map(|beginning| format!("{beginning}*")))
        .or_else(|| ENDS.iter().find(|end| name.ends_with(**end)).map(|end| format!("*{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_with_credentials_are_private_wherever_they_stand() {
        for path in [
            ".env",
            "a/.ENV",
            ".env.production",
            "prod.env",
            ".envrc",
            "tls/server.pem",
            "server.KEY",
            "id_rsa",
            "keys/id_ed25519.pub",
            ".ssh/config",
            "a/.git/config",
            "./.netrc",
            "a/../.npmrc",
            "/home/me/.aws/credentials",
            "client.p12",
            ".claude/.credentials.json",
            ".codex/auth.json",
            ".cargo/credentials",
            ".cargo/Credentials.toml",
            ".config/gh/hosts.yml",
            "service-account.json",
            ".password-store/mail.gpg",
            ".vault_pass",
            ".bash_history",
        ] {
            assert!(is_private(Path::new(path)), "{path}");
        }
        for path in [
            "org.yaml",
            "env",
            "env/prompt.md",
            "keys.md",
            "environment.md",
            "pem",
            "a.env.md",
            "",
            "org.yaml.bak",
            "credentials/how-to.md",
            "hosts.yml",
            "~",
            "#",
        ] {
            assert!(!is_private(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn copies_of_files_with_credentials_are_private() {
        for path in [
            ".env~",
            ".env-prod",
            ".env_local",
            ".env ",
            ".ENV.bak",
            "..env.swp",
            "#.env#",
            "prod.env~",
            "server.pem.bak",
            "server.key~",
            "server.key.~12~",
            "server.pem.orig.old ",
            ".netrc~",
            ".git-credentials.bak",
            ".envrc.local",
            ".id_rsa.swp",
            ".credentials.json.swp",
            ".ssh.old/config",
            ".cargo.bak/credentials.save",
        ] {
            assert!(is_private(Path::new(path)), "{path}");
            assert!(!may_be_sent(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_refusal_names_the_pattern() {
        for (path, pattern) in [
            ("answer.key", "`*.key`"),
            ("a/.env.example", "`.env*`"),
            ("id_rsa-rotation.md", "`id_rsa*`"),
            (".ssh/config", "`.ssh`"),
            ("x/.config/gh/hosts.yml~", "`gh/hosts.yml`"),
        ] {
            let refusal = refusal(Path::new(path));
            assert!(refusal.contains(pattern) && refusal.contains("Rename it"), "{refusal}");
        }
    }

    #[test]
    fn names_that_are_not_utf_8_are_private_too() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        for (name, private) in [(&b"\xff.pem"[..], true), (b".env\xff", true), (b"\xff.md", false)] {
            assert_eq!(is_private(Path::new(OsStr::from_bytes(name))), private, "{name:?}");
        }
    }

    #[test]
    fn variables_are_sent_and_other_private_files_are_not() {
        for (path, sent) in [
            (".env", true),
            ("lead/.env", true),
            ("org.yaml", true),
            (".env.local", false),
            (".ssh/.env", false),
            ("lead/id_rsa", false),
        ] {
            assert_eq!(may_be_sent(Path::new(path)), sent, "{path}");
        }
    }
}
