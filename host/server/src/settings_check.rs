//! Settings that have no effect as they are, or a dangerous one. Each is said at the start.

use std::path::Path;

use clap::CommandFactory as _;
use httpd::settings::is_loopback;
use local_files::SETTINGS_BYTES;
use types::nearest;

use crate::settings::Settings;

/// Variables of other servers with this API that this one does not read. Those that it reads are known from its
/// command line, so that an entry may stay when a variable gets its effect.
const OTHERS: [&str; 39] = [
    "APPROVAL_EXPIRY_MINUTES",
    "AUDIT_LEDGER_SALT",
    "AWARENESS_URL",
    "CF_ARTIFACTS_API_TOKEN",
    "CF_ARTIFACTS_NAMESPACE",
    "CHANNEL_WEBHOOK_ALLOW_UNSIGNED",
    "CP_ADMIN_API_TOKEN",
    "CP_PROVISION_URL",
    "CP_UPSTREAM_URL",
    "DELEGATION_LEDGER_WRITE",
    "DELEGATION_RESULT_INBOX_PUSH",
    "DELEGATION_STUCK_THRESHOLD_S",
    "DELEGATION_SWEEPER_INTERVAL_S",
    "DISCORD_APP_PUBLIC_KEY",
    "GITHUB_APP_ID",
    "GITHUB_WEBHOOK_SECRET",
    "IMAGE_AUTO_REFRESH",
    "LANGFUSE_HOST",
    "MEMORY_PLUGIN_URL",
    "MEMORY_V2_CUTOVER",
    "MOLECULE_CP_SHARED_SECRET",
    "MOLECULE_CP_URL",
    "MOLECULE_EXTERNAL_GITEA_URL",
    "MOLECULE_EXTERNAL_REPO_ALLOWLIST",
    "MOLECULE_GH_IDENTITY_CONFIG_FILE",
    "MOLECULE_GITEA_TOKEN",
    "MOLECULE_IMAGE_PLATFORM",
    "MOLECULE_IMAGE_REGISTRY",
    "MOLECULE_IN_DOCKER",
    "MOLECULE_LOCAL_BUILD_CACHE",
    "MOLECULE_LOCAL_TEMPLATE_REPO_PREFIX",
    "MOLECULE_MCP_ALLOW_SEND_MESSAGE",
    "MOLECULE_ORG_SLUG",
    "MOLECULE_PROVISION_CONCURRENCY",
    "PLUGIN_ALLOW_UNPINNED",
    "PLUGIN_INSTALL_BODY_MAX_BYTES",
    "PROVISION_SHARED_SECRET",
    "REDIS_URL",
    "WORKSPACE_IMAGE_LOCAL_OVERRIDE",
];

/// Characters of a variable that is compared with those of the settings: short names are alike by chance.
const COMPARED: usize = 7;

/// One sentence for each setting without effect. `set` are the variables that have a value.
#[must_use]
pub(crate) fn without_effect(settings: &Settings, set: &[String]) -> Vec<String> {
    let Settings { http, access, storage, guests, workspaces, orgs, .. } = settings;
    let mut found = Vec::new();
    let mut warn = |applies: bool, text: String| {
        if applies {
            found.push(text);
        }
    };
    let everywhere = http.listen_hosts(true).iter().any(|host| !is_loopback(host));
    warn(
        access.dev_mode() && everywhere,
        "development mode, and BIND_ADDR lets other machines in: every client that reaches this port controls the \
         server. Set ADMIN_TOKEN, or leave BIND_ADDR out"
            .to_owned(),
    );
    let name = access.molecule_env.as_deref().unwrap_or_default().trim();
    warn(
        !name.is_empty() && !access.development() && !access.production(),
        format!(
            "MOLECULE_ENV={name} has no effect: known are dev and development (no credentials needed without \
             ADMIN_TOKEN), prod and production"
        ),
    );
    let tests = access.molecule_enable_test_tokens.as_deref().unwrap_or_default().trim();
    warn(
        !matches!(tests, "" | "0" | "1"),
        format!("MOLECULE_ENABLE_TEST_TOKENS={tests} has no effect: 1 enables them"),
    );
    if access.ws_allow_origins.is_some() {
        let text = match access.admin_token {
            Some(_) => {
                "WS_ALLOW_ORIGINS lets pages of its origins read all events without a credential. An origin is no \
                 proof, since any program can send it: leave it out where pages can fetch a ticket (POST /ws/ticket)"
            }
            None => "WS_ALLOW_ORIGINS has no effect without ADMIN_TOKEN: sockets are open to everybody then",
        };
        warn(true, text.to_owned());
    }
    let defaults = Settings::from_flags([]).ok();
    let usual_limit = defaults.as_ref().is_none_or(|defaults| defaults.http.rate_limit == http.rate_limit);
    warn(
        access.dev_mode() && !usual_limit,
        "RATE_LIMIT has no effect in development mode, which limits nothing".to_owned(),
    );
    warn(
        http.trusted_proxies.trusts_all(),
        "TRUSTED_PROXIES trusts every address: each client chooses by X-Forwarded-For which address it is limited \
         and logged by. Name the proxies only"
            .to_owned(),
    );
    warn(
        storage.secrets_encryption_key_previous.is_some() && storage.secrets_encryption_key.is_none(),
        "SECRETS_ENCRYPTION_KEY_PREVIOUS opens old secrets only: without SECRETS_ENCRYPTION_KEY new ones are \
         stored in plain text"
            .to_owned(),
    );
    let mut directory = |variable: &str, path: Option<&Path>| {
        warn(
            path.is_some_and(|path| std::fs::read_dir(path).is_err()),
            format!("{variable} is not a directory that can be read: {}", shown(path)),
        );
    };
    directory("CONFIGS_DIR", workspaces.configs_dir.as_deref());
    directory("ORG_TEMPLATES_DIR", orgs.org_templates_dir.as_deref());
    let personas = orgs.molecule_persona_root.as_path();
    let usual_personas =
        defaults.as_ref().is_none_or(|defaults| defaults.orgs.molecule_persona_root == personas);
    directory("MOLECULE_PERSONA_ROOT", (!usual_personas).then_some(personas));
    let manifest = guests.workspace_manifest_path.as_deref();
    if let Some(path) = manifest
        && let Err(error) = local_files::read(path, SETTINGS_BYTES)
    {
        warn(true, format!("WORKSPACE_MANIFEST_PATH can't be read: {}: {error}", path.display()));
    }
    let command = Settings::command();
    let read: Vec<&str> =
        command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    let is_set = |name: &&str| set.iter().any(|set| set == name);
    let others: Vec<&str> = OTHERS.into_iter().filter(|name| !read.contains(name) && is_set(name)).collect();
    warn(
        !others.is_empty(),
        format!("variables without effect in this version of Isomer: {}", others.join(", ")),
    );
    let unknown = set.iter().filter(|name| {
        let name = name.as_str();
        name.len() >= COMPARED && !read.contains(&name) && !OTHERS.contains(&name)
    });
    let long = || read.iter().copied().filter(|name| name.len() >= COMPARED);
    let meant =
        |name: &str| nearest(name, long()).or_else(|| long().find(|known| is_written_out(name, known)));
    for (name, meant) in unknown.filter_map(|name| Some((name, meant(name)?))) {
        warn(true, format!("the variable {name} has no effect; did you mean {meant}?"));
    }
    found
}

/// Whether a name has the last word of a known one in full: `BIND_ADDRESS` for `BIND_ADDR`.
fn is_written_out(name: &str, known: &str) -> bool {
    name.strip_prefix(known).is_some_and(|rest| !rest.contains('_'))
}

fn shown(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(flags: &[&str], set: &[&str]) -> String {
        let settings = Settings::from_flags(flags.iter().copied()).expect("valid flags");
        let set: Vec<String> = set.iter().copied().map(str::to_owned).collect();
        without_effect(&settings, &set).join("\n")
    }

    #[test]
    fn settings_without_effect_are_named() {
        for (flags, text) in [
            (&["--molecule-env", "developement"][..], "MOLECULE_ENV=developement has no effect"),
            (&["--molecule-enable-test-tokens", "true"], "MOLECULE_ENABLE_TEST_TOKENS=true has no effect"),
            (&["--molecule-env", "dev", "--rate-limit", "5"], "RATE_LIMIT has no effect in development mode"),
            (
                &["--secrets-encryption-key-previous", "k"],
                "SECRETS_ENCRYPTION_KEY_PREVIOUS opens old secrets only",
            ),
            (&["--trusted-proxies", "10.0.0.1,::/0"], "TRUSTED_PROXIES trusts every address"),
            (&["--configs-dir", "/no/such"], "CONFIGS_DIR is not a directory that can be read: /no/such"),
            (&["--org-templates-dir", "/dev/null"], "ORG_TEMPLATES_DIR is not a directory"),
            (&["--molecule-persona-root", "/no/such"], "MOLECULE_PERSONA_ROOT is not a directory"),
            (&["--workspace-manifest-path", "/no/such"], "WORKSPACE_MANIFEST_PATH can't be read: /no/such"),
        ] {
            assert!(warnings(flags, &[]).starts_with(text), "{flags:?}: {}", warnings(flags, &[]));
        }
        let page = ["--ws-allow-origins", "https://a.example"];
        assert!(warnings(&page, &[]).starts_with("WS_ALLOW_ORIGINS has no effect without ADMIN_TOKEN"));
        let guarded = warnings(&[&page[..], &["--admin-token", "t"]].concat(), &["WS_ALLOW_ORIGINS"]);
        assert!(guarded.contains("An origin is no proof"), "{guarded}");
        let open = ["--molecule-env", "dev", "--bind-addr", "0.0.0.0"];
        assert!(warnings(&open, &[]).starts_with("development mode, and BIND_ADDR"));
        let set = ["REDIS_URL", "PORT", "HOME", "CP_UPSTREAM_URL"];
        assert!(warnings(&[], &set).ends_with("of Isomer: CP_UPSTREAM_URL, REDIS_URL"));
    }

    #[test]
    fn misspelled_variables_are_named() {
        for (name, meant) in [
            ("DATABSE_URL", "DATABASE_URL"),
            ("ADMIN_TOKN", "ADMIN_TOKEN"),
            ("GUEST_DIR", "GUESTS_DIR"),
            ("MOLECULE_ENVIRONMENT_", ""),
            ("MOLECULE_ENVIRONMENT", "MOLECULE_ENV"),
            ("BIND_ADDRESS", "BIND_ADDR"),
            ("molecule_env", "MOLECULE_ENV"),
            ("SERVER_LEASE_SECOND", "SERVER_LEASE_SECONDS"),
        ] {
            let text = format!("the variable {name} has no effect; did you mean {meant}?");
            assert_eq!(warnings(&[], &[name]), if meant.is_empty() { "" } else { &text });
        }
    }

    /// Of a shell, systemd, Docker, Kubernetes, and a CI.
    #[test]
    fn variables_of_other_programs_are_not_taken_for_misspelled_ones() {
        for name in [
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "LANG",
            "TERM",
            "PWD",
            "OLDPWD",
            "SHLVL",
            "HOSTNAME",
            "TZ",
            "XDG_RUNTIME_DIR",
            "XDG_DATA_DIRS",
            "XDG_CONFIG_DIRS",
            "INVOCATION_ID",
            "JOURNAL_STREAM",
            "STATE_DIRECTORY",
            "CACHE_DIRECTORY",
            "LOGS_DIRECTORY",
            "NOTIFY_SOCKET",
            "CREDENTIALS_DIRECTORY",
            "MAINPID",
            "LISTEN_FDS",
            "KUBERNETES_PORT",
            "KUBERNETES_SERVICE_HOST",
            "KUBERNETES_SERVICE_PORT",
            "KUBERNETES_PORT_443_TCP_ADDR",
            "POSTGRES_PORT_5432_TCP_PORT",
            "ISOMER_SERVICE_HOST",
            "ISOMER_PORT",
            "DOCKER_HOST",
            "container",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "no_proxy",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "PGHOST",
            "PGPORT",
            "PGDATA",
            "POSTGRES_URL",
            "POSTGRES_PASSWORD",
            "RUST_LOG",
            "RUST_BACKTRACE",
            "RUST_MIN_STACK",
            "CARGO_HOME",
            "GITHUB_TOKEN",
            "GITHUB_ACTIONS",
            "GITHUB_WORKSPACE",
            "CI",
            "CI_JOB_TOKEN",
            "RUNNER_TEMP",
            "NODE_ENV",
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "AWS_REGION",
            "ISOMER_URL",
            "ISOMER_CA_FILE",
            "LD_LIBRARY_PATH",
        ] {
            assert_eq!(warnings(&[], &[name]), "", "{name}");
        }
    }

    #[test]
    fn settings_with_effect_are_not_named() {
        let flags = ["--molecule-env", "production", "--rate-limit", "5", "--configs-dir", "/tmp"];
        assert_eq!(warnings(&flags, &["PORT", "DATA_DIR", "PATH"]), "");
        assert_eq!(warnings(&["--molecule-env", "dev", "--bind-addr", "[::1]"], &[]), "");
        assert_eq!(warnings(&["--molecule-enable-test-tokens", "1", "--molecule-env", "Dev"], &[]), "");
    }
}
