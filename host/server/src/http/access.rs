//! Who may call what: the auth classes of the contract.
//!
//! A class is a layer around the methods of a route: `admin(&app.access, get(list))`. It reads the
//! request's [`Credentials`], decides, and leaves a [`Caller`] in the request's extensions for the
//! handler (who did this?) and in the request's span. More kinds of credential become more
//! variants of [`Caller`] and more steps in the class; routes and handlers stay as they are.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::headers::text;
use crate::settings::Settings;

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
}

/// As whom a request was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// By the admin token.
    AdminToken,
    /// By nothing: this is a developer's own machine.
    DevMode,
    /// By nothing: no credential exists yet with which anybody could prove anything.
    FreshInstall,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdminToken => "admin-token",
            Self::DevMode => "dev-mode",
            Self::FreshInstall => "fresh-install",
        })
    }
}

/// What the auth classes decide by.
#[derive(Debug)]
pub struct Access {
    admin_token: Option<TokenHash>,
    dev_mode: bool,
}

impl Access {
    /// The admin token and the mode of the settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let token = settings.admin_token.as_ref();
        Self { admin_token: token.map(|token| TokenHash::of(token.expose())), dev_mode: settings.dev_mode() }
    }

    /// Advice for an operator whose admin routes are open without their having said so.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let open_by_accident = self.admin_token.is_none() && !self.dev_mode;
        open_by_accident.then_some(
            "ADMIN_TOKEN is not set: whoever reaches this port controls the server. \
             Set it to a long random text, for instance: ADMIN_TOKEN=$(openssl rand -hex 32)",
        )
    }

    /// Class `admin`.
    ///
    /// # Errors
    /// 401, with different texts for a missing and for a wrong credential.
    pub fn admin(&self, credentials: &Credentials<'_>) -> Result<Caller, ApiError> {
        let Some(admin_token) = &self.admin_token else {
            return Ok(if self.dev_mode { Caller::DevMode } else { Caller::FreshInstall });
        };
        let Some(bearer) = credentials.bearer else {
            return Err(ApiError::unauthorized("admin auth required"));
        };
        if admin_token.matches(bearer) {
            Ok(Caller::AdminToken)
        } else {
            Err(ApiError::unauthorized("invalid admin auth token"))
        }
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
    tracing::Span::current().record("caller", tracing::field::display(caller));
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// SHA-256 of a token. Hashes are compared instead of tokens because they all have one length:
/// the time a comparison takes tells nothing, not even how long the token is.
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

    fn access(flags: &[&str]) -> Access {
        Access::new(&Settings::from_flags(flags.iter().copied()).expect("valid"))
    }

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
    fn only_an_open_production_server_is_warned() {
        assert!(access(&[]).hint().is_some_and(|hint| hint.contains("ADMIN_TOKEN")));
        assert!(access(&["--molecule-env", "production"]).hint().is_some());
        assert!(access(&["--molecule-env", "dev"]).hint().is_none());
        assert!(access(&["--admin-token", "t"]).hint().is_none());
    }

    #[test]
    fn the_hash_of_the_token_does_not_print() {
        let printed = format!("{:?}", access(&["--admin-token", "t"]));
        assert!(printed.contains("(hidden)"), "{printed}");
    }
}
