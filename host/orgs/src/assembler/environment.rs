//! The variables of a workspace in layers: persona, then the template's `.env`, then the workspace's own.

use std::{collections::BTreeMap, path::Path};

use types::is_reserved_env;

use super::Assembler;
use crate::{
    env_file,
    fields::{Place, with_place},
    files::{read_text, shown_path},
    notes::Notes,
};

impl Assembler<'_> {
    /// Variables of a directory of the template, which is named at `at`. A file that can't be read is noted.
    pub(super) fn env(
        &self,
        directory: &str,
        at: Option<&Place>,
        notes: &mut Notes,
    ) -> BTreeMap<String, String> {
        let text = self.files.env(directory).unwrap_or_else(|reason| {
            notes.add(|| {
                with_place(at, &format!("`{}` is not used: {reason}", shown_path(directory, ".env")))
            });
            String::new()
        });
        let variables = env_file::parse(&text);
        for key in variables.keys().filter(|key| is_reserved_env(key)) {
            notes.add(|| {
                let file = shown_path(directory, ".env");
                let why = "only the platform sets it, because programs find or load code by it";
                with_place(at, &format!("`{key}` of `{file}` is not used: {why}"))
            });
        }
        variables
    }

    /// Variables of a workspace, without those that the platform reserves. `env` has those of the template.
    pub(super) fn secrets(&self, files_dir: &str, env: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut secrets = persona(self.personas, files_dir, self.mail_domain);
        secrets.extend(env);
        secrets.retain(|key, _| !is_reserved_env(key));
        secrets
    }
}

/// Variables of the persona that has the name of a node's directory. A persona without an `env` file may have
/// a `token` file with its token for Gitea.
fn persona(personas: &Path, files_dir: &str, mail_domain: &str) -> BTreeMap<String, String> {
    // Nested and external directories end with the persona's name.
    let key = files_dir.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if key.is_empty() {
        return BTreeMap::new();
    }
    if !key.bytes().all(is_allowed) {
        tracing::debug!(files_dir, "the directory's name is no persona key; the persona layer is skipped");
        return BTreeMap::new();
    }
    let read = |file: &str| {
        let text = read_text(&personas.join(key).join(file));
        text.unwrap_or_else(|reason| {
            tracing::warn!(persona = key, file, reason, "a file of a persona is not used");
            String::new()
        })
    };
    let variables = env_file::parse(&read("env"));
    let token = read("token");
    match token.trim() {
        token if variables.is_empty() && !token.is_empty() => {
            let mail = format!("{key}@{mail_domain}");
            let identity = [("GITEA_TOKEN", token), ("GITEA_USER", key), ("GITEA_USER_EMAIL", &mail)];
            identity.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        }
        _ => variables,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(personas: &Path, files_dir: &str) -> Vec<(String, String)> {
        persona(personas, files_dir, "agents.invalid").into_iter().collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_token_file_stands_in_for_an_empty_env_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lead")).unwrap();
        assert_eq!(read(dir.path(), "lead"), []);
        fs::write(dir.path().join("lead/token"), " secret\n").unwrap();
        let from_token = [
            pair("GITEA_TOKEN", "secret"),
            pair("GITEA_USER", "lead"),
            pair("GITEA_USER_EMAIL", "lead@agents.invalid"),
        ];
        assert_eq!(read(dir.path(), "teams/lead/"), from_token);
        fs::write(dir.path().join("lead/env"), "# nothing\n").unwrap();
        assert_eq!(read(dir.path(), "lead"), from_token);
        fs::write(dir.path().join("lead/env"), "A=1\n").unwrap();
        assert_eq!(read(dir.path(), "lead"), [pair("A", "1")]);
    }

    #[test]
    fn a_persona_key_is_one_plain_segment() {
        let dir = tempfile::tempdir().unwrap();
        let personas = dir.path().join("personas");
        fs::create_dir(&personas).unwrap();
        fs::write(dir.path().join("env"), "A=1\n").unwrap();
        fs::write(personas.join("env"), "A=1\n").unwrap();
        for files_dir in ["", "/", ".", "..", "a/..", "a/.", "a b", "ä"] {
            assert_eq!(read(&personas, files_dir), [], "{files_dir}");
        }
    }
}
