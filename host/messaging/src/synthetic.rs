//! Synthetic workspaces: the adapter of their runtime answers. The adapter decides what; the host waits,
//! because guests have no clock.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use store::workspaces::Status;
use tokio::time::sleep;
use uuid::Uuid;
use wasm::adapter::Message;

use crate::{
    Messaging,
    delivery::{Delivery, Outcome, Reply},
    error::DeliveryError,
};

impl Messaging {
    pub(crate) async fn answer_synthetic(&self, delivery: Delivery) -> Result<Reply, DeliveryError> {
        let row = &delivery.target.row;
        if !matches!(row.status, Status::Online | Status::Degraded) {
            return Err(DeliveryError::NoUrl { status: row.status });
        }
        let id = delivery.request.id().cloned().unwrap_or_else(|| json!(Uuid::new_v4()));
        let message = Message {
            workspace_id: row.id.to_string(),
            request_id: text_of(&id),
            text: delivery.request.text(),
        };
        let adapter = self.catalog.adapter(&row.runtime).await;
        let replied = adapter.synthetic_reply(&message).await;
        let pause = Duration::from_millis(adapter.describe().reply_pause_ms.into());
        // A release that was replaced can end while its reply waits.
        drop(adapter);
        let parts = match replied {
            Ok(parts) => parts,
            Err(problem) => {
                let error = problem.message;
                tracing::warn!(workspace = %row.id, runtime = row.runtime, error, "the adapter gave no reply");
                self.record_outcome(delivery, Outcome::failed(Duration::ZERO, error)).await;
                return Err(DeliveryError::Unreachable);
            }
        };
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let body = response(&id, parts);
        let reply = Reply::json(StatusCode::OK, &body);
        self.record_outcome(delivery, Outcome::answered(Duration::ZERO, StatusCode::OK, Some(body))).await;
        Ok(reply)
    }
}

/// A string as it is, anything else as its JSON.
fn text_of(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

fn response(id: &Value, parts: Vec<String>) -> Value {
    let parts: Vec<Value> = parts.into_iter().map(|text| json!({ "kind": "text", "text": text })).collect();
    json!({ "id": id, "jsonrpc": "2.0", "result": { "parts": parts } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_repeats_the_id_with_its_type() {
        for (id, text) in [
            (json!("a"), "a"),
            (json!(7), "7"),
            (json!(1.5), "1.5"),
            (json!(true), "true"),
            (json!([1, "a"]), r#"[1,"a"]"#),
        ] {
            assert_eq!(text_of(&id), text);
            assert_eq!(response(&id, Vec::new()).get("id"), Some(&id));
        }
        let response = response(&json!(1), vec!["Aye.".to_owned()]).to_string();
        assert_eq!(
            response,
            r#"{"id":1,"jsonrpc":"2.0","result":{"parts":[{"kind":"text","text":"Aye."}]}}"#
        );
    }
}
