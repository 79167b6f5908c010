//! JSON of inline templates, which may be nested deeper than the parser's own limit allows.

use serde::de::DeserializeOwned;

/// Depth of a JSON text. 64 workspaces nested in each other, each in a list, are 131 levels of a request.
const MAX_NESTING: usize = 192;

/// Why a text is not read.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is nested deeper than any template.
    #[error("nested more than {MAX_NESTING} deep; workspaces may be nested 64 deep")]
    TooDeep,
    /// It is no JSON, or not of the expected type.
    #[error(transparent)]
    Invalid(#[from] serde_json::Error),
}

/// Reads JSON.
///
/// # Errors
/// See [`JsonError`].
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    if depth(bytes) > MAX_NESTING {
        return Err(JsonError::TooDeep);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // The parser stops at 128.
    deserializer.disable_recursion_limit();
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// How deep a JSON text is nested. Any other text gets some number.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut in_text = false;
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_text => {
                bytes.next();
            }
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        from_json::<Value>(nested(MAX_NESTING).as_bytes()).unwrap();
        for depth in [MAX_NESTING + 1, 1_000_000] {
            let error = from_json::<Value>(nested(depth).as_bytes()).unwrap_err();
            assert!(matches!(error, JsonError::TooDeep), "{error}");
        }
        let text = format!(r#"["\"{}"]"#, "[".repeat(1_000));
        from_json::<Value>(text.as_bytes()).unwrap();
        for text in ["[1", "[] []", ""] {
            let error = from_json::<Value>(text.as_bytes()).unwrap_err();
            assert!(matches!(error, JsonError::Invalid(_)), "{error}");
        }
    }
}
