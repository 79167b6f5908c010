//! Every setting of the server: one group per subsystem, one command line.
//!
//! Each setting is a flag and an environment variable; `isomer serve --help` prints these groups and is the
//! reference. Rules that combine settings live beside their group, so that no other module looks at raw
//! values.

use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::settings::{AccessSettings, Secret};
use catalog::Catalog;
use clap::{Args, Parser};
use fleet::Fleet;
use httpd::settings::{HttpSettings, positive};
use net::{AddressPolicy, AgentAddresses, AgentAuthorities, AuthoritiesError};
use orgs::{OpenVariables, Orgs, ServerVariables};
use wasm::CompileLimits;

use crate::deploy_mode::is_saas;
use crate::logging::LogFormat;

/// Settings of `isomer serve`. A variable that is set but blank counts as unset; only an `ADMIN_TOKEN` of blanks is
/// refused where the server would be open.
#[derive(Debug, Clone, Parser)]
#[command(after_help = "\
Log level: RUST_LOG takes a level (error, warn, info, debug, trace) or a comma list of
target=level, for instance RUST_LOG=info,isomer::access=warn silences the line per request.
Default: info. Tokens and query strings are never logged at any level.

A setting that is given both ways: the flag wins over the variable.")]
pub struct Settings {
    /// Where the server listens, and who may call it from where.
    #[command(flatten)]
    pub http: HttpSettings,

    /// Credentials beside tokens, and the kind of deployment.
    #[command(flatten)]
    pub access: AccessSettings,

    /// Where rows and files are kept.
    #[command(flatten)]
    pub storage: StorageSettings,

    /// Where guests come from.
    #[command(flatten)]
    pub guests: GuestSettings,

    /// How workspaces are started and watched.
    #[command(flatten)]
    pub workspaces: WorkspaceSettings,

    /// Org templates and their limits.
    #[command(flatten)]
    pub orgs: OrgSettings,

    /// How messages are delivered, and how long their activity is kept.
    #[command(flatten)]
    pub messages: MessageSettings,

    /// What is logged.
    #[command(flatten)]
    pub logging: LoggingSettings,
}

/// Where rows and files are kept.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct StorageSettings {
    /// Directory for everything Isomer keeps on disk; created when missing
    #[arg(long, env = "DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,

    /// Postgres database, as postgres://user:password@host/name [default: SQLite in DATA_DIR]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<Secret>,

    /// Key that secrets are sealed with: 32 bytes, raw or in base64; required where
    /// MOLECULE_ENV is prod or production
    #[arg(long, env = "SECRETS_ENCRYPTION_KEY", value_name = "KEY", hide_env_values = true)]
    pub secrets_encryption_key: Option<Secret>,

    /// The previous key; secrets sealed with it can still be opened
    #[arg(long, env = "SECRETS_ENCRYPTION_KEY_PREVIOUS", value_name = "KEY", hide_env_values = true)]
    pub secrets_encryption_key_previous: Option<Secret>,

    /// MiB of activity that wait in memory at most while the database can't be written; more is lost
    #[arg(long, env = "WRITE_BEHIND_MIB", value_name = "N", default_value = "64", value_parser = positive)]
    pub write_behind_mib: NonZeroU32,

    /// Days that events are kept
    #[arg(long, env = "EVENT_RETENTION_DAYS", value_name = "N", default_value = "30", value_parser = positive)]
    pub event_retention_days: NonZeroU32,
}

/// Where guests come from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Guests")]
pub struct GuestSettings {
    /// Directory watched for guest components (*.wasm) [default: none is watched]
    #[arg(long, env = "GUESTS_DIR", value_name = "DIR")]
    pub guests_dir: Option<PathBuf>,

    /// Directory for compiled guests; may be emptied at any time [default: DATA_DIR/compiled]
    #[arg(long, env = "GUEST_CACHE_DIR", value_name = "DIR")]
    pub guest_cache_dir: Option<PathBuf>,

    /// MiB of memory that compiling one guest may take, at least 256
    #[arg(
        long,
        env = "GUEST_COMPILE_MIB",
        value_name = "N",
        default_value = "1024",
        value_parser = clap::value_parser!(u32).range(256..)
    )]
    pub guest_compile_mib: u32,

    /// Seconds of processor time that compiling one guest may take
    #[arg(long, env = "GUEST_COMPILE_SECONDS", value_name = "N", default_value = "60", value_parser = positive)]
    pub guest_compile_seconds: NonZeroU32,

    /// File that lists further runtimes, as workspace_templates[].name
    /// [default: manifest.json here or in the two directories above, or in /app]
    #[arg(long, env = "WORKSPACE_MANIFEST_PATH", value_name = "FILE")]
    pub workspace_manifest_path: Option<PathBuf>,
}

/// How workspaces are started and watched.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workspaces")]
pub struct WorkspaceSettings {
    /// Directory of runtime templates
    /// [default: workspace-configs-templates here or in the two directories above]
    #[arg(long, env = "CONFIGS_DIR", value_name = "DIR")]
    pub configs_dir: Option<PathBuf>,

    /// Seconds that starting a workspace may take
    /// [default: what its template says, else its runtime, else 600]
    #[arg(long, env = "PROVISION_TIMEOUT_SECONDS", value_name = "N", value_parser = positive)]
    pub provision_timeout_seconds: Option<NonZeroU32>,

    /// Seconds without a heartbeat after which an agent that its operator runs counts as offline
    #[arg(long, env = "REMOTE_LIVENESS_STALE_AFTER", value_name = "N", default_value = "90", value_parser = positive)]
    pub remote_liveness_stale_after: NonZeroU32,

    /// `saas`: agents live in private networks of their own; `self-hosted`: they don't
    /// [default: saas where MOLECULE_ORG_ID is set]
    #[arg(long, env = "MOLECULE_DEPLOY_MODE", value_name = "MODE")]
    pub molecule_deploy_mode: Option<String>,
}

/// Org templates and their limits.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Org templates")]
pub struct OrgSettings {
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

    /// Variables of this server that templates may use as $NAME, separated by commas: names, or beginnings with *
    #[arg(long, env = "ORG_TEMPLATE_VARIABLES", value_name = "NAMES", default_value = "WORKSPACE_DIR")]
    pub org_template_variables: OpenVariables,
}

/// How messages are delivered, and how long their activity is kept.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Messages")]
pub struct MessageSettings {
    /// Seconds that an agent may work before its answer to a message begins
    #[arg(long, env = "A2A_PROXY_RESPONSE_HEADER_TIMEOUT", value_name = "N", default_value = "1800", value_parser = positive)]
    pub a2a_proxy_response_header_timeout: NonZeroU32,

    /// Seconds that a message waits for an agent of which no event is published meanwhile; agents choose
    /// another time in their heartbeats [default: 300]
    #[arg(long, env = "A2A_IDLE_TIMEOUT_SECONDS", value_name = "N")]
    pub a2a_idle_timeout_seconds: Option<String>,

    /// Calls of agents that may be under way at once, half of them for senders without a credential (in dev mode all);
    /// more messages are answered with 503 and Retry-After. Each may take up to 10 MiB for its answer, and a descriptor
    /// [default: half of MAX_CONNECTIONS, at most 1000]
    #[arg(long, env = "A2A_MAX_CALLS", value_name = "N", value_parser = positive)]
    pub a2a_max_calls: Option<NonZeroU32>,

    /// Calls of the agent of one workspace that may be under way at once; more messages are queued, as for a busy
    /// agent
    #[arg(long, env = "A2A_MAX_CALLS_PER_WORKSPACE", value_name = "N", default_value = "100", value_parser = positive)]
    pub a2a_max_calls_per_workspace: NonZeroU32,

    /// Messages that may wait for the agent of one workspace; more are answered with 503 and Retry-After. Senders
    /// without a credential may fill a quarter of this limit and of the two that follow
    #[arg(long, env = "A2A_QUEUE_MESSAGES", value_name = "N", default_value = "1000", value_parser = positive)]
    pub a2a_queue_messages: NonZeroU32,

    /// MiB of messages that may wait for the agent of one workspace
    #[arg(long, env = "A2A_QUEUE_MIB", value_name = "N", default_value = "64", value_parser = positive)]
    pub a2a_queue_mib: NonZeroU32,

    /// MiB of messages that may wait for all agents. The disk holds about twice as much: activity repeats messages
    #[arg(long, env = "A2A_QUEUE_TOTAL_MIB", value_name = "N", default_value = "1024", value_parser = positive)]
    pub a2a_queue_total_mib: NonZeroU32,

    /// File with certificates (PEM) of authorities that sign agents' certificates, besides the system's
    #[arg(long, env = "AGENT_CA_FILE", value_name = "FILE")]
    pub agent_ca_file: Option<PathBuf>,

    /// Days that activity of workspaces is kept
    #[arg(long, env = "ACTIVITY_RETENTION_DAYS", value_name = "N", default_value = "7", value_parser = positive)]
    pub activity_retention_days: NonZeroU32,

    /// Days that messages of the queue are kept after they were delivered, dropped, or failed
    #[arg(long, env = "A2A_QUEUE_RETENTION_DAYS", value_name = "N", default_value = "7", value_parser = positive)]
    pub a2a_queue_retention_days: NonZeroU32,

    /// Seconds without a sign of life after which a server counts as gone, and the messages that it was
    /// delivering are queued again
    #[arg(long, env = "SERVER_LEASE_SECONDS", value_name = "N", default_value = "30", value_parser = positive)]
    pub server_lease_seconds: NonZeroU32,

    /// Hours between two deletions of activity and finished messages that are too old
    #[arg(long, env = "ACTIVITY_CLEANUP_INTERVAL_HOURS", value_name = "N", default_value = "6", value_parser = positive)]
    pub activity_cleanup_interval_hours: NonZeroU32,
}

/// What is logged.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LoggingSettings {
    /// Shape of the log lines on standard error
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Calls of agents under way at once, unless the setting says otherwise or connections are few.
const MOST_CALLS: usize = 1_000;

fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

/// Whether the value of a variable counts as none.
pub(crate) fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
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

    /// How messages are delivered by a server that serves this number of connections. A call may hold its sender's, so
    /// that calls never take all of them.
    #[must_use]
    pub fn delivery(&self, connections: u32) -> messaging::Limits {
        let within = usize::try_from(connections / 2).unwrap_or(usize::MAX).clamp(1, MOST_CALLS);
        let calls = self.messages.a2a_max_calls.map_or(within, count);
        messaging::Limits {
            server_lease: Duration::from_secs(self.messages.server_lease_seconds.get().into()),
            header_timeout: Duration::from_secs(self.messages.a2a_proxy_response_header_timeout.get().into()),
            calls,
            is_development: self.access.dev_mode(),
            calls_of_strangers: if self.access.dev_mode() { calls } else { (calls / 2).max(1) },
            calls_each: count(self.messages.a2a_max_calls_per_workspace),
            queue: messaging::QueueRoom {
                messages: self.messages.a2a_queue_messages.get().into(),
                bytes: u64::from(self.messages.a2a_queue_mib.get()) << 20,
                total_bytes: u64::from(self.messages.a2a_queue_total_mib.get()) << 20,
            },
            idle_timeout: self.messages.idle_timeout(),
        }
    }

    /// Directories that the server reads guests and templates from, and writes compiled guests to.
    pub(crate) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let given = [&self.guests.guests_dir, &self.guests.guest_cache_dir].into_iter().flatten().cloned();
        let configs = self.workspaces.configs_dir.as_deref();
        let personas = Some(self.orgs.molecule_persona_root.clone());
        let templates = [Some(self.orgs.templates(configs)), self.workspaces.runtime_templates(), personas];
        given.chain(templates.into_iter().flatten())
    }

    /// Which URLs agents may have, for a server that listens on `listening`.
    #[must_use]
    pub fn addresses(&self, listening: SocketAddr) -> AgentAddresses {
        let policy = AddressPolicy { saas: self.saas(), development: self.access.development() };
        let urls = [&self.http.platform_url, &self.http.external_platform_url];
        let urls: Vec<String> = urls.into_iter().flatten().map(ToString::to_string).collect();
        AgentAddresses::new(policy, Some(listening), urls.iter().map(String::as_str))
    }

    /// What of the settings ends up in containers.
    #[must_use]
    pub fn provision(&self) -> fleet::ProvisionSettings {
        let given =
            self.http.platform_url.as_ref().map(|url| url.to_string().trim_end_matches('/').to_owned());
        fleet::ProvisionSettings {
            platform_url: given.unwrap_or_else(|| self.http.platform_origin()),
            ..fleet::ProvisionSettings::default()
        }
    }

    /// Whether this is a hosted platform, where agents are in private networks.
    #[must_use]
    pub fn saas(&self) -> bool {
        is_saas(self.workspaces.molecule_deploy_mode.as_deref(), self.http.org_id())
    }
}

impl GuestSettings {
    /// What compiling one guest may take.
    #[must_use]
    pub fn compile_limits(&self) -> CompileLimits {
        CompileLimits {
            memory_bytes: u64::from(self.guest_compile_mib) << 20,
            cpu_seconds: self.guest_compile_seconds.get(),
        }
    }
}

impl StorageSettings {
    /// Bytes of rows that wait to be written at most.
    #[must_use]
    pub fn behind_bytes(&self) -> usize {
        usize::try_from(self.write_behind_mib.get()).unwrap_or(usize::MAX).saturating_mul(1 << 20)
    }
}

impl WorkspaceSettings {
    /// The directory of runtime templates, if there is one.
    #[must_use]
    pub(crate) fn runtime_templates(&self) -> Option<PathBuf> {
        const PLACES: [&str; 3] = [
            "workspace-configs-templates",
            "../workspace-configs-templates",
            "../../workspace-configs-templates",
        ];
        let usual = || PLACES.iter().map(PathBuf::from).find(|place| place.is_dir());
        self.configs_dir.clone().or_else(usual)
    }

    /// Times of the fleet.
    #[must_use]
    pub fn limits(&self) -> fleet::Limits {
        let seconds = |count: NonZeroU32| Duration::from_secs(count.get().into());
        fleet::Limits {
            provision_timeout: self.provision_timeout_seconds.map(seconds),
            operator_heartbeat_timeout: seconds(self.remote_liveness_stale_after),
            ..fleet::Limits::default()
        }
    }
}

impl MessageSettings {
    /// The contract wants the default in place of a bad value.
    fn idle_timeout(&self) -> Duration {
        const DEFAULT: u64 = 300;
        let Some(text) = self.a2a_idle_timeout_seconds.as_deref().map(str::trim).filter(|it| !it.is_empty())
        else {
            return Duration::from_secs(DEFAULT);
        };
        let seconds = text.parse::<NonZeroU32>().map_or_else(
            |_| {
                tracing::warn!(
                    "A2A_IDLE_TIMEOUT_SECONDS is {text:?}, which is no positive whole number: {DEFAULT} is used"
                );
                DEFAULT
            },
            |seconds| seconds.get().into(),
        );
        Duration::from_secs(seconds)
    }

    /// Authorities that agents' certificates may be signed by, besides the system's.
    ///
    /// # Errors
    /// If the file can't be used.
    pub fn authorities(&self) -> Result<AgentAuthorities, AuthoritiesError> {
        self.agent_ca_file.as_deref().map_or_else(|| Ok(AgentAuthorities::default()), AgentAuthorities::load)
    }
}

impl OrgSettings {
    /// The organizations' templates. `configs_dir` is the directory of runtime templates, where it is set.
    #[must_use]
    pub fn open(&self, fleet: &Fleet, catalog: &Catalog, configs_dir: Option<&Path>) -> Orgs {
        let nodes = self.org_import_max_workspaces.get();
        let limits =
            orgs::Limits { nodes: usize::try_from(nodes).unwrap_or(usize::MAX), ..orgs::Limits::default() };
        let templates = self.templates(configs_dir);
        let all =
            env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
        let variables = ServerVariables::of(&self.org_template_variables, all);
        Orgs::new(fleet.clone(), catalog.clone(), &templates, &self.molecule_persona_root, variables, limits)
    }

    /// The directory of org templates. It need not be there.
    pub(crate) fn templates(&self, configs_dir: Option<&Path>) -> PathBuf {
        let here = PathBuf::from("org-templates");
        let beside = configs_dir.map(|configs| configs.join("../org-templates"));
        let usual = [Some(here.clone()), Some(PathBuf::from("../org-templates")), beside];
        let found = || usual.into_iter().flatten().find(|place| place.is_dir());
        self.org_templates_dir.clone().or_else(found).unwrap_or(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[&str]) -> Settings {
        Settings::from_flags(flags.iter().copied()).expect("valid flags")
    }

    #[test]
    fn what_is_open_is_said_where_there_is_no_admin_token() {
        let open = |flags: &[&str]| settings(flags).access.open_routes();
        assert!(open(&[]).is_some_and(|open| open.contains("ADMIN_TOKEN is not set")));
        assert!(open(&["--molecule-env", "production"]).is_some_and(|open| open.contains("/ws")));
        assert!(open(&["--molecule-env", "dev"]).is_some_and(|open| open.starts_with("development mode")));
        for name in ["dev", "production"] {
            assert!(open(&["--admin-token", "t", "--molecule-env", name]).is_none());
        }
    }

    #[test]
    fn dev_mode_needs_the_name_and_no_admin_token() {
        for name in ["dev", "development", "Development", " DEV "] {
            assert!(settings(&["--molecule-env", name]).access.dev_mode(), "{name}");
            assert!(!settings(&["--molecule-env", name, "--admin-token", "t"]).access.dev_mode());
        }
        for name in ["production", "devel", "staging"] {
            assert!(!settings(&["--molecule-env", name]).access.dev_mode(), "{name}");
        }
        assert!(!settings(&[]).access.dev_mode());
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = settings(&[]);
        assert_eq!(settings.http.port, 8080);
        assert_eq!(settings.storage.data_dir, PathBuf::from("./data"));
        assert_eq!(settings.logging.log_format, LogFormat::Text);
        assert_eq!(settings.http.rate_limit.get(), 600);
        assert!(settings.access.admin_token.is_none());
    }

    #[test]
    fn a_bad_idle_timeout_is_the_default() {
        for (text, seconds) in
            [("7", 7), (" 7 ", 7), ("0", 300), ("-1", 300), ("soon", 300), ("1.5", 300), ("", 300)]
        {
            let flag = format!("--a2a-idle-timeout-seconds={text}");
            assert_eq!(
                settings(&[&flag]).delivery(100).idle_timeout,
                Duration::from_secs(seconds),
                "{text:?}"
            );
        }
        assert_eq!(settings(&[]).delivery(100).idle_timeout, Duration::from_secs(300));
    }

    #[test]
    fn calls_of_agents_leave_connections_to_other_requests() {
        let dev = ["--molecule-env", "dev"];
        for (flags, connections, expected) in [
            (&[][..], 10_000, (1_000, 500)),
            (&[], 384, (192, 96)),
            (&[], 16, (8, 4)),
            (&[], 1, (1, 1)),
            (&dev, 384, (192, 192)),
            (&["--a2a-max-calls", "50"], 10_000, (50, 25)),
            (&["--a2a-max-calls", "5000"], 10_000, (5_000, 2_500)),
        ] {
            let limits = settings(flags).delivery(connections);
            assert_eq!((limits.calls, limits.calls_of_strangers), expected, "{flags:?} {connections}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let printed = format!("{:?}", settings(&["--admin-token", "hunter2"]));
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn a_blank_admin_token_is_refused() {
        assert!(Settings::from_flags(["--admin-token", " "]).is_err());
    }
}
