//! Agents that fetch their messages: a message is a row of activity, durable before the sender is answered.

use http::StatusCode;
use serde_json::json;
use store::activity::RECEIVED;

use crate::{
    Messaging,
    activity::{Entry, OK},
    delivery::{Delivery, Reply},
    error::{DeliveryError, LogError},
};

impl Messaging {
    pub(crate) async fn deliver_poll(&self, delivery: Delivery) -> Result<Reply, DeliveryError> {
        let Delivery { target, caller, request, .. } = delivery;
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
            begun: None,
        };
        self.log(entry).await.map_err(|error| match error {
            LogError::NotFound => DeliveryError::NotFound,
            error @ LogError::Commit(_) => DeliveryError::NotQueued(error),
        })?;
        self.record_outbound(caller);
        let body = json!({ "delivery_mode": "poll", "method": method, "status": "queued" });
        Ok(Reply::json(StatusCode::OK, &body))
    }
}
