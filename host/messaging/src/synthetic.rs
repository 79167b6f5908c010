//! Workspaces that nobody runs: the adapter of their runtime answers. It says what; when is the host's
//! part, because guests have no clock.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use store::workspaces::Status;
use tokio::time::sleep;
use uuid::Uuid;
use wasm::adapter::Message;

use crate::{
    deliver::{Ending, Messaging, Reply, Turn},
    error::DeliveryError,
};

impl Messaging {
    pub(crate) async fn answer_synthetic(&self, turn: Turn) -> Result<Reply, DeliveryError> {
        let row = &turn.target.row;
        if !matches!(row.status, Status::Online | Status::Degraded) {
            return Err(DeliveryError::NoUrl { status: row.status });
        }
        let id = turn.request.id().cloned().unwrap_or_else(|| json!(Uuid::new_v4()));
        let message =
            Message { workspace_id: row.id.to_string(), request_id: text_of(&id), text: turn.request.text() };
        let adapter = self.catalog.adapter(&row.runtime).await;
        let replied = adapter.synthetic_reply(&message).await;
        let pause = Duration::from_millis(adapter.describe().reply_pause_ms.into());
        // A release isn't held back from its end by who is waiting.
        drop(adapter);
        let parts = match replied {
            Ok(parts) => parts,
            Err(problem) => {
                let error = problem.message;
                tracing::warn!(workspace = %row.id, runtime = row.runtime, error, "the adapter gave no reply");
                self.end(turn, Ending { duration_ms: 0, result: Err(error) }).await;
                return Err(DeliveryError::Unreachable);
            }
        };
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let body = response(&id, parts);
        let reply = Reply::json(StatusCode::OK, &body);
        self.end(turn, Ending { duration_ms: 0, result: Ok((StatusCode::OK, Some(body))) }).await;
        Ok(reply)
    }
}

/// An id as text: what it says if it is text, else its JSON.
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
    fn ids_keep_their_type() {
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
