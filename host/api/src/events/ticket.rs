//! `POST /ws/ticket`: what opens one socket of a page that can't send its bearer.

use axum::extract::State;
use credentials::TICKET_LIFE;
use http::{HeaderName, header};
use serde_json::{Value, json};

use crate::access::AdminAuth;
use crate::app::App;
use crate::errors::Refuse as _;
use httpd::error::ApiError;
use httpd::json::Json;

pub(super) async fn make(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
) -> Result<([(HeaderName, &'static str); 1], Json<Value>), ApiError> {
    let made = app.fleet.credentials().issue_ticket(caller.token(), caller.maker()).await;
    let ticket = made.or_refuse("failed to make a ticket")?;
    let body = json!({ "expires_in": TICKET_LIFE.as_secs(), "ticket": ticket });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)))
}
