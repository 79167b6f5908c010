//! Settings of access: the admin token, and the kind of deployment.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use httpd::origin_list::OriginList;

/// Names (`MOLECULE_ENV`) of a deployment on a developer's machine.
const DEVELOPMENT: [&str; 2] = ["development", "dev"];

/// Names of a deployment in production.
const PRODUCTION: [&str; 2] = ["prod", "production"];

/// Settings of access.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessSettings {
    /// Bearer token with every right; without one (and outside dev mode) the admin routes are
    /// open without a credential until the first token exists
    #[arg(long, alias = "token", env = "ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub admin_token: Option<Secret>,

    /// Name of the deployment; `development` or `dev`, together with no ADMIN_TOKEN, is dev mode:
    /// no credentials needed, local address only
    #[arg(long, env = "MOLECULE_ENV", value_name = "NAME")]
    pub molecule_env: Option<String>,

    /// Web origins whose pages may open /ws without a credential where ADMIN_TOKEN is set, comma
    /// separated; CORS must allow them too. An origin is no proof: any program can send it, and
    /// reads all events then. Pages that can fetch a ticket (POST /ws/ticket) need no entry
    /// [default: none]
    #[arg(long, env = "WS_ALLOW_ORIGINS", value_name = "LIST", value_parser = OriginList::named)]
    pub ws_allow_origins: Option<OriginList>,

    /// `1`: GET /admin/workspaces/:id/test-token hands out tokens in production too
    #[arg(long, env = "MOLECULE_ENABLE_TEST_TOKENS", value_name = "1")]
    pub molecule_enable_test_tokens: Option<String>,
}

impl AccessSettings {
    /// Dev mode, in which no credential is needed: no admin token, and the deployment calls itself
    /// `development` or `dev`.
    #[must_use]
    pub fn dev_mode(&self) -> bool {
        self.admin_token.is_none() && self.development()
    }

    /// Whether the deployment calls itself `development` or `dev`.
    #[must_use]
    pub fn development(&self) -> bool {
        self.is_called(&DEVELOPMENT)
    }

    /// What is open to every client without a credential, where anything is.
    #[must_use]
    pub fn open_routes(&self) -> Option<&'static str> {
        if self.admin_token.is_some() {
            None
        } else if self.dev_mode() {
            Some(
                "development mode: no route needs a credential, so every program that reaches this port controls the \
                 server. Set ADMIN_TOKEN where others can reach it",
            )
        } else {
            Some(
                "ADMIN_TOKEN is not set: every client that reaches this port controls the server until the first token \
                 exists, and may afterwards still read all events and messages (/ws), send messages to agents, and \
                 register as the agent of a workspace that never had a token. Set it to a long random text, for \
                 instance: ADMIN_TOKEN=$(openssl rand -hex 32)",
            )
        }
    }

    /// Whether the deployment calls itself production.
    #[must_use]
    pub fn production(&self) -> bool {
        self.is_called(&PRODUCTION)
    }

    fn is_called(&self, names: &[&str]) -> bool {
        let name = self.molecule_env.as_deref().unwrap_or_default().trim();
        names.iter().any(|candidate| name.eq_ignore_ascii_case(candidate))
    }

    /// Whether the route that issues tokens for tests exists.
    #[must_use]
    pub fn test_tokens(&self) -> bool {
        self.molecule_enable_test_tokens.as_deref() == Some("1") || !self.production()
    }
}

/// A value that never appears in logs or debug output. Surrounding blanks are dropped: a client cannot send
/// them in a header.
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
