//! Headers of the A2A protocol between senders, this server and agents.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limits::STORED_HEADER_BYTES;

/// How many servers and agents a message passed. An agent that passes a message on passes it too.
const HOPS: HeaderName = HeaderName::from_static("x-isomer-hops");

/// Hops of a message at most. More are a loop.
const MAX_HOPS: u32 = 32;

/// Headers of a sender that its message is sent with.
const FORWARDED: [HeaderName; 4] = [
    HeaderName::from_static("a2a-version"),
    HeaderName::from_static("a2a-extensions"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Headers of a message, as far as its receiver has to know them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageHeaders {
    forwarded: HeaderMap,
    hops: u32,
}

impl MessageHeaders {
    /// Picks them from the headers of a request.
    #[must_use]
    pub fn of_request(headers: &HeaderMap) -> Self {
        let mut forwarded = HeaderMap::new();
        for name in FORWARDED {
            // A list may be spread over several headers.
            for value in headers.get_all(&name) {
                forwarded.append(name.clone(), value.clone());
            }
        }
        Self { forwarded, hops: headers.get(HOPS).map_or(0, hops) }
    }

    /// How many hops the message has behind it.
    pub(crate) fn hops(&self) -> u32 {
        self.hops
    }

    /// How many hops the message has behind it, if those are too many.
    pub(crate) fn excess_hops(&self) -> Option<u32> {
        (self.hops > MAX_HOPS).then_some(self.hops)
    }

    /// The headers for the next hop.
    pub(crate) fn next(&self) -> HeaderMap {
        let mut headers = self.forwarded.clone();
        headers.insert(HOPS, HeaderValue::from(self.hops.saturating_add(1)));
        headers
    }

    /// The forwarded headers as they are stored with a queued message: a JSON list of names and values, each byte of a
    /// value as one character. None if there are none. Those that exceed the limit are left out.
    pub(crate) fn to_stored(&self) -> Option<String> {
        let mut bytes = 0;
        let list: Vec<(&str, String)> = self
            .forwarded
            .iter()
            .take_while(|(name, value)| {
                bytes += name.as_str().len() + value.len();
                bytes <= STORED_HEADER_BYTES
            })
            .map(|(name, value)| (name.as_str(), stored_value(value)))
            .collect();
        (!list.is_empty()).then(|| serde_json::to_string(&list).unwrap_or_default())
    }

    /// The headers of a queued message.
    pub(crate) fn from_stored(hops: u32, stored: Option<&str>) -> Self {
        let list: Vec<(String, String)> =
            stored.and_then(|stored| serde_json::from_str(stored).ok()).unwrap_or_default();
        let mut forwarded = HeaderMap::new();
        for (name, value) in list {
            if let (Ok(name), Some(value)) = (HeaderName::try_from(name), restored_value(&value)) {
                forwarded.append(name, value);
            }
        }
        Self { forwarded, hops }
    }
}

/// The value of a header as text is stored: each byte as one character, because it may be more than ASCII.
pub(crate) fn stored_value(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

/// The value of a header that was stored so.
pub(crate) fn restored_value(stored: &str) -> Option<HeaderValue> {
    let bytes: Option<Vec<u8>> = stored.chars().map(|byte| u8::try_from(byte).ok()).collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

/// Text that is no number counts as none: other software may use the header for something else.
fn hops(value: &HeaderValue) -> u32 {
    let text = value.to_str().unwrap_or_default().trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().unwrap_or(u32::MAX) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn protocol_headers_are_forwarded_and_no_others() {
        let sent = headers(&[
            ("a2a-version", "1.0"),
            ("a2a-extensions", "a"),
            ("a2a-extensions", "b"),
            ("authorization", "Bearer x"),
            ("cookie", "x"),
            ("traceparent", "00-1-2-01"),
            ("tracestate", "a=b"),
        ]);
        let expected = headers(&[
            ("a2a-version", "1.0"),
            ("a2a-extensions", "a"),
            ("a2a-extensions", "b"),
            ("traceparent", "00-1-2-01"),
            ("tracestate", "a=b"),
            ("x-isomer-hops", "1"),
        ]);
        assert_eq!(MessageHeaders::of_request(&sent).next(), expected);
    }

    #[test]
    fn a_queued_message_keeps_its_headers() {
        let mut sent = headers(&[
            ("a2a-extensions", "a \"quoted\""),
            ("a2a-extensions", "b"),
            ("tracestate", "a=b"),
            ("x-isomer-hops", "7"),
        ]);
        sent.append("a2a-version", HeaderValue::from_bytes(b"\xff1.0\t").unwrap());
        let read = MessageHeaders::of_request(&sent);
        let stored = read.to_stored();
        assert_eq!(MessageHeaders::from_stored(read.hops(), stored.as_deref()), read);
        let none = MessageHeaders::of_request(&headers(&[]));
        assert_eq!((none.to_stored(), MessageHeaders::from_stored(0, None)), (None, none));
        let mut long = headers(&[("a2a-version", "1.0")]);
        long.append("tracestate", HeaderValue::from_bytes(&vec![b'x'; STORED_HEADER_BYTES]).unwrap());
        let stored = MessageHeaders::of_request(&long).to_stored().unwrap();
        assert!(stored.len() < 100, "what exceeds the limit is left out");
    }

    #[test]
    fn hops_are_counted_up_to_the_limit() {
        for (sent, excess, next) in [
            ("", None, "1"),
            ("x", None, "1"),
            ("-1", None, "1"),
            ("1", None, "2"),
            ("32", None, "33"),
            ("33", Some(33), "34"),
            ("99999999999999999999", Some(u32::MAX), "4294967295"),
        ] {
            let read = MessageHeaders::of_request(&headers(&[("x-isomer-hops", sent)]));
            assert_eq!(read.excess_hops(), excess, "{sent}");
            assert_eq!(read.next()[HOPS], next, "{sent}");
        }
    }
}
