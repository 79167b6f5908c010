//! The settings `CORS_ORIGINS` and `WS_ALLOW_ORIGINS`. What no origin can match is refused, so that no entry is without effect.

use std::str::FromStr;

use http::{HeaderMap, header};

use crate::headers::text;
use crate::origin;

/// `CORS_ORIGINS`: origins, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginList {
    pub(crate) origins: Vec<String>,
    /// `*` is in the list.
    pub(crate) any: bool,
}

/// Why a list is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    /// One entry is no origin.
    #[error(
        "`{0}` is not an origin such as https://canvas.example or http://localhost:3000; there are no patterns but \
         `*` alone"
    )]
    Entry(String),
    /// All entries are empty.
    #[error("names no origin; leave it out for the default")]
    Empty,
    /// `*`, where each origin has to be named.
    #[error("`*` would admit every page: name the origins")]
    Any,
}

impl OriginList {
    /// Parses a list in which each origin is named.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn named(list: &str) -> Result<Self, BadOrigin> {
        let list: Self = list.parse()?;
        if list.any { Err(BadOrigin::Any) } else { Ok(list) }
    }

    /// Whether the request says that it comes from a page of one of these origins.
    #[must_use]
    pub fn names(&self, headers: &HeaderMap) -> bool {
        let origin = text(headers, header::ORIGIN);
        origin.is_some_and(|origin| self.origins.iter().any(|allowed| origin::is_same(allowed, origin)))
    }
}

impl OriginList {
    /// The origins that are named.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.origins.iter().map(String::as_str)
    }

    /// Whether `*` is in the list.
    #[must_use]
    pub fn allows_any(&self) -> bool {
        self.any
    }
}

impl FromStr for OriginList {
    type Err = BadOrigin;

    fn from_str(list: &str) -> Result<Self, BadOrigin> {
        let (mut origins, mut any) = (Vec::new(), false);
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                any = true;
            } else {
                let origin = origin::parse(entry).ok_or_else(|| BadOrigin::Entry(entry.to_owned()))?;
                origins.push(origin.to_owned());
            }
        }
        if origins.is_empty() && !any {
            return Err(BadOrigin::Empty);
        }
        Ok(Self { origins, any })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_entries_are_ignored_but_not_an_empty_list() {
        let list = "https://a.example, ,http://b:1/,,".parse::<OriginList>().expect("two origins");
        assert_eq!(list.origins, ["https://a.example", "http://b:1"]);
        assert_eq!(" , ,".parse::<OriginList>(), Err(BadOrigin::Empty));
        assert_eq!(OriginList::named("https://a.example,*"), Err(BadOrigin::Any));
        assert_eq!("https://a.example,b".parse::<OriginList>(), Err(BadOrigin::Entry("b".to_owned())));
    }
}
