//! Enums that are written as text: in columns, in JSON, in logs.

use std::fmt::Display;

/// An enum of which each variant has one text.
pub trait StringEnum: Copy + Display + Send + Sync + 'static {
    /// All variants.
    const ALL: &'static [Self];

    /// The text of a variant.
    fn text(self) -> &'static str;

    /// The variant with this text.
    fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|variant| variant.text() == text)
    }
}

/// A text that is none of the enum's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown {0}")]
pub struct UnknownVariant(
    /// Name of the enum.
    pub &'static str,
);

/// Defines an enum whose variants are written as text. The crate that uses it needs `serde`.
#[macro_export]
macro_rules! string_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All variants.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The text of a variant.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl $crate::StringEnum for $name {
            const ALL: &'static [Self] = $name::ALL;

            fn text(self) -> &'static str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                let unknown = || serde::de::Error::custom($crate::UnknownVariant(stringify!($name)));
                <Self as $crate::StringEnum>::from_text(&text).ok_or_else(unknown)
            }
        }
    };
}
