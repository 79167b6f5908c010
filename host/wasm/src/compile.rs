//! Compiling a guest: by a process of its own where the sandbox has one, and what is kept of that.

use std::{io, time::Duration};

use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::{
    AotCache, CompileError, CompileLimits, Compiler, Component, Digest, LoadError, Sandbox,
    cache::load_artifact,
    compile_process::Order,
    compile_result::CompileResult,
    compiler::{run, too_much_memory},
    failure::cause,
};

/// How long the cache's directory may take for a new file. One that hangs costs time at the next start, and nothing
/// else.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);

impl Sandbox {
    /// Compiles bytes with this digest that [`Sandbox::check`] has passed, and puts the result into the AOT cache. To
    /// drop the future ends the process.
    ///
    /// # Errors
    /// If the compiler refuses them, died of them, or can't be used.
    pub async fn compile(&self, digest: Digest, bytes: Bytes) -> Result<Component, CompileError> {
        let sandbox = self.clone();
        let Compiler::Process(program, limits) = self.compiler() else {
            return blocking(move || sandbox.load(&bytes)).await?.map_err(CompileError::from);
        };
        let order = Order {
            reservation: self.reservation(),
            memory_bytes: limits.memory_bytes,
            cpu_seconds: limits.cpu_seconds.into(),
        };
        let unusable = |error: io::Error| CompileError::NoProcess(error.to_string());
        let created = {
            let sandbox = self.clone();
            tokio::time::timeout(BEGIN_TIMEOUT, blocking(move || sandbox.begin_artifact())).await
        };
        // In its own directory, where it can be kept only if that is on the same disk.
        let (output, is_kept) = match created {
            Ok(created) => (created?.map_err(unusable)?, true),
            Err(_) => (blocking(NamedTempFile::new).await?.map_err(unusable)?, false),
        };
        let ended = run(program, &order, limits, &bytes, &output).await;
        let limits = limits.clone();
        let take = move || {
            let taken = ended.and_then(|()| sandbox.take(&digest, output, is_kept, &limits));
            taken.inspect_err(|error| {
                if is_kept {
                    sandbox.note_death(&digest, &limits, error);
                }
            })
        };
        blocking(take).await?
    }

    /// In the directory where it will be kept, if it will. A cache that can't be written costs time at the next start,
    /// and nothing else.
    fn begin_artifact(&self) -> io::Result<NamedTempFile> {
        match self.cache().map(AotCache::begin) {
            Some(Ok(file)) => Ok(file),
            Some(Err(_)) | None => NamedTempFile::new(),
        }
    }

    /// How compiling this component ended a process before, under the same limits: it would again. Forgotten
    /// when the component is compiled after all, or [`Sandbox::evict`]ed.
    #[must_use]
    pub fn noted_death(&self, digest: &Digest) -> Option<LoadError> {
        let Compiler::Process(_, limits) = self.compiler() else { return None };
        let how = self.cache()?.noted_death(self.compatibility(), digest, &limits.to_string())?;
        Some(LoadError::CompilerDied { how })
    }

    fn note_death(&self, digest: &Digest, limits: &CompileLimits, error: &CompileError) {
        if let (Some(cache), CompileError::Load(LoadError::CompilerDied { how })) = (self.cache(), error) {
            cache.note_death(self.compatibility(), digest, &limits.to_string(), how);
        }
    }

    fn take(
        &self,
        digest: &Digest,
        mut output: NamedTempFile,
        is_kept: bool,
        limits: &CompileLimits,
    ) -> Result<Component, CompileError> {
        let unusable = |error: io::Error| CompileError::NoProcess(error.to_string());
        let artifact = match CompileResult::read(output.as_file_mut()).map_err(unusable)? {
            CompileResult::Artifact(artifact) => artifact,
            CompileResult::Refused(why) => return Err(refused(why, limits).into()),
        };
        let loaded = load_artifact(self.engine(), self.compatibility(), digest, &artifact);
        drop(artifact);
        let broken = || CompileError::NoProcess("it wrote no whole result".to_owned());
        // What compiles may still not fit into this engine, which has room for so many memories and tables each.
        let compiled = loaded.ok_or_else(broken)?.map_err(|error| LoadError::Compile(cause(&error)))?;
        let component = self.prepare(*digest, &compiled)?;
        if let Some(cache) = self.cache().filter(|_| is_kept) {
            cache.keep(digest, output);
        }
        Ok(component)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CompileError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| CompileError::NoProcess("loading its result failed in an unforeseen way".to_owned()))
}

/// Parts of the compiler report that they got no memory.
fn refused(why: String, limits: &CompileLimits) -> LoadError {
    match why.contains(&io::Error::from_raw_os_error(libc::ENOMEM).to_string()) {
        true => LoadError::CompilerDied { how: too_much_memory(limits) },
        false => LoadError::Compile(why),
    }
}

#[cfg(test)]
mod tests;
