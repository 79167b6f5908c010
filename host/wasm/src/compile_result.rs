//! What a compile process writes to its standard output: an artifact as the AOT cache keeps it, or a refusal.

use std::io::{self, Read, Seek, SeekFrom};

use crate::{Digest, cache};

/// Bytes of an artifact. Code is three to five times as large as its Wasm.
pub(crate) const ARTIFACT_BYTES: u64 = 128 << 20;

/// What a refusal begins with. Its text follows.
const REFUSED: &[u8; 8] = b"ISOMREF1";

/// Bytes of a refusal's text that are kept.
const REFUSAL_BYTES: u64 = 4 << 10;

/// What a compile process came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CompileResult {
    /// The component was compiled.
    Artifact(Vec<u8>),
    /// The compiler refused it.
    Refused(String),
}

impl CompileResult {
    pub(crate) fn compiled(hash: u64, digest: &Digest, payload: &[u8]) -> Self {
        Self::Artifact(cache::artifact(hash, digest, payload))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Artifact(artifact) => artifact,
            Self::Refused(why) => [REFUSED.as_slice(), why.as_bytes()].concat(),
        }
    }
}

/// Why the component was refused, if the output of a process says so. Whether an artifact is whole is seen where it is
/// loaded.
pub(crate) fn refusal(output: &mut (impl Read + Seek)) -> io::Result<Option<String>> {
    output.seek(SeekFrom::Start(0))?;
    let mut begin = Vec::new();
    output.take(REFUSED.len() as u64 + REFUSAL_BYTES).read_to_end(&mut begin)?;
    Ok(begin.strip_prefix(REFUSED).map(|why| String::from_utf8_lossy(why).into_owned()))
}
