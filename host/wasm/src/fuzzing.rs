//! Ways in for the fuzz targets (`tests/fuzz`): made from any bytes what a guest could answer, put
//! through the checks, and compared with the rules. Compiled only when fuzzing.

use crate::fuzz_bytes::Bytes;

/// Any arena of a resolver.
pub fn template_tree(bytes: &[u8]) {
    crate::template::fuzz_tree(&mut Bytes(bytes));
}

/// Any text of a guest, in a message and in an error.
pub fn texts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let harmless =
        |text: &str| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t') || c == '\u{202e}');
    let message = crate::validate::message(text.clone());
    assert!(message.len() <= 4 << 10 && harmless(&message));
    let refused = crate::InvalidOutput::new(text.clone(), text);
    assert!(refused.to_string().len() <= 16 << 10 && harmless(&refused.to_string()));
    assert!(!refused.to_string().contains('\n'));
}

/// Any plan of an adapter.
pub fn plan(bytes: &[u8]) {
    crate::adapter::fuzz_plan(&mut Bytes(bytes));
}
