//! What an agent answered, as far as it is kept to answer the same message again.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

/// The answer to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON, as far as the agent keeps to the protocol.
    pub body: Bytes,
    /// When the agent wants to be asked again, as it wrote it.
    pub retry_after: Option<HeaderValue>,
}

/// A stream that ended, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedStream {
    pub(crate) status: StatusCode,
    pub(crate) content_type: HeaderValue,
    pub(crate) text: Bytes,
    /// It did not break off.
    pub(crate) is_whole: bool,
}

/// The known answer to a message that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    Reply(Reply),
    /// The response was a stream, which ended or broke off.
    Stream(RecordedStream),
    /// The agent took the message; its response broke off, or was too large.
    Incomplete,
    TooLarge,
}
