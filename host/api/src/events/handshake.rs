//! Who may open a socket, and what it hears.
//!
//! Canvases come without credential wherever a browser can't show one; then the page's origin has to be one
//! that the operator allowed, which keeps other pages out, not other programs. Agents show their bearer.

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use uuid::Uuid;

use super::source::Listener;
use crate::access::{Caller, Credentials};
use crate::app::App;
use httpd::error::ApiError;
use httpd::headers::WORKSPACE_ID;

/// How an offered subprotocol begins that is a bearer in hexadecimal. It is never selected.
const CREDENTIAL: &str = "molecule-auth.";

/// Who was let in: nobody in particular where no credential was asked for.
pub(super) type Admitted = (Listener, Option<Caller>);

/// Lets a client in, or not.
pub(super) async fn admit(app: &App, headers: &HeaderMap) -> Result<Admitted, ApiError> {
    match headers.get(WORKSPACE_ID).filter(|id| !id.is_empty()) {
        Some(id) => agent(app, id.to_str().unwrap_or_default(), headers).await,
        None => Ok((Listener::Canvas, canvas(app, headers)?)),
    }
}

// === Agents ===

async fn agent(app: &App, id: &str, headers: &HeaderMap) -> Result<Admitted, ApiError> {
    let credentials = Credentials::of(headers);
    let refused = || {
        let bearing = credentials.bearer().is_some();
        let what = if bearing { "invalid" } else { "missing" };
        ApiError::unauthorized(&format!("{what} workspace auth token"))
    };
    let workspace = Uuid::parse_str(id).map_err(|_| refused())?;
    if app.fleet.directory().get(workspace).is_none() {
        return Err(refused());
    }
    let caller = match app.access.workspace(id, &credentials) {
        // In dev mode this class asks nobody for a bearer; here whoever had one is asked.
        Ok(Caller::DevMode) | Err(_) => without_token(app, workspace).await?.ok_or_else(refused)?,
        Ok(caller) => caller,
    };
    Ok((Listener::Agent(workspace), Some(caller)))
}

/// An agent that was never given a token can't show one. Whatever it shows instead doesn't matter: it would
/// be let in without.
async fn without_token(app: &App, workspace: Uuid) -> Result<Option<Caller>, ApiError> {
    let open = match &app.access {
        access if access.dev_mode() => Caller::DevMode,
        access if access.is_fresh() => Caller::FreshInstall,
        _ => return Ok(None),
    };
    let had = app.fleet.tokens().has_any(workspace)
        || app
            .fleet
            .store()
            .had_token(workspace)
            .await
            .map_err(|error| ApiError::platform_unavailable(&error))?;
    Ok((!had).then_some(open))
}

// === Canvases ===

fn canvas(app: &App, headers: &HeaderMap) -> Result<Option<Caller>, ApiError> {
    if let Some(bearer) = bearer(headers)? {
        let admitted = app.access.admin(&Credentials::bearing(&bearer));
        return admitted.map(Some).map_err(|_| ApiError::unauthorized("invalid canvas auth token"));
    }
    // Web pages can't send a bearer here; that they are ours is all they can show.
    let open = !app.access.has_admin_token() || app.cors.names(headers);
    if open { Ok(None) } else { Err(ApiError::unauthorized("canvas auth required")) }
}

/// The bearer of a canvas, by header or by subprotocol.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let invalid = || ApiError::unauthorized("invalid WebSocket credential");
    let mut found = Credentials::of(headers).bearer().map(str::to_owned);
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    let offered = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    for hex in offered.filter_map(|offer| offer.trim().strip_prefix(CREDENTIAL)) {
        let bearer = hex::decode(hex).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let bearer = bearer.filter(|bearer| !bearer.is_empty()).ok_or_else(invalid)?;
        if found.get_or_insert_with(|| bearer.clone()) != &bearer {
            return Err(invalid());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

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
