//! A look at the raw head of a request, for what hyper does not leave in its headers.
//!
//! - A head with both `Transfer-Encoding` and `Content-Length`: hyper goes by the first, removes the second, and closes
//!   the connection after the answer. A proxy may have gone by the second, so such a request is refused
//!   ([`head_check`](crate::head_check)).
//! - A `Content-Length` that hyper can't represent: it would say that the header fields are too large. The number is
//!   lowered to one that is refused as a body that is too large.
//!
//! Only the head that the socket waits for is looked at. What is sent behind it before it was answered is left to
//! hyper.

use memchr::memchr;

const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";
const CONTENT_LENGTH: &[u8] = b"content-length:";
/// Bytes of the longer one.
const NAME: usize = TRANSFER_ENCODING.len();
/// hyper's largest length.
const MAX_LENGTH: u64 = u64::MAX - 2;

/// The lines of one head as they arrive.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    /// How the line at hand begins.
    start: [u8; NAME],
    /// Bytes of the line at hand.
    length: usize,
    /// There was a line that is not blank: blank ones before a head don't count.
    has_begun: bool,
    has_coding: bool,
    has_length: bool,
    is_done: bool,
}

impl HeadScan {
    /// Takes more bytes. Returns whether the head has both headers, once it is complete.
    pub(crate) fn feed(&mut self, bytes: &mut [u8]) -> bool {
        let mut rest = bytes;
        while !self.is_done {
            let Some(end) = memchr(b'\n', rest) else {
                self.push(rest);
                return false;
            };
            let (line, after) = rest.split_at_mut(end + 1);
            let is_whole = self.length == 0;
            self.push(line);
            if self.is_named(CONTENT_LENGTH) && is_whole {
                lower_absurd_length(line);
            }
            if self.end_line() {
                return self.has_coding && self.has_length;
            }
            rest = after;
        }
        false
    }

    fn push(&mut self, bytes: &[u8]) {
        for (to, from) in self.start.iter_mut().skip(self.length).zip(bytes) {
            *to = *from;
        }
        self.length = self.length.saturating_add(bytes.len());
    }

    fn is_named(&self, name: &[u8]) -> bool {
        self.length > name.len()
            && self.start.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    }

    /// Returns whether it was the last line of the head.
    fn end_line(&mut self) -> bool {
        let is_blank = self.length == 1 || (self.length == 2 && self.start.starts_with(b"\r"));
        self.is_done = is_blank && self.has_begun;
        self.has_begun |= !is_blank;
        self.has_coding |= self.is_named(TRANSFER_ENCODING);
        self.has_length |= self.is_named(CONTENT_LENGTH);
        self.length = 0;
        self.is_done
    }
}

/// Such a number has 20 digits, of which the first is 1.
fn lower_absurd_length(line: &mut [u8]) {
    let value = line.get(CONTENT_LENGTH.len()..).map(<[u8]>::trim_ascii);
    let number = value.and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
    if number.is_some_and(|number| number > MAX_LENGTH)
        && let Some(first) = line.iter_mut().find(|byte| **byte == b'1')
    {
        *first = b'0';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_with_a_coding_and_a_length_is_found_however_it_arrives() {
        for (head, both) in [
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", true),
            (
                "\r\n\r\nPOST / HTTP/1.1\r\ncontent-length:5\r\nA: b\r\nTRANSFER-ENCODING:chunked\r\n\r\n",
                true,
            ),
            ("POST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 5\n\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nContent-Length: 5\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nX-Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Lengths: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST /content-length: HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ] {
            for size in 1..=head.len() {
                let (mut scan, mut found) = (HeadScan::default(), false);
                for part in head.as_bytes().chunks(size) {
                    found |= scan.feed(&mut part.to_vec());
                }
                assert_eq!((found, scan.is_done), (both, true), "{head:?} in parts of {size}");
            }
        }
    }

    #[test]
    fn only_lengths_that_hyper_cannot_represent_are_lowered() {
        for (length, expected) in [
            ("18446744073709551615", "08446744073709551615"),
            ("18446744073709551614", "08446744073709551614"),
            ("18446744073709551613", "18446744073709551613"),
            ("18446744073709551616", "18446744073709551616"),
            ("15", "15"),
        ] {
            let head = |length| format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            let mut bytes = head(length).into_bytes();
            assert!(!HeadScan::default().feed(&mut bytes));
            assert_eq!(String::from_utf8(bytes).expect("text"), head(expected));
        }
    }
}
