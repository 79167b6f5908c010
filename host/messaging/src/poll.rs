//! Agents that fetch their messages: a message is a row of activity, durable before the sender is answered.

use http::StatusCode;
use serde_json::json;

use crate::{
    Messaging,
    activity::{Entry, OK},
    delivery::Delivery,
    error::{DeliveryError, LogError},
    reply::Reply,
};

impl Messaging {
    pub(crate) async fn deliver_poll(&self, delivery: Delivery) -> Result<Reply, DeliveryError> {
        let method = delivery.request.method();
        let entry = Entry {
            summary: Some(format!("{method} → {} (queued for poll)", delivery.target.row.name)),
            status: OK.to_owned(),
            key: delivery.key.clone(),
            ..delivery.pending_entry()
        };
        self.log(entry).await.map_err(|error| match error {
            LogError::NotFound => DeliveryError::NotFound,
            error @ LogError::Commit(_) => DeliveryError::NotQueued(error),
        })?;
        self.record_outbound(delivery.caller);
        Ok(reply(method))
    }
}

/// The answer to a message that its agent fetches.
pub(crate) fn reply(method: &str) -> Reply {
    Reply::json(StatusCode::OK, &json!({ "delivery_mode": "poll", "method": method, "status": "queued" }))
}
