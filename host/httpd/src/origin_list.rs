//! The setting `CORS_ORIGINS`. What no origin can match is refused, so that no entry is without effect.

use std::str::FromStr;

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
        assert_eq!("https://a.example,b".parse::<OriginList>(), Err(BadOrigin::Entry("b".to_owned())));
    }
}
