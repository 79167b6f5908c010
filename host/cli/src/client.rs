//! HTTP client of a running server.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use local_files::shown_size;
use reqwest::Response;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, StatusCode};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use types::clip;

use super::address::Address;
use super::{CliError, printable, tls};

/// How long a connection may take. An answer may take as long as an agent works.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer at most: a list of 2,000 workspaces with long roles has tens of megabytes.
const ANSWER_BYTES: usize = 128 << 20;

/// How long a server may take until its answer begins: longer than anything takes but an agent. Compiling a guest
/// waits for its turn.
const HEAD_TIMEOUT: Duration = Duration::from_secs(400);

/// Bytes of each of the server's own words in an error.
const WORDS: usize = 8 << 10;

/// How long an answer may take once it has begun, and how long it may pause meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
const ANSWER_PAUSE: Duration = Duration::from_secs(60);

/// Levels of an answer's JSON: those of what clients and agents sent, and some around it.
pub(super) const ANSWER_LEVELS: usize = wire_json::MAX_LEVELS + 16;

/// The organization that a request is meant for. A server that belongs to one answers 404 to requests without it.
const ORG_ID: HeaderName = HeaderName::from_static("x-molecule-org-id");

/// How to reach a server.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its URL, or host and port.
    pub server: &'a str,
    /// File of certificates in PEM format.
    pub authority: Option<&'a Path>,
    /// Bearer token.
    pub token: Option<&'a str>,
    /// The organization that the server belongs to, if it serves only one.
    pub org_id: Option<&'a str>,
}

/// A server, and what each request to it carries.
pub struct Client {
    http: reqwest::Client,
    address: Address,
    tls: ClientConfig,
    headers: HeaderMap,
}

impl Client {
    /// A client of one server.
    ///
    /// # Errors
    /// If a field of the target can't be used.
    pub fn new(target: Target<'_>) -> Result<Self, CliError> {
        let token = target.token.map(authorization).transpose()?;
        let org_id = target.org_id.map(organization).transpose()?;
        let address = Address::parse(target.server)?;
        let tls = tls::config(address.secure, target.authority)?;
        let mut headers = HeaderMap::new();
        headers.extend(token.map(|value| (AUTHORIZATION, value)));
        headers.extend(org_id.map(|value| (ORG_ID, value)));
        // A redirect would turn a POST into a GET.
        let mut http = reqwest::Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT);
        if address.loopback {
            http = http.no_proxy();
        }
        let http = http.tls_backend_preconfigured(tls.clone()).build();
        let http = http.map_err(|error| {
            CliError::refused(format!("requests can't be sent (see HTTP_PROXY and HTTPS_PROXY): {error}"))
        })?;
        Ok(Self { http, address, tls, headers })
    }

    /// The answer to a GET of this path.
    ///
    /// # Errors
    /// If there is none, or it is no success.
    pub async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.send(self.request(Method::GET, path)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, CliError> {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// The same to a route that answers when an agent does, however long that works.
    pub(super) async fn post_to_agent(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.read(self.answer(self.request(Method::POST, path).json(body)).await?).await
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

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn tls(&self) -> ClientConfig {
        self.tls.clone()
    }

    /// Why no answer came.
    pub(super) fn unreachable(&self, source: impl Error + Send + Sync + 'static) -> CliError {
        let server = self.address.url.clone();
        match tls::failure(&source) {
            Some(rustls::Error::InvalidMessage(_)) => CliError::refused(format!(
                "the server at {server} doesn't speak TLS. If that is right, give its URL with http:// instead of https://"
            )),
            Some(failure) => CliError::refused(format!(
                "the server at {server} can't be trusted: {failure}. A private certificate authority is named with \
                 --ca-file or ISOMER_CA_FILE"
            )),
            None if is_no_http(&source) => CliError::refused(format!(
                "what answers at {server} doesn't speak HTTP: it is no Isomer server{}",
                self.tls_hint()
            )),
            None => CliError::Unreachable { server, source: source.into() },
        }
    }

    /// What to try where a server doesn't understand this client.
    fn tls_hint(&self) -> &'static str {
        match self.address.secure {
            true => "",
            false => ", or one with TLS, whose URL begins with https://",
        }
    }

    /// The headers that each request carries.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.address.url)).headers(self.headers.clone())
    }

    fn foreign(&self, status: StatusCode) -> CliError {
        CliError::refused(format!(
            "{} answered {status}, but not as Isomer does: it is no Isomer server, belongs to {} organization, or a proxy \
             answers for it. Name the server with --server, and its organization with --org-id",
            self.address.url,
            if self.headers.contains_key(ORG_ID) { "another" } else { "an" },
        ))
    }

    /// The body of an answer, within its bounds.
    async fn body(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, CliError> {
        let server = &self.address.url;
        let broken = |why: String| CliError::refused(format!("the answer of the server at {server} {why}"));
        let until = Instant::now() + ANSWER_TIMEOUT;
        let mut body = Vec::new();
        loop {
            let pause = until.min(Instant::now() + ANSWER_PAUSE);
            let chunk = match timeout_at(pause, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => {
                    let error = error.without_url();
                    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                    return Err(broken(format!("broke off: {cause}")));
                }
                Err(_) if pause < until => {
                    let seconds = ANSWER_PAUSE.as_secs();
                    return Err(broken(format!("broke off: nothing more came for {seconds} s")));
                }
                Err(_) => {
                    return Err(broken(format!("did not end within {} s", ANSWER_TIMEOUT.as_secs())));
                }
            };
            if chunk.len() > limit - body.len() {
                let limit = shown_size(limit as u64);
                return Err(broken(format!("has more than {limit}, which no answer of Isomer has")));
            }
            body.extend_from_slice(&chunk);
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let answered = timeout(HEAD_TIMEOUT, self.answer(request)).await.map_err(|_| {
            let (server, seconds) = (&self.address.url, HEAD_TIMEOUT.as_secs());
            CliError::refused(format!(
                "the server at {server} took the request and did not answer within {seconds} s"
            ))
        })?;
        self.read(answered?).await
    }

    /// The answer as far as its head.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, CliError> {
        request.send().await.map_err(|error| self.unreachable(error.without_url()))
    }

    async fn read(&self, response: Response) -> Result<Value, CliError> {
        let status = response.status();
        if status.is_redirection() {
            let to =
                response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("another URL");
            return Err(CliError::refused(format!(
                "the server at {} sends requests on to {to}. Give the URL of the server there with --server",
                self.address.url
            )));
        }
        let body = self.body(response, ANSWER_BYTES).await?;
        let json = wire_json::from_slice_within::<Value>(&body, ANSWER_LEVELS);
        if status.is_success() {
            // What a proxy or another server answers is no success.
            let json = json.ok().filter(|json| json.is_object() || json.is_array());
            return json.ok_or_else(|| self.foreign(status));
        }
        let json = json.unwrap_or_default();
        // A request for confirmation has a message instead of an error.
        let words = json.get("error").or(json.get("message")).and_then(Value::as_str);
        if words.is_none() && status == StatusCode::BAD_REQUEST && !self.address.secure && wants_tls(&body) {
            return Err(CliError::refused(format!(
                "the server at {} wants TLS: give its URL with https:// instead of http://",
                self.address.url
            )));
        }
        if words.is_none() && status == StatusCode::NOT_FOUND {
            return Err(self.foreign(status));
        }
        let mut message = words.map_or_else(|| format!("the server answered {status}"), shown);
        if status == StatusCode::UNAUTHORIZED {
            message.push_str(". Give the server's ADMIN_TOKEN with --token or in the environment");
        }
        if let Some(detail) = json.get("detail").and_then(Value::as_str) {
            message.push_str(": ");
            message.push_str(&shown(detail));
        }
        for need in json.get("missing_env").and_then(Value::as_array).into_iter().flatten() {
            message.push_str("\n  ");
            message.push_str(&need.as_str().map_or_else(|| shown(&need.to_string()), shown));
        }
        for field in ["suggestion", "hint"] {
            if let Some(advice) = json.get(field).and_then(Value::as_str) {
                message.push('\n');
                message.push_str(&shown(advice));
            }
        }
        for line in lines(&json, "backtrace").into_iter().chain(findings(&json)) {
            message.push_str("\n  ");
            message.push_str(&shown(&line));
        }
        Err(CliError::Refused { message })
    }
}

/// The server's own words, as an error repeats them.
fn shown(words: &str) -> String {
    // Escapes make it longer.
    clip(printable(&clip(words.to_owned(), WORDS)).into_owned(), WORDS)
}

/// Whether what came is no HTTP, or nothing at all.
fn is_no_http(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    let of_http = causes.find_map(|error| error.downcast_ref::<hyper::Error>());
    of_http.is_some_and(|error| error.is_parse() || error.is_incomplete_message())
}

/// Servers with TLS answer a plain request with 400 and a page that says so: nginx, Apache and Go's.
fn wants_tls(page: &[u8]) -> bool {
    let page = String::from_utf8_lossy(page.get(..1_024).unwrap_or(page));
    page.contains("HTTPS") || page.contains("SSL-enabled")
}

fn authorization(token: &str) -> Result<HeaderValue, CliError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        CliError::refused(
            "the token in --token or ADMIN_TOKEN has characters that no token has, such as a line end",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn organization(id: &str) -> Result<HeaderValue, CliError> {
    HeaderValue::from_str(id.trim()).map_err(|_| {
        CliError::refused(
            "the id in --org-id or MOLECULE_ORG_ID has characters that no id has, such as a line end",
        )
    })
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers one request with these bytes, and keeps the connection open.
    fn server(answer: &'static [u8]) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 4_096]);
            let _ = socket.write_all(answer);
            let _ = socket.read_to_end(&mut Vec::new());
        });
        Client::new(Target { server: &url, authority: None, token: None, org_id: None }).unwrap()
    }

    async fn failure(answer: &'static [u8], limit: usize) -> String {
        let client = server(answer);
        let response = client.request(Method::GET, "/").send().await.unwrap();
        // Whatever is waited for from here on comes at once, or never.
        tokio::time::pause();
        let failure = client.body(response, limit).await.unwrap_err().to_string();
        tokio::time::resume();
        failure.replace(&client.address.url, "URL")
    }

    #[tokio::test]
    async fn an_answer_that_stalls_or_grows_without_end_is_given_up() {
        assert_eq!(
            failure(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123", 9).await,
            "the answer of the server at URL broke off: nothing more came for 60 s"
        );
        assert_eq!(
            failure(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", 4).await,
            "the answer of the server at URL has more than 4 bytes, which no answer of Isomer has"
        );
    }
}
