//! Synthetic workspaces: the adapter of their runtime answers. The adapter decides what; the host waits,
//! because guests have no clock.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use store::workspaces::Status;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use wasm::adapter::Message;
use wire_json::{RawJson, raw};

use crate::{
    Messaging,
    delivery::{Delivery, NOT_READY, Outcome, SendOptions, Undelivered},
    error::DeliveryError,
    reply::Reply,
};

impl Messaging {
    pub(crate) async fn answer_synthetic(
        &self,
        delivery: Delivery,
        options: &SendOptions,
    ) -> Result<Reply, Undelivered> {
        let row = &delivery.target.row;
        if !matches!(row.status, Status::Online | Status::Degraded) {
            return Err(DeliveryError::NoUrl { status: row.status }.into());
        }
        let id = delivery.request.id().unwrap_or_else(|| RawJson::render(&Uuid::new_v4()));
        let message = Message {
            workspace_id: row.id.to_string(),
            request_id: text_of(&id),
            text: delivery.request.text(),
        };
        let asked = Instant::now();
        let Some(adapter) = self
            .in_time(options.deadline, self.catalog.adapter(&row.runtime, Some(delivery.subject())))
            .await
        else {
            return Err(Undelivered::unsent(delivery, asked.elapsed(), NOT_READY, &options.headers));
        };
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
                return Err(DeliveryError::Unreachable.into());
            }
        };
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let body = response(&id, &parts);
        let reply = Reply {
            status: StatusCode::OK,
            body: Bytes::copy_from_slice(body.text().as_bytes()),
            retry_after: None,
        };
        self.record_outcome(delivery, Outcome::answered(Duration::ZERO, StatusCode::OK, Some(body))).await;
        Ok(reply)
    }
}

/// A string as it is, anything else as its JSON.
fn text_of(id: &RawJson) -> String {
    id.at(&[]).and_then(raw::string).unwrap_or_else(|| id.to_string())
}

/// The answer. Fields in alphabetical order; the id has the text that the request gave it.
fn response(id: &RawJson, parts: &[String]) -> RawJson {
    #[derive(Serialize)]
    struct Response<'a> {
        id: &'a RawJson,
        jsonrpc: &'a str,
        result: Value,
    }
    let parts: Vec<Value> = parts.iter().map(|text| json!({ "kind": "text", "text": text })).collect();
    RawJson::render(&Response { id, jsonrpc: "2.0", result: json!({ "parts": parts }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_repeats_the_id_as_it_came() {
        for (id, text) in [
            (r#""a""#, "a"),
            ("7", "7"),
            ("1.0", "1.0"),
            ("1e2", "1e2"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("true", "true"),
            (r#"[1,"a"]"#, r#"[1,"a"]"#),
        ] {
            let raw = RawJson::read(id.as_bytes()).unwrap();
            assert_eq!(text_of(&raw), text);
            let response = response(&raw, &["Aye.".to_owned()]);
            let parts = r#"{"parts":[{"kind":"text","text":"Aye."}]}"#;
            assert_eq!(response.text(), format!(r#"{{"id":{id},"jsonrpc":"2.0","result":{parts}}}"#));
        }
    }
}
