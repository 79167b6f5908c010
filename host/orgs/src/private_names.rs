//! Names of files that hold credentials. No field of a template may name such a file, no include and no link may lead
//! to one, and neither the program nor the server takes one from an uploaded directory. The README has the list.
//!
//! A `.env` is no exception for fields and includes, but it is sent and read: its variables become sealed secrets.

use std::path::{Component, Path};

/// Variables of a directory of the template.
pub(crate) const ENV: &str = ".env";

/// Whole names, of files and of directories.
const NAMES: [&str; 31] = [
    ENV,
    ".envrc",
    ".auth_token",
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
    "credentials.json",
    "kubeconfig",
];

/// What names begin with. `.env.example` is one too: it is mostly a copy that somebody filled in.
const BEGINNINGS: [&str; 5] = [".env.", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"];

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

/// Whether the file or a directory above it has such a name, in any case: some file systems have only one.
pub(crate) fn is_private(path: &Path) -> bool {
    path.components().any(|part| match part {
        Component::Normal(name) => name.to_str().is_some_and(is_private_name),
        _ => false,
    })
}

/// Whether a file of a directory may be part of an upload.
#[must_use]
pub fn may_be_sent(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(Path::new(""));
    path.file_name().is_some_and(|name| name == ENV) && !is_private(directory) || !is_private(path)
}

fn is_private_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str())
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || ENDS.iter().any(|end| name.ends_with(end))
}

/// Why a file is refused.
pub(crate) const REFUSED: &str = "files with credentials can't be included: its name, or that of a directory above it, is one of such files";

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
        ] {
            assert!(is_private(Path::new(path)), "{path}");
        }
        for path in ["org.yaml", "env", "env/prompt.md", "keys.md", "environment.md", "pem", "a.env.md", ""] {
            assert!(!is_private(Path::new(path)), "{path}");
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
