//! The engine, the linker and the slots, made once; and the way from bytes to a [`Component`].

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::Semaphore;
use wasmtime::{
    Engine,
    component::{self, Linker},
};

use crate::{
    AotCache, Component, Digest, Limits, LoadError, SandboxError, World, engine, imports,
    limits::POOLED_TOTAL, state::State,
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
    limits: Arc<Limits>,
    slots: Arc<Semaphore>,
    /// Counts idle instances of all pools.
    idle_permits: Arc<Semaphore>,
}

/// How much of the instance pool is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolUse {
    /// Calls that hold a slot.
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
    /// Sets up the engine.
    ///
    /// # Errors
    /// If the machine has no room for it: see [`SandboxError`].
    pub fn new(limits: Limits, cache: Option<AotCache>) -> Result<Self, SandboxError> {
        let engine = engine::new(&limits)?;
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker).map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self {
            inner: Arc::new(Inner {
                compatibility: hasher.finish(),
                slots: Arc::new(Semaphore::new(limits.slots as usize)),
                idle_permits: Arc::new(Semaphore::new(POOLED_TOTAL as usize)),
                limits: Arc::new(limits),
                engine,
                linker,
                cache,
            }),
        })
    }

    /// Turns bytes into a component that can be called: a fraction of a second of every core when
    /// it must be compiled, a millisecond when the AOT cache has it. Call it off the async threads.
    ///
    /// # Errors
    /// Everything that keeps it from ever being called: see [`LoadError`].
    pub fn load(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        self.preflight(bytes)?;
        let digest = Digest::of(bytes);
        if let Some(component) = self.load_compiled(&digest) {
            return Ok(component);
        }
        let compiled = self.compile(bytes)?;
        let component = self.prepare(digest, &compiled)?;
        if let Some(cache) = &self.inner.cache {
            cache.put(self.inner.compatibility, &digest, &compiled);
        }
        Ok(component)
    }

    /// The component with this digest, if the AOT cache has it: no bytes are needed then.
    #[must_use]
    pub fn load_compiled(&self, digest: &Digest) -> Option<Component> {
        let inner = &self.inner;
        let compiled = inner.cache.as_ref()?.load(&inner.engine, inner.compatibility, digest)?;
        self.prepare(*digest, &compiled).ok()
    }

    fn preflight(&self, bytes: &[u8]) -> Result<(), LoadError> {
        let limit = self.inner.limits.component_bytes;
        match bytes {
            _ if bytes.len() > limit => Err(LoadError::TooLarge { bytes: bytes.len(), limit }),
            [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
            [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => Err(LoadError::CoreModule),
            [b'\0', b'a', b's', b'm', ..] => Err(LoadError::Compile("the file is truncated".to_owned())),
            _ => Err(LoadError::NotWasm),
        }
    }

    fn compile(&self, bytes: &[u8]) -> Result<component::Component, LoadError> {
        // A panic of the compiler on odd input is a bad file, not a dead server.
        catch_unwind(AssertUnwindSafe(|| component::Component::from_binary(&self.inner.engine, bytes)))
            .unwrap_or_else(|_| Err(wasmtime::Error::msg("the compiler gave up on it")))
            .map_err(|error| LoadError::Compile(format!("{error:#}")))
    }

    /// Reads world, version and imports off a compiled component, checks them, and binds it.
    fn prepare(&self, digest: Digest, compiled: &component::Component) -> Result<Component, LoadError> {
        let engine = &self.inner.engine;
        let ty = compiled.component_type();
        let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let imports: Vec<String> = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
        let (world, version) = World::of_exports(&exports)?;
        imports::check(&imports)?;
        Component::new(self, digest, world, version, imports, compiled)
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

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.inner.linker
    }

    pub(crate) fn idle_permits(&self) -> &Arc<Semaphore> {
        &self.inner.idle_permits
    }

    pub(crate) fn slots(&self) -> &Arc<Semaphore> {
        &self.inner.slots
    }
}
