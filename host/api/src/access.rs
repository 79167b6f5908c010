//! Who may call what: the auth classes of the contract.
//!
//! A class is a layer around the methods of a route: `admin(&app.access, get(list))`. It reads the
//! request's [`Credentials`], decides, and leaves a [`Caller`] in the request's extensions for the
//! handler (who did this?) and in the request's span. More kinds of credential become more
//! variants of [`Caller`] and more steps in the class; routes and handlers stay as they are.

use std::fmt;
use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;
use fleet::Fleet;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::settings::AccessSettings;
use httpd::error::ApiError;
use httpd::headers::text;

/// What a request presents to prove who it is. Only headers are read, never the query string.
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

    /// A bearer that came another way than by header.
    #[must_use]
    pub fn bearing(bearer: &'a str) -> Self {
        Self { bearer: Some(bearer) }
    }

    /// The bearer, if there is one.
    #[must_use]
    pub fn bearer(&self) -> Option<&'a str> {
        self.bearer
    }
}

/// As whom a request was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// By the admin token.
    AdminToken,
    /// By a token of the organisation.
    OrgToken {
        /// The token's id.
        id: Uuid,
        /// Its first characters.
        prefix: String,
        /// Root workspace of the organisation that it is bound to.
        org_id: Option<Uuid>,
    },
    /// By a token of this workspace.
    Workspace {
        /// The workspace.
        id: Uuid,
        /// The token's id.
        token: Uuid,
    },
    /// By nothing: this is a developer's own machine.
    DevMode,
    /// By nothing: no credential exists yet with which anybody could prove anything.
    FreshInstall,
}

impl Caller {
    /// Id of the token that let it in, so that what it opened ends with the token.
    #[must_use]
    pub fn token(&self) -> Option<Uuid> {
        match self {
            Self::OrgToken { id, .. } | Self::Workspace { token: id, .. } => Some(*id),
            Self::AdminToken | Self::DevMode | Self::FreshInstall => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdminToken => f.write_str("admin-token"),
            Self::OrgToken { prefix, .. } => write!(f, "org-token:{prefix}"),
            Self::Workspace { id, .. } => write!(f, "workspace:{id}"),
            Self::DevMode => f.write_str("dev-mode"),
            Self::FreshInstall => f.write_str("fresh-install"),
        }
    }
}

/// What a caller of the registry proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// That he has admin rights.
    Admin,
    /// That he is the workspace's agent.
    Own,
    /// Nothing: the workspace has no token yet.
    None,
}

/// What the auth classes decide by.
#[derive(Clone)]
pub struct Access {
    admin_token: Option<TokenHash>,
    dev_mode: bool,
    fleet: Fleet,
}

impl Access {
    /// The admin token and the mode of the settings, and the tokens of the fleet.
    #[must_use]
    pub fn new(settings: &AccessSettings, fleet: Fleet) -> Self {
        let token = settings.admin_token.as_ref();
        let admin_token = token.map(|token| TokenHash::of(token.expose()));
        Self { admin_token, dev_mode: settings.dev_mode(), fleet }
    }

    /// Is this a developer's own machine, where nobody has to prove anything?
    #[must_use]
    pub fn dev_mode(&self) -> bool {
        self.dev_mode
    }

    /// Is an admin token set?
    #[must_use]
    pub fn has_admin_token(&self) -> bool {
        self.admin_token.is_some()
    }

    /// Does this bearer equal the admin token?
    #[must_use]
    pub fn is_admin_token(&self, bearer: &str) -> bool {
        self.admin_token.as_ref().is_some_and(|token| token.matches(bearer))
    }

    /// Is there nothing yet with which anybody could prove anything?
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.admin_token.is_none() && self.fleet.tokens().is_empty()
    }

    /// Class `admin`.
    ///
    /// # Errors
    /// 401, with different texts for a missing and for a wrong credential.
    pub fn admin(&self, credentials: &Credentials<'_>) -> Result<Caller, ApiError> {
        if self.dev_mode {
            return Ok(Caller::DevMode);
        }
        if self.is_fresh() {
            return Ok(Caller::FreshInstall);
        }
        let Some(bearer) = credentials.bearer else {
            return Err(ApiError::unauthorized("admin auth required"));
        };
        let caller = match self.admin_token {
            Some(_) if self.is_admin_token(bearer) => Some(Caller::AdminToken),
            Some(_) => self.token(bearer).filter(|caller| matches!(caller, Caller::OrgToken { .. })),
            None => self.token(bearer),
        };
        caller.ok_or_else(|| ApiError::unauthorized("invalid admin auth token"))
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
                let named = Uuid::parse_str(id).ok();
                let good = |caller: &Caller| match caller {
                    Caller::OrgToken { .. } => true,
                    Caller::Workspace { id, .. } => Some(*id) == named,
                    _ => false,
                };
                let caller = self.token(bearer).filter(good);
                caller.ok_or_else(|| ApiError::unauthorized("invalid workspace auth token"))
            }
            None if self.dev_mode => Ok(Caller::DevMode),
            None => Err(ApiError::unauthorized("missing workspace auth token")),
        }
    }

    /// The check of the registry's routes, for the workspace that the body names. One without any token
    /// has nothing to show yet, and passes.
    ///
    /// # Errors
    /// 401 for a missing or wrong credential, and for a workspace that is removed: its agents know that
    /// answer as the end. 503 if the database can't be asked.
    pub async fn agent(&self, id: Uuid, credentials: &Credentials<'_>) -> Result<Proof, ApiError> {
        let caller = credentials.bearer.and_then(|bearer| {
            if self.is_admin_token(bearer) { Some(Caller::AdminToken) } else { self.token(bearer) }
        });
        let rules = matches!(caller, Some(Caller::AdminToken | Caller::OrgToken { .. }));
        if self.fleet.directory().get(id).is_none() {
            let known = self.fleet.find(id).await;
            let known = known.map_err(|error| ApiError::platform_unavailable(&error))?;
            return match known {
                Some(known) if known.row.is_removed() => {
                    Err(ApiError::unauthorized("invalid workspace auth token"))
                }
                _ if rules => Ok(Proof::Admin),
                // One that another server made a moment ago is as good as unknown: what is done for it
                // looks again.
                _ => Ok(Proof::None),
            };
        }
        match caller {
            _ if rules => Ok(Proof::Admin),
            Some(Caller::Workspace { id: own, .. }) if own == id => Ok(Proof::Own),
            _ if !self.fleet.tokens().has_any(id) => Ok(Proof::None),
            _ if credentials.bearer.is_none() => Err(ApiError::unauthorized("missing workspace auth token")),
            _ => Err(ApiError::unauthorized("invalid workspace auth token")),
        }
    }

    /// May the caller see more of a workspace than everybody may? A fresh install lets everybody do
    /// everything, but that proves nothing.
    #[must_use]
    pub fn knows(&self, id: Uuid, credentials: &Credentials<'_>) -> bool {
        self.dev_mode
            || credentials.bearer.is_some_and(|bearer| {
                self.is_admin_token(bearer)
                    || self.token(bearer).is_some_and(|caller| match caller {
                        Caller::Workspace { id: own, .. } => own == id || self.admin_token.is_none(),
                        _ => true,
                    })
            })
    }

    /// Is the token that let this caller in still good? Callers without one always are.
    #[must_use]
    pub fn still_good(&self, caller: &Caller) -> bool {
        let workspace = match caller {
            Caller::OrgToken { .. } => None,
            Caller::Workspace { id, .. } => Some(*id),
            _ => return true,
        };
        let token = caller.token();
        self.fleet.tokens_of(workspace).iter().any(|live| Some(live.row.id) == token)
    }

    /// Whose live token this is.
    fn token(&self, bearer: &str) -> Option<Caller> {
        let token = self.fleet.authenticate(bearer)?;
        let row = &token.row;
        Some(match row.workspace_id {
            Some(id) => Caller::Workspace { id, token: row.id },
            None => Caller::OrgToken { id: row.id, prefix: row.prefix.clone(), org_id: row.org_id },
        })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("dev_mode", &self.dev_mode).finish_non_exhaustive()
    }
}

/// Puts methods into class `admin`. Methods the route does not have stay plain 404s.
pub fn admin<S>(access: &Arc<Access>, methods: MethodRouter<S>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    methods.route_layer(from_fn_with_state(Arc::clone(access), require_admin))
}

async fn require_admin(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = access.admin(&Credentials::of(request.headers()))?;
    tracing::Span::current().record("caller", tracing::field::display(&caller));
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// The workspace that the path of a route in class `ws` names, for the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkspaceId(pub Uuid);

/// Puts methods into class `ws`: the path's parameter `id` names the workspace.
pub fn workspace<S>(access: &Arc<Access>, methods: MethodRouter<S>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    methods.route_layer(from_fn_with_state(Arc::clone(access), require_workspace))
}

async fn require_workspace(
    State(access): State<Arc<Access>>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // What isn't even text is an id like any other that can't be one.
    let id = match &parameters {
        Ok(parameters) => parameters.iter().find(|(name, _)| *name == "id").map_or("", |(_, id)| id),
        Err(_) => "?",
    };
    let caller = access.workspace(id, &Credentials::of(request.headers()))?;
    let id = Uuid::parse_str(id).map_err(|_| ApiError::bad_request("invalid workspace ID"))?;
    tracing::Span::current().record("caller", tracing::field::display(&caller));
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(WorkspaceId(id));
    Ok(next.run(request).await)
}

/// SHA-256 of a token. Hashes are compared instead of tokens because they all have one length:
/// the time a comparison takes tells nothing, not even how long the token is.
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
