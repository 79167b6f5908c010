//! Reading request headers.

use http::{HeaderMap, HeaderName};

/// A header as text; one that is not visible ASCII counts as absent.
pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
