//! The engine, the linker and the slots, made once.

use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::{
    Engine,
    component::{Component as Compiled, Linker},
};

use crate::{
    AotCache, Compiler, Digest, Limits, SandboxError, cache, engine, imports, limits::POOLED_TOTAL,
    state::State,
};

/// Runs guests. Cheap to clone; all clones share engine and slots.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<AotCache>,
    compatibility: u64,
    /// Bytes of address space for each memory.
    reservation: u64,
    compiler: Compiler,
    limits: Arc<Limits>,
    slots: Arc<Semaphore>,
    /// Counts KiB of answers that are read.
    answers: Arc<Semaphore>,
    /// Counts slots of idle instances of all pools.
    idle_permits: Arc<Semaphore>,
}

/// How much of the instance pool is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolUse {
    /// Slots that calls hold.
    pub calls: usize,
    /// Core instances alive.
    pub instances: u64,
    /// Linear memories in use.
    pub memories: usize,
    /// Stacks in use.
    pub stacks: usize,
    /// Bytes that free slots keep mapped for the next call.
    pub idle_bytes: usize,
}

impl Sandbox {
    /// Sets up the engine. Guests are compiled in this process.
    ///
    /// # Errors
    /// If the machine has no room for it: see [`SandboxError`].
    pub fn new(limits: Limits, cache: Option<AotCache>) -> Result<Self, SandboxError> {
        Self::with_compiler(limits, cache, Compiler::InProcess)
    }

    /// The same, with guests compiled where `compiler` says.
    ///
    /// # Errors
    /// As [`Sandbox::new`].
    pub fn with_compiler(
        limits: Limits,
        cache: Option<AotCache>,
        compiler: Compiler,
    ) -> Result<Self, SandboxError> {
        let (engine, reservation) = engine::new(&limits)?;
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker).map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
        Ok(Self {
            inner: Arc::new(Inner {
                compatibility: engine::compatibility(&engine),
                reservation,
                compiler,
                slots: Arc::new(Semaphore::new(limits.slots as usize)),
                answers: Arc::new(Semaphore::new(limits.answers_bytes >> 10)),
                idle_permits: Arc::new(Semaphore::new(POOLED_TOTAL as usize)),
                limits: Arc::new(limits),
                engine,
                linker,
                cache,
            }),
        })
    }

    /// The limits that calls run under.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// What the pool holds now. With no call running and no idle pooled instance, everything but
    /// `idle_bytes` is 0.
    #[must_use]
    pub fn pool_use(&self) -> PoolUse {
        let calls = (self.inner.limits.slots as usize).saturating_sub(self.inner.slots.available_permits());
        self.inner.engine.pooling_allocator_metrics().map_or_else(PoolUse::default, |pool| PoolUse {
            calls,
            instances: pool.core_instances(),
            memories: pool.memories(),
            stacks: pool.stacks(),
            idle_bytes: pool.unused_memory_bytes_resident(),
        })
    }

    /// Deletes the compiled form of a component that is not needed any more.
    pub fn evict(&self, digest: &Digest) {
        if let Some(cache) = &self.inner.cache {
            cache.evict(digest);
        }
    }

    /// The same, and keeps the note that it can't be compiled.
    pub fn evict_compiled(&self, digest: &Digest) {
        if let Some(cache) = &self.inner.cache {
            cache.evict_compiled(digest);
        }
    }

    /// Deletes what the AOT cache keeps of components that are not `used`, beyond a few: see [`AotCache::sweep`].
    pub fn sweep_cache(&self, used: impl Fn(&Digest) -> bool) {
        if let Some(cache) = &self.inner.cache {
            cache.sweep(used);
        }
    }

    /// The compiled form of the bytes with this digest, if the AOT cache has it.
    pub(crate) fn cached(&self, digest: &Digest) -> Option<Compiled> {
        let inner = &self.inner;
        inner.cache.as_ref()?.load(&inner.engine, inner.compatibility, digest)
    }

    /// Puts a compiled form into the AOT cache, if there is one.
    pub(crate) fn put(&self, digest: &Digest, compiled: &Compiled) {
        let Some(cache) = &self.inner.cache else { return };
        match compiled.serialize() {
            Ok(payload) => cache.put(digest, &cache::artifact(self.inner.compatibility, digest, &payload)),
            Err(error) => tracing::warn!(%digest, %error, "a compiled guest could not be stored"),
        }
    }

    pub(crate) fn cache(&self) -> Option<&AotCache> {
        self.inner.cache.as_ref()
    }

    pub(crate) fn compatibility(&self) -> u64 {
        self.inner.compatibility
    }

    pub(crate) fn reservation(&self) -> u64 {
        self.inner.reservation
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.inner.compiler
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.inner.linker
    }

    pub(crate) fn idle_permits(&self) -> &Arc<Semaphore> {
        &self.inner.idle_permits
    }

    pub(crate) fn answers(&self) -> &Arc<Semaphore> {
        &self.inner.answers
    }

    pub(crate) fn slots(&self) -> &Arc<Semaphore> {
        &self.inner.slots
    }
}
