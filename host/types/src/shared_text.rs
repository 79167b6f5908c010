//! Long texts that many workspaces share, such as a prompt among the defaults of an org template.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A text whose copies share their bytes. As JSON, a string. It has no NUL, which the databases can't store: a
/// replacement character takes its place.
#[derive(Clone, Default)]
pub struct SharedText(Arc<Inner>);

#[derive(Default)]
struct Inner {
    text: Box<str>,
    digest: OnceLock<String>,
}

impl SharedText {
    /// SHA-256 of the text, 64 hexadecimal digits. Computed once for all copies.
    #[must_use]
    pub fn digest(&self) -> &str {
        self.0.digest.get_or_init(|| hex::encode(Sha256::digest(self.0.text.as_bytes())))
    }
}

impl Deref for SharedText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl From<String> for SharedText {
    fn from(text: String) -> Self {
        let text = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
        Self(Arc::new(Inner { text: text.into_boxed_str(), digest: OnceLock::new() }))
    }
}

impl From<&str> for SharedText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl PartialEq for SharedText {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for SharedText {}

impl fmt::Debug for SharedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for SharedText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for SharedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
