//! Agents that fetch their messages: a message to one is a row of its activity, stored before the
//! sender is told.

use fleet::FleetError;
use http::StatusCode;
use serde_json::json;

use crate::{
    activity::{Entry, OK, RECEIVED},
    deliver::{Messaging, Reply, Turn},
    error::DeliveryError,
};

impl Messaging {
    pub(crate) async fn keep_for_poll(&self, turn: Turn) -> Result<Reply, DeliveryError> {
        let Turn { target, caller, request } = turn;
        let method = request.method().to_owned();
        let entry = Entry {
            workspace_id: target.row.id,
            activity_type: RECEIVED.to_owned(),
            source_id: caller.workspace(),
            target_id: Some(target.row.id),
            method: Some(method.clone()),
            summary: Some(format!("{method} → {} (queued for poll)", target.row.name)),
            request_body: Some(request.body),
            response_body: None,
            tool_trace: None,
            duration_ms: None,
            status: OK.to_owned(),
            error_detail: None,
        };
        self.log(entry).await.map_err(|error| match error {
            FleetError::NotFound => DeliveryError::NotFound,
            error => DeliveryError::NotQueued(error),
        })?;
        self.spoke(caller).await;
        let body = json!({ "delivery_mode": "poll", "method": method, "status": "queued" });
        Ok(Reply::json(StatusCode::OK, &body))
    }
}
