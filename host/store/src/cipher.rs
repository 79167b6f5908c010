//! The cipher that secrets lie in the database under.
//!
//! AES-256-GCM with a fresh random nonce per value, stored as nonce ‖ ciphertext ‖ tag. Each row keeps
//! how it was sealed, so that rows written before a key was set stay readable, and a key can be
//! replaced while the one before it still opens old rows.

use std::fmt;

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead as _, Generate as _, KeyInit as _},
};
use base64::{DecodeError, Engine as _, prelude::BASE64_STANDARD};

/// Bytes in a key.
const KEY_BYTES: usize = 32;
/// Bytes in a nonce.
const NONCE_BYTES: usize = 12;
/// Version of a value that is stored as it is.
const PLAIN: i32 = 0;
/// Version of a value under AES-256-GCM.
const AES_256_GCM: i32 = 1;

const CURRENT: &str = "SECRETS_ENCRYPTION_KEY";
const PREVIOUS: &str = "SECRETS_ENCRYPTION_KEY_PREVIOUS";

/// Seals values and opens them again.
pub struct Cipher {
    current: Option<Aes256Gcm>,
    /// Opens what `current` can't. Never seals.
    previous: Option<Aes256Gcm>,
}

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How they are sealed: 0 not at all, 1 under AES-256-GCM.
    pub version: i32,
}

/// Why a value can't be sealed or opened, or a cipher not be made.
#[derive(Debug, thiserror::Error)]
pub enum CipherError {
    /// Production without a key.
    #[error(
        "SECRETS_ENCRYPTION_KEY is not set, and secrets must be encrypted in production. Set it to 32 random \
         bytes in base64, made for instance with `openssl rand -base64 32`"
    )]
    KeyMissing,
    /// What is set is no key.
    #[error(
        "{setting} is neither 32 bytes in base64 nor 32 raw bytes. Make a key with `openssl rand -base64 32`"
    )]
    BadKey {
        /// The setting.
        setting: &'static str,
    },
    /// The value is encrypted, and there is no key.
    #[error("the value is encrypted, but SECRETS_ENCRYPTION_KEY is not set")]
    NoKey,
    /// The value was sealed under another key, or changed since.
    #[error("the value can't be decrypted: sealed under another key, or damaged")]
    Unreadable,
    /// The value was sealed by a newer Isomer.
    #[error("the value has encryption version {0}: platform upgrade required")]
    UnknownVersion(i32),
    /// The system gives no random bytes, or the value is larger than the algorithm allows.
    #[error("the value can't be encrypted")]
    Unsealable,
}

impl Cipher {
    /// A cipher under `key`, which also opens what was sealed under `previous`. An empty key is none.
    ///
    /// `strict` is for production: secrets are encrypted there, or the server doesn't start. Elsewhere
    /// a key that is missing or unusable turns encryption off, with a warning.
    ///
    /// # Errors
    /// When strict: if there is no key, or one of the two can't be used.
    pub fn new(key: Option<&str>, previous: Option<&str>, strict: bool) -> Result<Self, CipherError> {
        let current = usable(key, CURRENT, strict)?;
        if current.is_none() {
            if strict {
                return Err(CipherError::KeyMissing);
            }
            tracing::warn!("secrets are stored in plain text: {CURRENT} holds no key");
        }
        Ok(Self { current, previous: usable(previous, PREVIOUS, strict)? })
    }

    /// Seals a value: encrypted if there is a key, else as it is.
    ///
    /// # Errors
    /// If the system has no randomness to give. Never falls back to plain text.
    pub fn seal(&self, plain: &[u8]) -> Result<Sealed, CipherError> {
        let Some(cipher) = &self.current else {
            return Ok(Sealed { bytes: plain.to_vec(), version: PLAIN });
        };
        let nonce = Nonce::try_generate().map_err(|_| CipherError::Unsealable)?;
        let sealed = cipher.encrypt(&nonce, plain).map_err(|_| CipherError::Unsealable)?;
        let mut bytes = Vec::with_capacity(NONCE_BYTES + sealed.len());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(Sealed { bytes, version: AES_256_GCM })
    }

    /// The value that was sealed as `bytes` in `version`.
    ///
    /// # Errors
    /// If no key here opens it, or the version is not known.
    pub fn open(&self, bytes: &[u8], version: i32) -> Result<Vec<u8>, CipherError> {
        match version {
            PLAIN => Ok(bytes.to_vec()),
            AES_256_GCM => {
                if self.current.is_none() && self.previous.is_none() {
                    return Err(CipherError::NoKey);
                }
                let (nonce, sealed) = bytes.split_first_chunk().ok_or(CipherError::Unreadable)?;
                let nonce: &[u8; NONCE_BYTES] = nonce;
                [&self.current, &self.previous]
                    .into_iter()
                    .flatten()
                    .find_map(|cipher| cipher.decrypt(nonce.into(), sealed).ok())
                    .ok_or(CipherError::Unreadable)
            }
            other => Err(CipherError::UnknownVersion(other)),
        }
    }
}

/// Says which keys there are, never what they are.
impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher")
            .field("current", &self.current.is_some())
            .field("previous", &self.previous.is_some())
            .finish()
    }
}

/// The cipher of a setting that may be unset or, unless `strict`, unusable.
fn usable(text: Option<&str>, setting: &'static str, strict: bool) -> Result<Option<Aes256Gcm>, CipherError> {
    // Files and shells like to add a line end, which no key has.
    let text = text.unwrap_or_default().trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Ok(None);
    }
    match key_of(text, setting) {
        Some(key) => Ok(Some(Aes256Gcm::new(&key.into()))),
        None if strict => Err(CipherError::BadKey { setting }),
        None => {
            tracing::warn!("{}", CipherError::BadKey { setting });
            Ok(None)
        }
    }
}

/// The key that a text stands for: 32 bytes in padded base64, or else the text itself.
fn key_of(text: &str, setting: &'static str) -> Option<[u8; KEY_BYTES]> {
    let decoded: Result<Vec<u8>, DecodeError> = BASE64_STANDARD.decode(text);
    let is_base64 = decoded.is_ok();
    if let Some(key) = decoded.ok().and_then(|bytes| bytes.try_into().ok()) {
        return Some(key);
    }
    let key = text.as_bytes().try_into().ok()?;
    if is_base64 {
        tracing::warn!("{setting} is taken as 32 raw bytes, though it reads as base64 of fewer");
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Base64 of the bytes 0 to 31.
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const KNOWN: &[u8] = &[
        102, 25, 201, 49, 10, 125, 49, 167, 88, 52, 140, 185, 113, 80, 238, 43, 200, 61, 249, 141, 231, 163,
    ];
    const RAW: &str = "0123456789abcdef-123456789abcdef";

    fn cipher(key: &str) -> Cipher {
        Cipher::new(Some(key), None, true).unwrap()
    }

    fn with_previous(key: Option<&str>, previous: &str) -> Cipher {
        Cipher::new(key, Some(previous), false).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_again() {
        let cipher = cipher(KEY);
        assert!(cipher.current.is_some());
        for plain in ["", "x", "sk-0123456789", &"long ".repeat(20_000)] {
            let sealed = cipher.seal(plain.as_bytes()).unwrap();
            assert_eq!(sealed.version, 1);
            assert_eq!(sealed.bytes.len(), plain.len() + 12 + 16);
            assert_eq!(cipher.open(&sealed.bytes, 1).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn the_form_is_nonce_ciphertext_tag() {
        // AES-256-GCM by another implementation (OpenSSL): key 0…31, nonce 12 × 7, text "isomer".
        let mut stored = vec![7; 12];
        stored.extend_from_slice(KNOWN);
        assert_eq!(cipher(KEY).open(&stored, 1).unwrap(), b"isomer");
    }

    #[test]
    fn one_text_is_never_sealed_alike_twice() {
        let cipher = cipher(KEY);
        let (one, two) = (cipher.seal(b"same").unwrap(), cipher.seal(b"same").unwrap());
        assert_ne!(one.bytes, two.bytes);
        assert_ne!(one.bytes[..12], two.bytes[..12]);
    }

    #[test]
    fn a_change_to_any_byte_is_noticed() {
        let cipher = cipher(KEY);
        let sealed = cipher.seal(b"secret").unwrap().bytes;
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(matches!(cipher.open(&changed, 1), Err(CipherError::Unreadable)), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(
                matches!(cipher.open(&sealed[..length], 1), Err(CipherError::Unreadable)),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn only_the_right_key_opens() {
        let sealed = cipher(KEY).seal(b"secret").unwrap().bytes;
        assert!(matches!(cipher(RAW).open(&sealed, 1), Err(CipherError::Unreadable)));
        assert_eq!(with_previous(Some(RAW), KEY).open(&sealed, 1).unwrap(), b"secret");
        assert_eq!(with_previous(Some(KEY), RAW).open(&sealed, 1).unwrap(), b"secret");
        assert_eq!(with_previous(None, KEY).open(&sealed, 1).unwrap(), b"secret");
        let other = with_previous(Some(RAW), "ABECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        assert!(matches!(other.open(&sealed, 1), Err(CipherError::Unreadable)));
    }

    #[test]
    fn a_previous_key_never_seals() {
        let sealed = with_previous(Some(RAW), KEY).seal(b"secret").unwrap().bytes;
        assert_eq!(cipher(RAW).open(&sealed, 1).unwrap(), b"secret");
        assert_eq!(with_previous(None, KEY).seal(b"secret").unwrap().version, 0);
    }

    #[test]
    fn without_a_key_values_are_plain() {
        let cipher = Cipher::new(None, None, false).unwrap();
        assert!(cipher.current.is_none());
        let sealed = cipher.seal(b"secret").unwrap();
        assert_eq!(sealed, Sealed { bytes: b"secret".to_vec(), version: 0 });
        assert_eq!(cipher.open(&sealed.bytes, 0).unwrap(), b"secret");
        assert!(matches!(cipher.open(&sealed.bytes, 1), Err(CipherError::NoKey)));
    }

    #[test]
    fn versions_by_table() {
        let cipher = cipher(KEY);
        assert_eq!(cipher.open(b"old", 0).unwrap(), b"old");
        for version in [-1, 2, 3, i32::MAX] {
            let error = cipher.open(b"new", version).unwrap_err();
            assert!(error.to_string().contains("platform upgrade required"), "{error}");
        }
    }

    #[test]
    fn forms_of_keys_by_table() {
        for (text, usable) in [
            (KEY, true),
            (&format!("{KEY}\n"), true),
            (RAW, true),
            (&format!("{RAW}\r\n"), true),
            // Reads as base64 of 24 bytes, and is 32 characters long.
            ("0123456789abcdef0123456789abcdef", true),
            // 32 bytes in 16 characters.
            (&"é".repeat(16), true),
            // Unpadded, URL-safe, one short, one long, base64 of 16 and of 33 bytes.
            (KEY.trim_end_matches('='), false),
            ("__ECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", false),
            (&RAW[1..], false),
            (&format!("{RAW}0"), false),
            ("AAECAwQFBgcICQoLDA0ODw==", false),
            ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g", false),
        ] {
            assert_eq!(Cipher::new(Some(text), None, true).is_ok(), usable, "{text:?}");
            assert_eq!(Cipher::new(Some(KEY), Some(text), true).is_ok(), usable, "previous {text:?}");
            assert_eq!(Cipher::new(Some(text), None, false).unwrap().current.is_some(), usable, "{text:?}");
        }
    }

    #[test]
    fn a_raw_key_is_its_own_bytes() {
        let raw = "0123456789abcdef0123456789abcdef";
        let sealed = cipher(raw).seal(b"secret").unwrap().bytes;
        let encoded = BASE64_STANDARD.encode(raw);
        assert_eq!(cipher(&encoded).open(&sealed, 1).unwrap(), b"secret");
    }

    #[test]
    fn production_says_how_to_make_a_key() {
        for key in [None, Some(""), Some("\n"), Some("short")] {
            let error = Cipher::new(key, None, true).unwrap_err().to_string();
            assert!(error.contains("SECRETS_ENCRYPTION_KEY"), "{error}");
            assert!(error.contains("openssl rand -base64 32"), "{error}");
        }
        let error = Cipher::new(Some(KEY), Some("short"), true).unwrap_err().to_string();
        assert!(error.contains("SECRETS_ENCRYPTION_KEY_PREVIOUS"), "{error}");
        assert!(!error.contains("short"), "{error}");
    }

    #[test]
    fn debug_output_contains_no_key() {
        let shown = format!("{:?}", with_previous(Some(KEY), RAW));
        assert_eq!(shown, "Cipher { current: true, previous: true }");
    }
}
