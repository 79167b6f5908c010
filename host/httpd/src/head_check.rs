//! Requests that two readers could understand in two ways are refused before anything is decided by their head.
//!
//! A proxy that takes the first of two `Authorization` headers and a server that takes the second let a caller in as
//! another one. hyper has refused lengths that differ before, and codings that don't end with chunks; of lengths that
//! are the same it keeps one. Lengths beside chunks it removes: [`head_scan`](crate::head_scan) sees them.

use axum::extract::Request;
use http::{HeaderName, Version, header};

use crate::client_ip::Peer;
use crate::error::ApiError;
use crate::headers::text;

/// Headers that decide something, and of which a request has one at most.
static SINGLE: [HeaderName; 17] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::ORIGIN,
    header::REFERER,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("a2a-version"),
    HeaderName::from_static("fly-replay-src"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("x-molecule-org-id"),
    HeaderName::from_static("x-molecule-org-slug"),
    HeaderName::from_static("x-timeout"),
    crate::headers::WORKSPACE_ID,
];

/// A body of more bytes is announced by no honest client, whatever the route.
const ABSURD_LENGTH: u64 = 1 << 30;

/// The refusal of a request whose head is not clear.
pub(crate) fn refusal(request: &Request) -> Option<ApiError> {
    let headers = request.headers();
    // Usually no header is repeated: there are as many values as names.
    if headers.len() != headers.keys_len() {
        let repeated = SINGLE.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some());
        if let Some(name) = repeated {
            return Some(ApiError::bad_request(&format!("the header {name} is repeated")));
        }
    }
    // The connection ends with the answer: hyper says so, and so does a body that is not read.
    if headers.contains_key(header::TRANSFER_ENCODING)
        && request.extensions().get::<Peer>().is_some_and(|peer| peer.requests.take_ambiguous())
    {
        return Some(ApiError::bad_request(
            "the headers Transfer-Encoding and Content-Length exclude each other",
        ));
    }
    let target = request.uri().authority();
    let fault = match headers.get(header::HOST) {
        // Probes of health that speak HTTP/1.0 leave it out.
        None if request.version() == Version::HTTP_10 && target.is_none() => None,
        None => Some("the header Host is missing"),
        Some(host) if !host.as_bytes().iter().copied().all(may_stand_in_host) => {
            Some("the header Host is not a host")
        }
        Some(host) => target
            .filter(|target| !target.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()))
            .map(|_| "the header Host and the target name different hosts"),
    };
    if let Some(fault) = fault {
        return Some(ApiError::bad_request(fault));
    }
    let length = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    length.is_some_and(|length| length > ABSURD_LENGTH).then(ApiError::body_too_large)
}

/// Bytes of names, addresses and ports: no list, no user, no path.
const fn may_stand_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
}
