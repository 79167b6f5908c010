//! Ways in for the fuzz targets (`tests/fuzz`): made from any bytes what a guest could answer, put
//! through the checks, and compared with the rules. Compiled only when fuzzing.

use crate::fuzz_bytes::Bytes;

/// Any arena of a resolver.
pub fn template_tree(bytes: &[u8]) {
    crate::template::fuzz_tree(&mut Bytes(bytes));
}

/// Any plan of an adapter.
pub fn plan(bytes: &[u8]) {
    crate::adapter::fuzz_plan(&mut Bytes(bytes));
}
