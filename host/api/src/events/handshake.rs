//! Who may open a socket, and which events it gets.
//!
//! Browsers can't send a bearer with a WebSocket. A canvas sends it as a subprotocol, or a ticket that it got with its
//! bearer. One without either is admitted where the operator named its page's origin; that keeps other pages out, not
//! other programs. Agents send their bearer.

use axum::extract::FromRequestParts;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use types::WorkspaceId;

use super::event_stream::Audience;
use crate::access::{Caller, Credentials};
use crate::app::App;
use httpd::error::ApiError;
use httpd::headers::WORKSPACE_ID;
use httpd::parameters::Query;

/// How an offered subprotocol begins that is a bearer in hexadecimal.
const CREDENTIAL: &str = "molecule-auth.";

/// An admitted socket.
pub(super) struct SocketAuth {
    pub(super) audience: Audience,
    /// None where no credential was asked for.
    pub(super) caller: Option<Caller>,
    /// The credential of a canvas that showed no other. It is yet to be redeemed.
    pub(super) ticket: Option<String>,
    /// The subprotocol that the answer selects: browsers close a socket whose offer was not taken up.
    pub(super) protocol: Option<HeaderValue>,
}

impl FromRequestParts<App> for SocketAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Query(Offer { ticket }) = Query::from_request_parts(parts, app).await?;
        let headers = &parts.headers;
        let (audience, caller, ticket) = match headers.get(WORKSPACE_ID).filter(|id| !id.is_empty()) {
            // A ticket is a canvas's.
            Some(_) if ticket.is_some() => return Err(invalid_credential()),
            Some(id) => {
                let (audience, caller) = agent(app, id.to_str().unwrap_or_default(), headers)?;
                (audience, caller, None)
            }
            None => (Audience::Canvas, canvas(app, headers, ticket.is_some())?, ticket),
        };
        let auth = Self { audience, caller, ticket, protocol: selected(headers) };
        auth.record();
        Ok(auth)
    }
}

impl SocketAuth {
    /// Uses up the ticket, which nothing else may refuse afterwards.
    pub(super) async fn redeem(&mut self, app: &App) -> Result<(), ApiError> {
        if let Some(ticket) = self.ticket.take() {
            self.caller = Some(app.access.ticket(&ticket).await?);
            self.record();
        }
        Ok(())
    }

    fn record(&self) {
        if let Some(caller) = &self.caller {
            tracing::Span::current().record("caller", tracing::field::display(caller));
        }
    }
}

#[derive(Deserialize)]
struct Offer {
    ticket: Option<String>,
}

fn invalid_credential() -> ApiError {
    ApiError::unauthorized("invalid WebSocket credential")
}

// === Agents ===

fn agent(app: &App, id: &str, headers: &HeaderMap) -> Result<(Audience, Option<Caller>), ApiError> {
    let credentials = Credentials::of(headers);
    let refused = || {
        let bearing = credentials.bearer().is_some();
        let what = if bearing { "invalid" } else { "missing" };
        ApiError::unauthorized(&format!("{what} workspace auth token"))
    };
    let workspace = WorkspaceId::parse(id).map_err(|_| refused())?;
    if app.fleet.workspaces().get(workspace).is_none() {
        return Err(refused());
    }
    let caller = match app.access.workspace(id, &credentials) {
        // Class `ws` needs no bearer in dev mode; here an agent that ever had a token needs one.
        Ok(Caller::DevMode) | Err(_) => without_token(app, workspace).ok_or_else(refused)?,
        Ok(caller) => caller,
    };
    Ok((Audience::Agent(workspace), Some(caller)))
}

/// An agent that never had a token is admitted without one where the deployment is open. A wrong bearer makes
/// no difference then.
fn without_token(app: &App, workspace: WorkspaceId) -> Option<Caller> {
    let open = match &app.access {
        access if access.dev_mode() => Caller::DevMode,
        access if access.is_uninitialized() => Caller::Uninitialized,
        _ => return None,
    };
    (!app.fleet.state().tokens().ever_had_any(workspace)).then_some(open)
}

// === Canvases ===

/// With a ticket, nothing else is shown.
fn canvas(app: &App, headers: &HeaderMap, has_ticket: bool) -> Result<Option<Caller>, ApiError> {
    let bearer = bearer(headers)?;
    if has_ticket {
        return if bearer.is_some() { Err(invalid_credential()) } else { Ok(None) };
    }
    if let Some(bearer) = bearer {
        let admitted = app.access.admin(&Credentials::bearing(&bearer));
        return admitted.map(Some).map_err(|_| ApiError::unauthorized("invalid canvas auth token"));
    }
    if app.access.opens_sockets(headers) {
        Ok(None)
    } else {
        Err(ApiError::unauthorized("canvas auth required"))
    }
}

/// The bearer of a canvas, by header or by subprotocol.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut found = Credentials::of(headers).bearer().map(str::to_owned);
    for hex in offered(headers).filter_map(|offer| offer.strip_prefix(CREDENTIAL)) {
        let bearer = hex::decode(hex).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let bearer = bearer.filter(|bearer| !bearer.is_empty()).ok_or_else(invalid_credential)?;
        if found.get_or_insert_with(|| bearer.clone()) != &bearer {
            return Err(invalid_credential());
        }
    }
    Ok(found)
}

/// The subprotocols that a client offers.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    let offers = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    offers.map(str::trim).filter(|offer| !offer.is_empty())
}

/// The first subprotocol that is offered; a credential only where nothing else is.
fn selected(headers: &HeaderMap) -> Option<HeaderValue> {
    let plain = offered(headers).find(|offer| !offer.starts_with(CREDENTIAL));
    plain.or_else(|| offered(headers).next()).and_then(|offer| HeaderValue::from_str(offer).ok())
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn bearers_by_table() {
        let (a, b) = ("molecule-auth.61", "molecule-auth.62");
        for (authorization, offered, expected) in [
            (None, &[][..], Ok(None)),
            (None, &["chat, soap"], Ok(None)),
            (Some("Bearer a"), &[], Ok(Some("a"))),
            (Some("Basic a"), &[], Ok(None)),
            (None, &[a], Ok(Some("a"))),
            (None, &["molecule-auth.6A6a"], Ok(Some("jj"))),
            (None, &["chat,molecule-auth.61 ,soap"], Ok(Some("a"))),
            (None, &["chat", a], Ok(Some("a"))),
            (Some("Bearer a"), &[a, a], Ok(Some("a"))),
            (Some("Bearer b"), &[a], Err(())),
            (None, &["molecule-auth.61,molecule-auth.62"], Err(())),
            (None, &[a, b], Err(())),
            (Some("Bearer a"), &["molecule-auth."], Err(())),
            (None, &["molecule-auth.6"], Err(())),
            (None, &["molecule-auth.xx"], Err(())),
            (None, &["molecule-auth.ff"], Err(())),
            (None, &["Molecule-Auth.61"], Ok(None)),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(authorization) = authorization {
                headers.insert(header::AUTHORIZATION, HeaderValue::from_static(authorization));
            }
            for offer in offered {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offer));
            }
            let seen = bearer(&headers).map_err(drop);
            assert_eq!(
                seen,
                expected.map(|bearer| bearer.map(str::to_owned)),
                "{authorization:?} {offered:?}"
            );
        }
    }
}
