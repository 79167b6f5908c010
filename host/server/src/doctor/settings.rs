//! What the settings open.

use api::settings::Secret;
use httpd::settings::{HttpSettings, is_loopback};
use store::{Cipher, DatabaseUrl};

use super::finding::Finding;
use crate::run::{self, set_variables};
use crate::settings::{Settings, StorageSettings};
use crate::settings_check;

/// Characters of an admin token at least: 16 random bytes in hex have 32, in base64 22.
const TOKEN_CHARACTERS: usize = 20;

pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let Settings { http, access, storage, .. } = settings;
    let mut found = vec![mode(settings), messages()];
    if let Err(error) = run::check(settings) {
        found.push(Finding::open("settings", format!("the server won't start: {error}")));
    }
    if let Err(error) = settings.messages.authorities() {
        found.push(Finding::open("AGENT_CA_FILE", format!("the server won't start: {error}")));
    }
    found.extend(access.admin_token.as_ref().map(|token| admin_token(token.expose())));
    if access.admin_token.is_some() && access.test_tokens() {
        found.push(Finding::note(
            "MOLECULE_ENV",
            "is neither prod nor production: GET /admin/workspaces/:id/test-token gives administrators the tokens of \
             agents",
        ));
    }
    found.extend(transport(http, access.dev_mode()));
    found.extend(origins(http));
    found.extend(proxies(http));
    if let Some(list) = &access.ws_allow_origins {
        let whose = list.origins().collect::<Vec<_>>().join(", ");
        found.push(Finding::open(
            "WS_ALLOW_ORIGINS",
            format!(
                "every program that sends the Origin of {whose} reads all events and messages. Leave \
                 it out, and let pages get a ticket from POST /ws/ticket"
            ),
        ));
    }
    found.push(secrets(storage, access.production()));
    found.extend(database(storage.database_url.as_ref().map(Secret::expose)));
    let mut unused = settings_check::without_effect(settings, &set_variables());
    unused.retain(|text| !found.iter().any(|finding| text.starts_with(finding.subject)));
    found.extend(unused.into_iter().map(|text| Finding::note("settings", text)));
    found
}

/// By the API's contract, in every mode.
fn messages() -> Finding {
    Finding::note(
        "messages",
        "every client that reaches the server may send messages to agents whose ids it knows, and see their names and \
         statuses: let \
         only those networks reach it that should",
    )
}

fn secrets(storage: &StorageSettings, production: bool) -> Finding {
    let [key, previous] = [&storage.secrets_encryption_key, &storage.secrets_encryption_key_previous]
        .map(|key| key.as_ref().map(Secret::expose));
    // Strictly: elsewhere a key that can't be used is only a warning in the log.
    let Err(error) = Cipher::new(key, previous, true) else {
        return Finding::ok("SECRETS_ENCRYPTION_KEY", "seals the secrets in the database");
    };
    let effect = match production {
        true => "the server won't start",
        false => {
            "secrets are stored in plain text, and every reader of the database or a copy of it has them"
        }
    };
    Finding::open(
        "SECRETS_ENCRYPTION_KEY",
        format!("{effect}: {error}. Make a key with openssl rand -base64 32"),
    )
}

fn mode(settings: &Settings) -> Finding {
    let everywhere =
        settings.http.listen_hosts(settings.access.dev_mode()).iter().any(|host| !is_loopback(host));
    if settings.access.admin_token.is_some() {
        return Finding::ok("mode", "administrators and agents need a credential");
    }
    match (settings.access.dev_mode(), everywhere) {
        (true, false) => Finding::note(
            "mode",
            "development: every user and program of this machine controls the server, without a credential",
        ),
        (_, true) => Finding::open(
            "mode",
            "ADMIN_TOKEN is not set: every client that reaches this server controls it. Set it to a long random text: \
             openssl rand -hex 32",
        ),
        (false, false) => Finding::open(
            "mode",
            "ADMIN_TOKEN is not set: until the first token exists, every user and program of this machine controls \
             the server. Set it to a long random text: openssl rand -hex 32",
        ),
    }
}

fn admin_token(token: &str) -> Finding {
    let repeats = token.chars().collect::<std::collections::HashSet<_>>().len() < 8;
    if token.chars().count() < TOKEN_CHARACTERS || repeats {
        return Finding::open(
            "ADMIN_TOKEN",
            "can be guessed: it has fewer than 20 characters, or fewer than 8 different ones. Make one with openssl \
             rand -hex 32",
        );
    }
    Finding::ok("ADMIN_TOKEN", "is set")
}

/// Who can read what is sent.
fn transport(http: &HttpSettings, dev_mode: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let urls = [("EXTERNAL_PLATFORM_URL", &http.external_platform_url), ("PLATFORM_URL", &http.platform_url)];
    for (variable, url) in urls {
        let plain = url.as_ref().filter(|url| url.scheme_str() == Some("http"));
        let host = plain.and_then(|url| url.host()).filter(|host| !is_loopback(host));
        match (variable, host) {
            ("EXTERNAL_PLATFORM_URL", Some(host)) => found.push(Finding::open(
                variable,
                format!(
                    "begins with http://: tokens and messages on their way to {host} can be read. Put a proxy with TLS \
                     in front, and give its https:// URL"
                ),
            )),
            (_, Some(host)) => found.push(Finding::note(
                variable,
                format!("begins with http://: the network between agents and {host} sees their tokens and messages"),
            )),
            (_, None) => {}
        }
    }
    let hosts = http.listen_hosts(dev_mode);
    if hosts.iter().any(|host| !is_loopback(host)) {
        found.push(Finding::note(
            "BIND_ADDR",
            "other machines reach this server, which speaks plain HTTP: let only a proxy with TLS and the agents' \
             network reach it",
        ));
    } else {
        found.push(Finding::ok("BIND_ADDR", "only this machine reaches the server"));
    }
    found
}

fn origins(http: &HttpSettings) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(list) = &http.cors_origins else { return found };
    if list.allows_any() {
        found.push(Finding::note(
            "CORS_ORIGINS",
            "has `*`: every web page may call the API with a token that it has. Name the origins of your pages",
        ));
    }
    let plain: Vec<&str> = list.origins().filter(|origin| is_plain_elsewhere(origin)).collect();
    if !plain.is_empty() {
        found.push(Finding::note(
            "CORS_ORIGINS",
            format!(
                "other machines on the network can change the pages of {}, which have no TLS",
                plain.join(", ")
            ),
        ));
    }
    found
}

/// A server with TLS in its public URL has a proxy in front of it.
fn proxies(http: &HttpSettings) -> Option<Finding> {
    let is_proxied = http.external_platform_url.as_ref().is_some_and(|url| url.scheme_str() == Some("https"));
    (is_proxied && http.trusted_proxies.is_empty()).then(|| {
        Finding::note(
            "TRUSTED_PROXIES",
            "names no proxy, while EXTERNAL_PLATFORM_URL begins with https://: all clients of the proxy in front share \
             one budget of requests, and limits for each address don't hold for them. Name the proxy's address",
        )
    })
}

fn is_plain_elsewhere(origin: &str) -> bool {
    let uri = origin.parse::<http::Uri>().ok();
    uri.is_some_and(|uri| uri.scheme_str() == Some("http") && !is_loopback(uri.host().unwrap_or_default()))
}

fn database(url: Option<&str>) -> Option<Finding> {
    match DatabaseUrl::parse(url?) {
        Ok(url) => Some(match url.unverified_host() {
            Some(host) => Finding::open(
                "DATABASE_URL",
                format!(
                    "the certificate of {host} is not checked: a machine in between can read and change everything. Add \
                     sslmode=verify-full, and sslrootcert where its authority is a private one"
                ),
            ),
            None => {
                Finding::ok("DATABASE_URL", "the database is on this machine, or its certificate is checked")
            }
        }),
        Err(error) => Some(Finding::open("DATABASE_URL", format!("the server won't start: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    /// The subjects that are open.
    fn open(flags: &[&str]) -> Vec<&'static str> {
        subjects(flags, Level::Open)
    }

    fn subjects(flags: &[&str], level: Level) -> Vec<&'static str> {
        let settings = Settings::from_flags(flags.iter().copied()).expect("valid flags");
        let found = findings(&settings).into_iter();
        found.filter(|it| it.level == level && it.subject != "settings").map(|it| it.subject).collect()
    }

    const TOKEN: [&str; 2] = ["--admin-token", "a3f1b2c4d5e6978812345678"];
    const KEY: [&str; 2] = ["--secrets-encryption-key", "0123456789abcdef0123456789abcdef"];

    fn with(flags: &[&'static str]) -> Vec<&'static str> {
        [&TOKEN, &KEY, flags].concat()
    }

    #[test]
    fn what_settings_open_is_named() {
        assert_eq!(open(&[]), ["mode", "SECRETS_ENCRYPTION_KEY"]);
        assert_eq!(open(&["--molecule-env", "dev"]), ["SECRETS_ENCRYPTION_KEY"]);
        assert_eq!(open(&with(&[])), [""; 0]);
        assert_eq!(open(&[&["--molecule-env", "dev", "--bind-addr", "::"], &KEY[..]].concat()), ["mode"]);
        assert_eq!(open(&[&["--bind-addr", "127.0.0.1"], &KEY[..]].concat()), ["mode"]);
        for guessable in ["secret", "1234567890123456789", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(
                open(&[&["--admin-token", guessable], &KEY[..]].concat()),
                ["ADMIN_TOKEN"],
                "{guessable}"
            );
        }
        for (url, is_open) in [
            ("http://isomer.example", true),
            ("http://203.0.113.9:8080", true),
            ("https://isomer.example", false),
            ("http://localhost:8080", false),
        ] {
            let found = open(&with(&["--external-platform-url", url]));
            assert_eq!(found, if is_open { vec!["EXTERNAL_PLATFORM_URL"] } else { vec![] }, "{url}");
        }
        for (url, is_open) in [
            ("postgres://u:p@db.example/isomer", true),
            ("postgres://u:p@db.example/isomer?sslmode=require", true),
            ("postgres://u:p@db.example/isomer?sslmode=verify-full", false),
            ("postgres://u:p@127.0.0.1/isomer", false),
            ("postgres://u@%2Frun%2Fpostgresql/isomer", false),
            ("postgres:///isomer?host=/run/postgresql", false),
            ("sqlite:/tmp/isomer.db", false),
            ("mysql://db", true),
        ] {
            let found = open(&with(&["--database-url", url]));
            assert_eq!(found, if is_open { vec!["DATABASE_URL"] } else { vec![] }, "{url}");
        }
    }

    #[test]
    fn a_key_that_seals_nothing_is_open() {
        for key in ["abc", "0123456789abcdef", "    x   "] {
            for environment in ["staging", "production"] {
                let flags =
                    [&TOKEN[..], &["--secrets-encryption-key", key, "--molecule-env", environment]].concat();
                assert_eq!(open(&flags), ["SECRETS_ENCRYPTION_KEY"], "{key} {environment}");
            }
        }
    }

    #[test]
    fn pages_without_a_credential_are_open() {
        assert_eq!(open(&with(&["--ws-allow-origins", "https://canvas.example"])), ["WS_ALLOW_ORIGINS"]);
    }

    #[test]
    fn a_proxy_that_is_not_named_is_noted() {
        let url = ["--external-platform-url", "https://isomer.example"];
        assert!(subjects(&with(&url), Level::Note).contains(&"TRUSTED_PROXIES"));
        let named = [&url[..], &["--trusted-proxies", "10.0.0.1"]].concat();
        assert!(!subjects(&with(&named), Level::Note).contains(&"TRUSTED_PROXIES"));
        assert!(!subjects(&with(&[]), Level::Note).contains(&"TRUSTED_PROXIES"));
    }

    #[test]
    fn choices_are_noted() {
        assert_eq!(subjects(&with(&[]), Level::Note), ["messages", "MOLECULE_ENV", "BIND_ADDR"]);
        let closed = with(&["--molecule-env", "prod", "--bind-addr", "127.0.0.1"]);
        assert_eq!(subjects(&closed, Level::Note), ["messages"]);
        let origins = [&closed[..], &["--cors-origins", "*,http://a.example"]].concat();
        assert_eq!(subjects(&origins, Level::Note), ["messages", "CORS_ORIGINS", "CORS_ORIGINS"]);
        let local = [&closed[..], &["--cors-origins", "https://a.example,http://localhost:3000"]].concat();
        assert_eq!(subjects(&local, Level::Note), ["messages"]);
        assert_eq!(subjects(&["--molecule-env", "dev"], Level::Note), ["mode", "messages"]);
    }
}
