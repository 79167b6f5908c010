//! HTTP client of a running server.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::{CliError, printable};

/// A server and the token for it.
pub(super) struct Client {
    http: reqwest::Client,
    server: String,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(server: &str, token: Option<&str>) -> Result<Self, CliError> {
        if server.starts_with("https:") {
            let message = "isomer talks plain HTTP only. Run the command on the server's host, or through a tunnel, with an http:// URL";
            return Err(CliError::Refused { message: message.to_owned() });
        }
        Ok(Self {
            http: reqwest::Client::new(),
            server: server.trim_end_matches('/').to_owned(),
            token: token.map(str::to_owned),
        })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.send(self.request(Method::GET, path)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, CliError> {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    pub(super) async fn upload(&self, path: &str, media: &str, bytes: Vec<u8>) -> Result<Value, CliError> {
        self.send(self.request(Method::POST, path).header("Content-Type", media).body(bytes)).await
    }

    /// The server's URL, without a slash at the end.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let unreachable = |source: reqwest::Error| CliError::Unreachable {
            server: self.server.clone(),
            source: source.into(),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        let json: Value = wire_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(json);
        }
        // A request for confirmation has a message instead of an error.
        let words = json.get("error").or(json.get("message")).and_then(Value::as_str);
        let words = words.map(|words| printable(words).into_owned());
        let mut message = words.unwrap_or_else(|| format!("the server answered {status}"));
        if status == reqwest::StatusCode::UNAUTHORIZED {
            message.push_str(". Give the server's ADMIN_TOKEN with --token or in the environment");
        }
        if let Some(detail) = json.get("detail").and_then(Value::as_str) {
            message.push_str(": ");
            message.push_str(&printable(detail));
        }
        for need in json.get("missing_env").and_then(Value::as_array).into_iter().flatten() {
            message.push_str("\n  ");
            message.push_str(&printable(&need.as_str().map_or_else(|| need.to_string(), str::to_owned)));
        }
        if let Some(suggestion) = json.get("suggestion").and_then(Value::as_str) {
            message.push('\n');
            message.push_str(&printable(suggestion));
        }
        for line in lines(&json, "backtrace").into_iter().chain(findings(&json)) {
            message.push_str("\n  ");
            message.push_str(&printable(&line));
        }
        Err(CliError::Refused { message })
    }
}

fn lines(json: &Value, field: &str) -> Vec<String> {
    let lines = json.get(field).and_then(Value::as_array);
    lines.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Backtraces of the checks that a release failed.
fn findings(json: &Value) -> Vec<String> {
    let findings = json.get("findings").and_then(Value::as_array);
    findings.into_iter().flatten().flat_map(|finding| lines(finding, "backtrace")).collect()
}
