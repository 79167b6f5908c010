//! Every setting of the server, in one table.
//!
//! Each one is a flag and an environment variable; `isomer serve --help` prints this file and is
//! the reference. Rules that combine settings (dev mode, the default address) live here too, so
//! that no other module looks at raw values.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use http::Uri;
use http::uri::{Authority, Scheme};
use net::AddressPolicy;

use crate::deploy_mode::is_saas;
use crate::http::client::TrustedProxies;
use crate::logging::LogFormat;

/// What deployments are called where everything may be nearby.
const DEVELOPMENT: [&str; 2] = ["development", "dev"];

/// Settings of `isomer serve`. A variable that is set but blank counts as unset.
#[derive(Debug, Clone, Parser)]
#[command(after_help = "\
Log level: RUST_LOG takes a level (error, warn, info, debug, trace) or a comma list of
target=level, for instance RUST_LOG=info,isomer::access=warn silences the line per request.
Default: info. Tokens and query strings are never logged at any level.

A setting that is given both ways: the flag wins over the variable.")]
pub struct Settings {
    /// Host name or address to listen on [default: 127.0.0.1 in dev mode, else all interfaces]
    #[arg(long, env = "BIND_ADDR", value_name = "HOST")]
    pub bind_addr: Option<String>,

    /// TCP port to listen on; 0 picks a free one
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// Bearer token with every right; without one (and outside dev mode) the admin routes are
    /// open to anybody until the first token exists
    #[arg(long, env = "ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub admin_token: Option<Secret>,

    /// Name of the deployment; `development` or `dev`, together with no ADMIN_TOKEN, is dev mode:
    /// no credentials needed, local address only
    #[arg(long, env = "MOLECULE_ENV", value_name = "NAME")]
    pub molecule_env: Option<String>,

    /// Directory for everything Isomer keeps on disk; created when missing
    #[arg(long, env = "DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,

    /// Postgres database, as postgres://user:password@host/name [default: SQLite in DATA_DIR]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<Secret>,

    /// Directory watched for guest components (*.wasm) [default: none is watched]
    #[arg(long, env = "GUESTS_DIR", value_name = "DIR")]
    pub guests_dir: Option<PathBuf>,

    /// Directory for compiled guests; may be emptied at any time [default: DATA_DIR/compiled]
    #[arg(long, env = "GUEST_CACHE_DIR", value_name = "DIR")]
    pub guest_cache_dir: Option<PathBuf>,

    /// File that lists further runtimes, as workspace_templates[].name
    /// [default: manifest.json here or in the two directories above, or in /app]
    #[arg(long, env = "WORKSPACE_MANIFEST_PATH", value_name = "FILE")]
    pub workspace_manifest_path: Option<PathBuf>,

    /// Serve only requests routed to this organisation (header X-Molecule-Org-Id or
    /// Fly-Replay-Src) and answer 404 to others [default: serve all]
    #[arg(long, env = "MOLECULE_ORG_ID", value_name = "ID")]
    pub molecule_org_id: Option<String>,

    /// Web origins that may call the API, comma separated; `*` allows any, without cookies
    /// [default: http://localhost:3000,http://localhost:3001]
    #[arg(long, env = "CORS_ORIGINS", value_name = "LIST")]
    pub cors_origins: Option<String>,

    /// Address of the web canvas; set it when the canvas is served from this server's own origin
    #[arg(long, env = "CANVAS_PROXY_URL", value_name = "URL")]
    pub canvas_proxy_url: Option<Uri>,

    /// This server's address as agents reach it; its origin is always allowed by CORS
    /// [default: http://host.docker.internal:PORT]
    #[arg(long, env = "PLATFORM_URL", value_name = "URL")]
    pub platform_url: Option<Uri>,

    /// This server's address as agents outside of it reach it, for the texts that tell them how
    /// [default: from the request]
    #[arg(long, env = "EXTERNAL_PLATFORM_URL", value_name = "URL")]
    pub external_platform_url: Option<Uri>,

    /// Key that secrets are sealed with: 32 bytes, as they are or in base64; required where
    /// MOLECULE_ENV is prod or production
    #[arg(long, env = "SECRETS_ENCRYPTION_KEY", value_name = "KEY", hide_env_values = true)]
    pub secrets_encryption_key: Option<Secret>,

    /// The key before that one: still opens what it sealed
    #[arg(long, env = "SECRETS_ENCRYPTION_KEY_PREVIOUS", value_name = "KEY", hide_env_values = true)]
    pub secrets_encryption_key_previous: Option<Secret>,

    /// Directory of workspace templates
    /// [default: workspace-configs-templates here or in the two directories above]
    #[arg(long, env = "CONFIGS_DIR", value_name = "DIR")]
    pub configs_dir: Option<PathBuf>,

    /// Directory of org templates, each a directory with an org.yaml
    /// [default: org-templates here, in the directory above, or beside CONFIGS_DIR]
    #[arg(long, env = "ORG_TEMPLATES_DIR", value_name = "DIR")]
    pub org_templates_dir: Option<PathBuf>,

    /// Workspaces that one import may have
    #[arg(long, env = "ORG_IMPORT_MAX_WORKSPACES", value_name = "N", default_value = "2000", value_parser = positive)]
    pub org_import_max_workspaces: NonZeroU32,

    /// Directory of personas: variables of workspaces, in <DIR>/<last part of files_dir>/env
    #[arg(
        long,
        env = "MOLECULE_PERSONA_ROOT",
        value_name = "DIR",
        default_value = "/etc/molecule-bootstrap/personas"
    )]
    pub molecule_persona_root: PathBuf,

    /// Seconds that starting a workspace may take
    /// [default: what its template says, else its runtime, else 600]
    #[arg(long, env = "PROVISION_TIMEOUT_SECONDS", value_name = "N", value_parser = positive)]
    pub provision_timeout_seconds: Option<NonZeroU32>,

    /// Seconds of silence after which an agent that somebody else runs counts as away
    #[arg(long, env = "REMOTE_LIVENESS_STALE_AFTER", value_name = "N", default_value = "90", value_parser = positive)]
    pub remote_liveness_stale_after: NonZeroU32,

    /// `saas`: agents live in private networks of their own; `self-hosted`: they don't
    /// [default: saas where MOLECULE_ORG_ID is set]
    #[arg(long, env = "MOLECULE_DEPLOY_MODE", value_name = "MODE")]
    pub molecule_deploy_mode: Option<String>,

    /// `1`: GET /admin/workspaces/:id/test-token hands out tokens in production too
    #[arg(long, env = "MOLECULE_ENABLE_TEST_TOKENS", value_name = "1")]
    pub molecule_enable_test_tokens: Option<String>,

    /// Days that events are kept
    #[arg(long, env = "EVENT_RETENTION_DAYS", value_name = "N", default_value = "30", value_parser = positive)]
    pub event_retention_days: NonZeroU32,

    /// Seconds that an agent may work before its answer to a message begins
    #[arg(long, env = "A2A_PROXY_RESPONSE_HEADER_TIMEOUT", value_name = "N", default_value = "1800", value_parser = positive)]
    pub a2a_proxy_response_header_timeout: NonZeroU32,

    /// Days that activity of workspaces is kept
    #[arg(long, env = "ACTIVITY_RETENTION_DAYS", value_name = "N", default_value = "7", value_parser = positive)]
    pub activity_retention_days: NonZeroU32,

    /// Hours between two looks for activity that is too old
    #[arg(long, env = "ACTIVITY_CLEANUP_INTERVAL_HOURS", value_name = "N", default_value = "6", value_parser = positive)]
    pub activity_cleanup_interval_hours: NonZeroU32,

    /// Requests a minute that each caller may send, all at once or spread; a caller is whom a bearer
    /// token names, else an address (from one address, ten times that in all); not in dev mode
    #[arg(long, env = "RATE_LIMIT", value_name = "N", default_value = "600", value_parser = positive)]
    pub rate_limit: NonZeroU32,

    /// Proxies in front of this server, as addresses or networks (10.0.0.0/8), comma separated; their
    /// X-Forwarded-For tells who the client is [default: none, the header is ignored]
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "LIST", default_value = "", hide_default_value = true)]
    pub trusted_proxies: TrustedProxies,

    /// Shape of the log lines on standard error
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

impl Settings {
    /// Settings from flags alone, as if no variable were set. For tests and embedding.
    ///
    /// # Errors
    /// Whatever the command line would refuse.
    pub fn from_flags<'a>(flags: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        use clap::{CommandFactory, FromArgMatches};
        let command = Self::command().mut_args(|a| a.env(clap::builder::Resettable::Reset));
        let arguments = std::iter::once("serve").chain(flags);
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    /// Whether everything is open because this is somebody's own machine: no admin token, and the
    /// deployment calls itself `development` or `dev`.
    #[must_use]
    pub fn dev_mode(&self) -> bool {
        let name = self.molecule_env.as_deref().unwrap_or_default().trim();
        let is_dev = DEVELOPMENT.iter().any(|dev| name.eq_ignore_ascii_case(dev));
        self.admin_token.is_none() && is_dev
    }

    /// Advice for an operator whose admin routes are open without their having said so.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let open_by_accident = self.admin_token.is_none() && !self.dev_mode();
        open_by_accident.then_some(
            "ADMIN_TOKEN is not set: whoever reaches this port controls the server. \
             Set it to a long random text, for instance: ADMIN_TOKEN=$(openssl rand -hex 32)",
        )
    }

    /// How messages are delivered.
    #[must_use]
    pub fn delivery(&self) -> messaging::Limits {
        let name = self.molecule_env.as_deref().unwrap_or_default().trim();
        messaging::Limits {
            header_timeout: Duration::from_secs(self.a2a_proxy_response_header_timeout.get().into()),
            addresses: AddressPolicy {
                saas: self.saas(),
                development: DEVELOPMENT.iter().any(|dev| name.eq_ignore_ascii_case(dev)),
            },
        }
    }

    /// Whether this is a hosted platform, where agents are in private networks.
    #[must_use]
    pub fn saas(&self) -> bool {
        is_saas(self.molecule_deploy_mode.as_deref(), self.org_id())
    }

    /// Whether this deployment calls itself production: no shortcuts then.
    #[must_use]
    pub fn production(&self) -> bool {
        let name = self.molecule_env.as_deref().unwrap_or_default().trim();
        ["prod", "production"].iter().any(|production| name.eq_ignore_ascii_case(production))
    }

    /// Whether the route that hands out tokens for tests is there.
    #[must_use]
    pub fn test_tokens(&self) -> bool {
        self.molecule_enable_test_tokens.as_deref() == Some("1") || !self.production()
    }

    /// The directory of workspace templates, if there is one.
    #[must_use]
    pub fn templates(&self) -> Option<PathBuf> {
        const PLACES: [&str; 3] = [
            "workspace-configs-templates",
            "../workspace-configs-templates",
            "../../workspace-configs-templates",
        ];
        let usual = || PLACES.iter().map(PathBuf::from).find(|place| place.is_dir());
        self.configs_dir.clone().or_else(usual)
    }

    /// The directory of org templates. It need not be there.
    #[must_use]
    pub fn org_templates(&self) -> PathBuf {
        let here = PathBuf::from("org-templates");
        let beside = self.configs_dir.as_ref().map(|configs| configs.join("../org-templates"));
        let usual = [Some(here.clone()), Some(PathBuf::from("../org-templates")), beside];
        let found = || usual.into_iter().flatten().find(|place| place.is_dir());
        self.org_templates_dir.clone().or_else(found).unwrap_or(here)
    }

    /// Hosts to try to listen on, the first that works wins. All interfaces means IPv6 and IPv4
    /// in one socket where the machine has IPv6.
    #[must_use]
    pub fn listen_hosts(&self) -> Vec<&str> {
        match self.bind_addr.as_deref() {
            Some(host) => vec![host.trim_start_matches('[').trim_end_matches(']')],
            None if self.dev_mode() => vec!["127.0.0.1"],
            None => vec!["::", "0.0.0.0"],
        }
    }

    /// The organisation this server belongs to, if it serves only one.
    #[must_use]
    pub fn org_id(&self) -> Option<&str> {
        let id = self.molecule_org_id.as_deref().map(str::trim);
        id.filter(|id| !id.is_empty())
    }

    /// `scheme://host[:port]` of this server as agents name it in `Origin`.
    #[must_use]
    pub fn platform_origin(&self) -> String {
        match self.platform_url.clone().map(Uri::into_parts) {
            Some(url) => {
                let scheme = url.scheme.as_ref().map_or("http", Scheme::as_str);
                let authority = url.authority.as_ref().map_or("", Authority::as_str);
                format!("{scheme}://{authority}").to_lowercase()
            }
            None => format!("http://host.docker.internal:{}", self.port),
        }
    }
}

fn positive(text: &str) -> Result<NonZeroU32, &'static str> {
    text.trim().parse().map_err(|_| "must be a whole number from 1 to 4294967295")
}

/// A value that never shows up in logs or debug output. Surrounding blanks are dropped: a client
/// cannot send them in a header.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "" => Err("must not be blank"),
            text => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[&str]) -> Settings {
        Settings::from_flags(flags.iter().copied()).expect("valid flags")
    }

    #[test]
    fn only_an_open_production_server_is_warned() {
        assert!(settings(&[]).hint().is_some_and(|hint| hint.contains("ADMIN_TOKEN")));
        assert!(settings(&["--molecule-env", "production"]).hint().is_some());
        assert!(settings(&["--molecule-env", "dev"]).hint().is_none());
        assert!(settings(&["--admin-token", "t"]).hint().is_none());
    }

    #[test]
    fn dev_mode_needs_the_name_and_no_admin_token() {
        for name in ["dev", "development", "Development", " DEV "] {
            assert!(settings(&["--molecule-env", name]).dev_mode(), "{name}");
            assert!(!settings(&["--molecule-env", name, "--admin-token", "t"]).dev_mode());
        }
        for name in ["production", "devel", "staging"] {
            assert!(!settings(&["--molecule-env", name]).dev_mode(), "{name}");
        }
        assert!(!settings(&[]).dev_mode());
    }

    #[test]
    fn only_dev_mode_hides_the_server_from_the_network() {
        assert_eq!(settings(&["--molecule-env", "dev"]).listen_hosts(), ["127.0.0.1"]);
        assert_eq!(settings(&[]).listen_hosts(), ["::", "0.0.0.0"]);
        assert_eq!(settings(&["--bind-addr", "[::1]"]).listen_hosts(), ["::1"]);
        let own = settings(&["--molecule-env", "dev", "--bind-addr", "0.0.0.0"]);
        assert_eq!(own.listen_hosts(), ["0.0.0.0"]);
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = settings(&[]);
        assert_eq!(settings.port, 8080);
        assert_eq!(settings.data_dir, PathBuf::from("./data"));
        assert_eq!(settings.log_format, LogFormat::Text);
        assert_eq!(settings.rate_limit.get(), 600);
        assert_eq!(settings.trusted_proxies, TrustedProxies::default());
    }

    #[test]
    fn bad_values_are_refused_with_the_reason() {
        for bad in ["0", "-1", "many", "1.5", "", "4294967296"] {
            let refused = Settings::from_flags([format!("--rate-limit={bad}").as_str()]);
            let refused = refused.expect_err(bad).to_string();
            assert!(refused.contains("must be a whole number from 1"), "{refused}");
        }
        let refused = Settings::from_flags(["--trusted-proxies", "10.0.0.0/8,10.0.0.0/33"]);
        let refused = refused.expect_err("no such network").to_string();
        assert!(refused.contains("`10.0.0.0/33` is neither an address"), "{refused}");
    }

    #[test]
    fn the_platform_origin_has_no_path() {
        assert_eq!(settings(&[]).platform_origin(), "http://host.docker.internal:8080");
        let url = settings(&["--platform-url", "https://Isomer.Example:8443/base/"]);
        assert_eq!(url.platform_origin(), "https://isomer.example:8443");
    }

    #[test]
    fn secrets_do_not_print() {
        let printed = format!("{:?}", settings(&["--admin-token", "hunter2"]));
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn blank_flags_do_not_lock_everybody_out() {
        assert!(Settings::from_flags(["--admin-token", " "]).is_err());
        assert_eq!(settings(&["--molecule-org-id", " "]).org_id(), None);
    }
}
