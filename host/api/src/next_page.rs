//! Lists that end before their limit because of their size, and say where they go on.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Uri, header};
use httpd::answer_room::{self, Room};
use httpd::error::ApiError;
use httpd::json::RenderedJson;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::access::Caller;

/// Bytes of a page of a list at most, unless its first row has more.
pub(crate) const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Pages that are read at the same time: more readers would keep every connection to the database from requests that
/// need it for a moment.
static READERS: Semaphore = Semaphore::const_new(8);

/// Pages that are made and wait for room. They don't count among those that are read, so that small pages, which have
/// room of their own, do not wait for them.
static WAITING: Semaphore = Semaphore::const_new(4);

/// How long a page waits for others.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A page that is being made.
pub(crate) struct Page {
    reading: SemaphorePermit<'static>,
}

impl Page {
    /// A permit to read a page.
    ///
    /// # Errors
    /// 503 where too many others are read for too long.
    pub(crate) async fn begin() -> Result<Self, ApiError> {
        // The semaphore is never closed.
        let reading = timeout(WAIT_TIMEOUT, READERS.acquire()).await.ok().and_then(Result::ok);
        Ok(Self { reading: reading.ok_or_else(ApiError::unavailable)? })
    }

    /// The answer, which has room until it is sent.
    ///
    /// # Errors
    /// 503 where too many other answers wait to be sent.
    pub(crate) async fn end(self, caller: &Caller, text: Bytes) -> Result<RenderedJson, ApiError> {
        let room = || Room::reserve(text.len(), Some(caller.admitted()));
        let room = match room().now_or_never() {
            Some(room) => room?,
            None => {
                let _waiting = WAITING.try_acquire().map_err(|_| answer_room::full())?;
                drop(self.reading);
                room().await?
            }
        };
        room.hold(text).await.map(RenderedJson)
    }
}

/// A `Link` header (RFC 8288) to the rows that did not fit: the same query, with this parameter. Clients that don't
/// know it go on by the last row too.
pub(crate) fn link(uri: &Uri, name: &str, value: &str) -> Option<[(HeaderName, HeaderValue); 1]> {
    let mut query: Vec<&str> = uri.query().unwrap_or_default().split('&').collect();
    query.retain(|pair| !pair.is_empty() && pair.split('=').next() != Some(name));
    let pair = format!("{name}={value}");
    query.push(&pair);
    let link = HeaderValue::try_from(format!("<?{}>; rel=\"next\"", query.join("&"))).ok()?;
    Some([(header::LINK, link)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_has_the_same_query_after_another_row() {
        for (uri, expected) in [
            ("/a", "<?since=2>; rel=\"next\""),
            ("/a?since=1", "<?since=2>; rel=\"next\""),
            ("/a?limit=5&since=1&&type=t%20", "<?limit=5&type=t%20&since=2>; rel=\"next\""),
        ] {
            let [(_, link)] = link(&uri.parse().expect("a URI"), "since", "2").expect("a link");
            assert_eq!(link, expected);
        }
    }
}
