//! What a compile process writes to its standard output: an artifact as the AOT cache keeps it, or a refusal.

use std::io::{self, Read, Seek, SeekFrom};

use types::clip;

use crate::{Digest, cache};

/// What a refusal begins with. Its text follows.
const REFUSED: &[u8; 8] = b"ISOMREF1";

/// Bytes of a refusal's text that are kept.
const REFUSAL_BYTES: usize = 4 << 10;

/// What a compile process came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CompileResult {
    /// The component was compiled. Whether the artifact is whole is seen where it is loaded.
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

    /// Reads the output of a process, which the kernel limits to [`crate::limits::ARTIFACT_BYTES`].
    pub(crate) fn read(output: &mut (impl Read + Seek)) -> io::Result<Self> {
        output.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes)?;
        Ok(match bytes.strip_prefix(REFUSED) {
            Some(why) => Self::Refused(clip(String::from_utf8_lossy(why).into_owned(), REFUSAL_BYTES)),
            None => Self::Artifact(bytes),
        })
    }
}
