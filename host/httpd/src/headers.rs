//! Reading request headers.

use http::{HeaderMap, HeaderName};

/// The workspace that a caller says it is.
pub const WORKSPACE_ID: HeaderName = HeaderName::from_static("x-workspace-id");

/// A header as text; one that is not visible ASCII counts as absent.
pub fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
