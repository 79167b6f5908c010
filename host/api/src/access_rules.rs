//! The rules of the auth classes: which credential may call which route.
//!
//! A new kind of credential becomes a variant of [`Caller`] and a step in the rules; handlers stay as they are.

use std::fmt;

use credentials::{Maker, Ticket};
use fleet::{Fleet, LiveToken};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use types::{OrgId, Owner, TokenId, WorkspaceId};

use crate::settings::AccessSettings;
use httpd::body_budget::Admitted;
use httpd::error::ApiError;
use httpd::headers::text;
use httpd::origin_list::OriginList;

/// The refusal of a bearer that is no token, or another workspace's.
const INVALID_TOKEN: &str = "invalid workspace auth token";

/// The bearer token of a request. Only headers are read, never the query string.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    bearer: Option<&'a str>,
}

impl<'a> Credentials<'a> {
    /// Reads `Authorization: Bearer <token>`; the scheme is matched exactly, the token trimmed.
    /// Anything else counts as no bearer.
    #[must_use]
    pub fn of(headers: &'a HeaderMap) -> Self {
        let bearer = text(headers, header::AUTHORIZATION)
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::trim)
            .filter(|token| !token.is_empty());
        Self { bearer }
    }

    /// For a bearer that came another way than by header, as WebSockets of browsers send it.
    #[must_use]
    pub fn bearing(bearer: &'a str) -> Self {
        Self { bearer: Some(bearer) }
    }

    /// The bearer token, if the request has one.
    #[must_use]
    pub fn bearer(&self) -> Option<&'a str> {
        self.bearer
    }
}

/// The identity under which a request was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// The admin token.
    AdminToken,
    /// A token of the organization.
    OrgToken {
        /// The token's id.
        id: TokenId,
        /// The token's first characters, which listings show.
        prefix: String,
        /// Root workspace of the organization that the token is bound to.
        org_id: Option<OrgId>,
        /// The first of the tokens that led to this one, or this one.
        root: TokenId,
    },
    /// A token of this workspace.
    Workspace {
        /// The workspace.
        id: WorkspaceId,
        /// The token's id.
        token: TokenId,
        /// The first of the tokens that led to this one, or this one.
        root: TokenId,
    },
    /// Dev mode asks for no credential.
    DevMode,
    /// The deployment has no credential yet: no admin token and no token at all.
    Uninitialized,
}

impl Caller {
    /// Whether it showed a credential, or needs none because the machine is a developer's own.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        *self != Self::Uninitialized
    }

    /// Id of the token, so that a stream ends when its token is revoked.
    #[must_use]
    pub fn token(&self) -> Option<TokenId> {
        match self {
            Self::OrgToken { id, .. } | Self::Workspace { token: id, .. } => Some(*id),
            Self::AdminToken | Self::DevMode | Self::Uninitialized => None,
        }
    }
}

impl Caller {
    /// The first of the tokens that led to the caller's.
    #[must_use]
    pub(crate) fn root(&self) -> Option<TokenId> {
        match self {
            Self::OrgToken { root, .. } | Self::Workspace { root, .. } => Some(*root),
            Self::AdminToken | Self::DevMode | Self::Uninitialized => None,
        }
    }

    /// The caller as the maker of a token.
    #[must_use]
    pub(crate) fn maker(&self) -> Maker {
        Maker { name: self.to_string(), root: self.root() }
    }

    /// The mark of the caller's requests, whose bodies share memory with those of the same workspace, or of tokens of
    /// the organization with the same root.
    #[must_use]
    pub(crate) fn admitted(&self) -> Admitted {
        let credential = match self {
            Self::OrgToken { root, .. } => Some(root.0),
            Self::Workspace { id, .. } => Some(id.0),
            Self::AdminToken | Self::DevMode | Self::Uninitialized => None,
        };
        Admitted { credential }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdminToken => f.write_str("admin-token"),
            Self::OrgToken { prefix, .. } => write!(f, "org-token:{prefix}"),
            Self::Workspace { id, .. } => write!(f, "workspace:{id}"),
            Self::DevMode => f.write_str("dev-mode"),
            // Stored as the creator of tokens: the text stays.
            Self::Uninitialized => f.write_str("fresh-install"),
        }
    }
}

/// What a caller of the registry proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentProof {
    /// Admin rights.
    Admin,
    /// A token of the workspace that the body names.
    Own,
    /// Nothing: the workspace has no token yet.
    None,
}

impl AgentProof {
    /// Whether the caller showed a token that counts.
    #[must_use]
    pub(crate) fn is_proved(self) -> bool {
        self != Self::None
    }
}

/// What a registering agent may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationRights {
    /// Create the workspace if there is none with that id.
    pub may_create: bool,
    /// Get a token if the workspace has none. A caller that showed the workspace's own has one, unless that is being
    /// revoked.
    pub may_get_token: bool,
    /// The first of the tokens that led to the caller's, if it is one.
    pub root: Option<TokenId>,
    /// The caller showed a token that counts for this workspace.
    pub proved: bool,
}

/// The rules of the auth classes.
#[derive(Clone)]
pub struct Access {
    admin_token: Option<TokenHash>,
    dev_mode: bool,
    /// Origins whose pages may open sockets without a credential.
    socket_origins: Option<OriginList>,
    fleet: Fleet,
}

impl Access {
    /// Admin token and mode come from the settings, all other tokens from the fleet.
    #[must_use]
    pub fn new(settings: &AccessSettings, fleet: Fleet) -> Self {
        let token = settings.admin_token.as_ref();
        let admin_token = token.map(|token| TokenHash::of(token.expose()));
        let socket_origins = settings.ws_allow_origins.clone();
        Self { admin_token, dev_mode: settings.dev_mode(), socket_origins, fleet }
    }

    /// Dev mode: a developer's own machine, where no credential is needed.
    #[must_use]
    pub fn dev_mode(&self) -> bool {
        self.dev_mode
    }

    /// Whether the settings have an admin token.
    #[must_use]
    pub(crate) fn has_admin_token(&self) -> bool {
        self.admin_token.is_some()
    }

    /// Compares in constant time.
    #[must_use]
    pub(crate) fn is_admin_token(&self, bearer: &str) -> bool {
        self.admin_token.as_ref().is_some_and(|token| token.matches(bearer))
    }

    /// Whether no credential exists yet: no admin token and no live token.
    #[must_use]
    pub(crate) fn is_uninitialized(&self) -> bool {
        self.admin_token.is_none() && self.fleet.state().tokens().is_empty()
    }

    /// Class `admin`.
    ///
    /// # Errors
    /// 401, with different texts for a missing and for a wrong credential.
    pub fn admin(&self, credentials: &Credentials<'_>) -> Result<Caller, ApiError> {
        if self.dev_mode {
            // A live token is named in what it makes; a wrong one is not needed either.
            return Ok(credentials.bearer.and_then(|bearer| self.token(bearer)).unwrap_or(Caller::DevMode));
        }
        if self.is_uninitialized() {
            return Ok(Caller::Uninitialized);
        }
        let Some(bearer) = credentials.bearer else {
            return Err(ApiError::unauthorized("admin auth required"));
        };
        let caller = match self.admin_token {
            Some(_) if self.is_admin_token(bearer) => Some(Caller::AdminToken),
            _ => self.token(bearer).filter(|caller| self.is_admin_class(caller)),
        };
        caller.ok_or_else(|| ApiError::unauthorized("invalid admin auth token"))
    }

    /// Whether the holder of a token is admitted to class `admin`.
    fn is_admin_class(&self, caller: &Caller) -> bool {
        !self.has_admin_token() || matches!(caller, Caller::OrgToken { .. })
    }

    /// Whether a bearer is the admin token or a live token. Records no use.
    #[must_use]
    pub(crate) fn is_credential(&self, bearer: &str) -> bool {
        self.is_admin_token(bearer) || self.fleet.state().tokens().find(bearer).is_some()
    }

    /// The maker of a ticket, which is used up by this. Its credential must still be good.
    ///
    /// # Errors
    /// 401 for a ticket that is no good, 503 if the database can't be read.
    pub(crate) async fn ticket(&self, text: &str) -> Result<Caller, ApiError> {
        let redeemed = self.fleet.credentials().redeem_ticket(text).await;
        let ticket = redeemed.map_err(|error| ApiError::platform_unavailable(&error))?;
        let made_by = |Ticket { token, made_by }: Ticket| match token {
            Some(id) => {
                let token = self.fleet.state().tokens().get(id)?;
                Some(holder(&token)).filter(|caller| self.is_admin_class(caller))
            }
            None => [Caller::AdminToken, Caller::DevMode, Caller::Uninitialized]
                .into_iter()
                // The settings may be others since.
                .filter(|caller| (*caller == Caller::AdminToken) == self.has_admin_token())
                .find(|caller| caller.to_string() == made_by),
        };
        ticket.and_then(made_by).ok_or_else(|| {
            let hint = "a ticket is good for one socket, within 30 seconds: get another with POST /ws/ticket";
            let body = json!({ "error": "invalid WebSocket ticket", "hint": hint });
            ApiError::with_body(StatusCode::UNAUTHORIZED, body)
        })
    }

    /// Whether a canvas may open a socket without any credential: where nothing needs one to read events, or from pages
    /// whose origin the operator named.
    #[must_use]
    pub(crate) fn opens_sockets(&self, headers: &HeaderMap) -> bool {
        !self.has_admin_token() || self.socket_origins.as_ref().is_some_and(|origins| origins.names(headers))
    }

    /// Whether a sender of messages may be told where agents are reached: where there is an admin token, one with a
    /// credential.
    #[must_use]
    pub(crate) fn knows_addresses(&self, sender: Option<&Caller>) -> bool {
        !self.has_admin_token() || sender.is_some()
    }

    /// Class `ws`, for the workspace that the path names.
    ///
    /// # Errors
    /// 401, with different texts for a missing and for a wrong credential.
    pub fn workspace(&self, id: &str, credentials: &Credentials<'_>) -> Result<Caller, ApiError> {
        if id.is_empty() {
            return Err(ApiError::unauthorized("missing workspace ID"));
        }
        match credentials.bearer {
            Some(bearer) if self.is_admin_token(bearer) => Ok(Caller::AdminToken),
            Some(bearer) => {
                let named = WorkspaceId::parse(id).ok();
                let good = |caller: &Caller| match caller {
                    Caller::OrgToken { .. } => true,
                    Caller::Workspace { id, .. } => Some(*id) == named,
                    _ => false,
                };
                let caller = self.token(bearer).filter(good);
                caller.ok_or_else(|| ApiError::unauthorized(INVALID_TOKEN))
            }
            None if self.dev_mode => Ok(Caller::DevMode),
            None => Err(ApiError::unauthorized("missing workspace auth token")),
        }
    }

    /// The rule of the registry's routes, for the workspace that the body names. Where there is no admin token, a
    /// workspace for which no token was ever made passes without proof, but not with a wrong one.
    ///
    /// # Errors
    /// 401 for a missing or wrong credential, and for a removed workspace: agents stop on that answer. 503
    /// if the database can't be read.
    pub async fn agent(
        &self,
        id: WorkspaceId,
        credentials: &Credentials<'_>,
    ) -> Result<AgentProof, ApiError> {
        let caller = self.bearer_of(credentials).map_err(|_| self.agent_refusal(id, credentials))?;
        // Before any look-up, so that the answer to a request without a credential says nothing about the workspace.
        if caller.is_none() && self.has_admin_token() {
            return Err(self.agent_refusal(id, credentials));
        }
        let is_admin = matches!(caller, Some(Caller::AdminToken | Caller::OrgToken { .. }));
        if self.fleet.workspaces().get(id).is_none() {
            let known = self.fleet.find(id).await;
            let known = known.map_err(|error| ApiError::platform_unavailable(&error))?;
            return match known {
                Some(known) if known.row.is_removed() => Err(ApiError::unauthorized(INVALID_TOKEN)),
                _ if is_admin => Ok(AgentProof::Admin),
                _ if self.has_admin_token() => Err(self.agent_refusal(id, credentials)),
                // The index may not know yet what another server created a moment ago; the operation itself
                // checks again.
                _ => Ok(AgentProof::None),
            };
        }
        match caller {
            _ if is_admin => Ok(AgentProof::Admin),
            Some(Caller::Workspace { id: own, .. }) if own == id => Ok(AgentProof::Own),
            None if !self.fleet.state().tokens().ever_had_any(id) => Ok(AgentProof::None),
            _ => Err(self.agent_refusal(id, credentials)),
        }
    }

    /// The answer to an agent without a valid token. It says how to get one: to everybody where agents always need
    /// one, so that it tells nothing about the workspace; else where all tokens of the workspace were revoked.
    fn agent_refusal(&self, id: WorkspaceId, credentials: &Credentials<'_>) -> ApiError {
        let text = unproved(credentials);
        let tokens = self.fleet.state().tokens();
        let why = match self.has_admin_token() {
            true => "Agents of this server need a token of their workspace.",
            false if tokens.has_any(id) || !tokens.ever_had_any(id) => return ApiError::unauthorized(text),
            false => "All tokens of this workspace were revoked.",
        };
        let hint = format!(
            "{why} Make one with POST /workspaces/{id}/tokens and an admin or organization token, and give it to the \
             agent; or register with such a token as bearer."
        );
        ApiError::with_body(StatusCode::UNAUTHORIZED, json!({ "error": text, "hint": hint }))
    }

    /// The caller whose bearer a request shows, if it shows one.
    ///
    /// # Errors
    /// 401 for one that is neither the admin token nor a live token.
    pub fn bearer_of(&self, credentials: &Credentials<'_>) -> Result<Option<Caller>, ApiError> {
        let Some(bearer) = credentials.bearer else { return Ok(None) };
        let caller = if self.is_admin_token(bearer) { Some(Caller::AdminToken) } else { self.token(bearer) };
        caller.map(Some).ok_or_else(|| ApiError::unauthorized(INVALID_TOKEN))
    }

    /// The rule for registering the agent of a workspace, which may not exist yet.
    ///
    /// # Errors
    /// Those of [`agent`](Self::agent).
    pub async fn registration(
        &self,
        id: WorkspaceId,
        credentials: &Credentials<'_>,
    ) -> Result<RegistrationRights, ApiError> {
        let proof = self.agent(id, credentials).await?;
        let may_create = !self.has_admin_token() || proof == AgentProof::Admin;
        let root = self.bearer_of(credentials).ok().flatten().and_then(|caller| caller.root());
        let may_get_token = proof != AgentProof::Own;
        Ok(RegistrationRights { may_create, may_get_token, root, proved: proof.is_proved() })
    }

    /// The rule for changing an agent's card. In dev mode the web canvas edits cards of live workspaces
    /// without a credential.
    ///
    /// # Errors
    /// Those of [`agent`](Self::agent).
    pub(crate) async fn card_editor(
        &self,
        id: WorkspaceId,
        credentials: &Credentials<'_>,
    ) -> Result<(), ApiError> {
        let proof = self.agent(id, credentials).await;
        let open = self.dev_mode && credentials.bearer.is_none();
        if open && self.fleet.workspaces().get(id).is_some() {
            return Ok(());
        }
        proof.map(drop)
    }

    /// The rule of the route that issues tokens for tests: where an admin token exists, only that one.
    ///
    /// # Errors
    /// 401 without it.
    pub(crate) fn test_tokens(&self, credentials: &Credentials<'_>) -> Result<(), ApiError> {
        let shown = credentials.bearer.is_some_and(|bearer| self.is_admin_token(bearer));
        if self.has_admin_token() && !shown {
            return Err(ApiError::unauthorized("admin auth required"));
        }
        Ok(())
    }

    /// The workspace whose live token the bearer is.
    #[must_use]
    pub(crate) fn workspace_of(&self, credentials: &Credentials<'_>) -> Option<WorkspaceId> {
        self.fleet.credentials().authenticate(credentials.bearer?)?.row.owner.workspace()
    }

    /// Whether the answer may hold a workspace's private fields. An uninitialized deployment admits every
    /// caller to the admin routes, but that proves nothing about them.
    #[must_use]
    pub(crate) fn can_see_private(&self, id: WorkspaceId, credentials: &Credentials<'_>) -> bool {
        self.dev_mode
            || credentials.bearer.is_some_and(|bearer| {
                self.is_admin_token(bearer)
                    || self.token(bearer).is_some_and(|caller| match caller {
                        Caller::Workspace { id: own, .. } => own == id || self.admin_token.is_none(),
                        _ => true,
                    })
            })
    }

    /// Whether the caller's token is still live. Callers without a token always are valid.
    #[must_use]
    pub(crate) fn is_valid(&self, caller: &Caller) -> bool {
        let owner = match caller {
            Caller::OrgToken { .. } => Owner::Organization,
            Caller::Workspace { id, .. } => Owner::Workspace(*id),
            _ => return true,
        };
        let token = caller.token();
        self.fleet.credentials().tokens_of(owner).iter().any(|live| Some(live.row.id) == token)
    }

    /// The owner of a live token.
    fn token(&self, bearer: &str) -> Option<Caller> {
        self.fleet.credentials().authenticate(bearer).map(|token| holder(&token))
    }
}

/// What is wrong with a request that shows no valid token of its workspace.
pub(crate) fn unproved(credentials: &Credentials<'_>) -> &'static str {
    match credentials.bearer {
        None => "missing workspace auth token",
        Some(_) => INVALID_TOKEN,
    }
}

fn holder(token: &LiveToken) -> Caller {
    let row = &token.row;
    let root = row.root.unwrap_or(row.id);
    match row.owner {
        Owner::Workspace(id) => Caller::Workspace { id, token: row.id, root },
        Owner::Organization => {
            Caller::OrgToken { id: row.id, prefix: row.prefix.clone(), org_id: row.org_id, root }
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("dev_mode", &self.dev_mode).finish_non_exhaustive()
    }
}

/// SHA-256 of a token. Hashes are compared instead of tokens because hashes have one length: the time of a
/// comparison does not depend on the token, not even on its length.
#[derive(Clone)]
struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    fn matches(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::of(token).0).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn bearer(authorization: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(authorization));
        Credentials::of(&headers).bearer.map(ToOwned::to_owned)
    }

    #[test]
    fn bearers_by_table() {
        assert_eq!(bearer("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(bearer("Bearer  abc  ").as_deref(), Some("abc"));
        for refused in ["bearer abc", "BEARER abc", "Bearerabc", "Bearer\tabc", "Bearer ", "abc"] {
            assert_eq!(bearer(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn the_hash_of_a_token_does_not_print() {
        assert_eq!(format!("{:?}", TokenHash::of("t")), "(hidden)");
    }
}
