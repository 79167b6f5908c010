//! Headers of the A2A protocol between senders, this server and agents.

use http::{HeaderMap, HeaderName, HeaderValue};

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
    pub(crate) fn into_next(self) -> HeaderMap {
        let mut headers = self.forwarded;
        headers.insert(HOPS, HeaderValue::from(self.hops.saturating_add(1)));
        headers
    }
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
        assert_eq!(MessageHeaders::of_request(&sent).into_next(), expected);
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
            assert_eq!(read.into_next()[HOPS], next, "{sent}");
        }
    }
}
