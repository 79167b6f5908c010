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

/// One entry of the list is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an origin such as https://canvas.example or http://localhost:3000; there are no patterns but `*` alone"
)]
pub struct BadOrigin(String);

impl FromStr for OriginList {
    type Err = BadOrigin;

    fn from_str(list: &str) -> Result<Self, BadOrigin> {
        let (mut origins, mut any) = (Vec::new(), false);
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                any = true;
            } else {
                let origin = origin::parse(entry).ok_or_else(|| BadOrigin(entry.to_owned()))?;
                origins.push(origin.to_owned());
            }
        }
        Ok(Self { origins, any })
    }
}
