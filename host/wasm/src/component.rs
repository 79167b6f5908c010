//! A component that is ready to be instantiated, with everything that could be done ahead done.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;
use wasmtime::component;
use wire_json::RawJson;

use crate::{
    Digest, FunctionError, LoadError, Outcome, Sandbox, Settings, World, adapter,
    call::CallContext,
    classifier,
    failure::cause,
    instance_pool::InstancePool,
    limits::{MEMORIES_PER_SLOT, TABLES_PER_SLOT},
    template, unavailable,
};

/// A loaded guest, without settings. Cheap to clone. Every call has an instance of its own, unless
/// [`Component::pooled`] says otherwise.
#[derive(Clone)]
pub struct Component {
    inner: Arc<Inner>,
    context: CallContext,
}

struct Inner {
    digest: Digest,
    world: World,
    version: String,
    imports: Vec<String>,
    bindings: Bindings,
}

/// The typed functions of the component, one variant per world.
enum Bindings {
    Adapter(adapter::Bindings),
    Template(template::Bindings),
    Classifier(classifier::Bindings),
}

impl Component {
    pub(crate) fn new(
        sandbox: &Sandbox,
        digest: Digest,
        world: World,
        version: String,
        imports: Vec<String>,
        compiled: &component::Component,
    ) -> Result<Self, LoadError> {
        let linked = unavailable::link(sandbox.linker(), compiled);
        let pre = linked.and_then(|linker| linker.instantiate_pre(compiled));
        let pre = pre.map_err(|error| LoadError::ImportTypes(cause(&error)))?;
        let bind = || -> wasmtime::Result<Bindings> {
            Ok(match world {
                World::Adapter => Bindings::Adapter(adapter::Bindings::new(pre)?),
                World::Template => Bindings::Template(template::Bindings::new(pre)?),
                World::Classifier => Bindings::Classifier(classifier::Bindings::new(pre)?),
            })
        };
        let bindings = bind().map_err(|error| LoadError::Shape(cause(&error)))?;
        let limits = sandbox.limits();
        let slots = Semaphore::new(limits.slots_per_component as usize);
        let answers = Semaphore::new(limits.answers_bytes_per_component >> 10);
        Ok(Self {
            inner: Arc::new(Inner { digest, world, version, imports, bindings }),
            context: CallContext {
                sandbox: sandbox.clone(),
                slots: Arc::new(slots),
                answers: Arc::new(answers),
                weight: weight(compiled).min(limits.slots).min(limits.slots_per_component),
                pool: None,
            },
        })
    }

    /// The same component, with a pool from which this value and its clones take warm instances.
    #[must_use]
    pub fn pooled(&self) -> Self {
        let pool = InstancePool::new(self.context.sandbox.idle_permits());
        self.with_pool(Some(Arc::new(pool)))
    }

    /// The same component, with a fresh instance for each call.
    #[must_use]
    pub fn per_call(&self) -> Self {
        self.with_pool(None)
    }

    fn with_pool(&self, pool: Option<Arc<InstancePool>>) -> Self {
        Self { inner: Arc::clone(&self.inner), context: CallContext { pool, ..self.context.clone() } }
    }

    /// The digest of its bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// What it is for.
    #[must_use]
    pub fn world(&self) -> World {
        self.inner.world
    }

    /// Version of the world that it was built for.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// Names of what it imports, with versions.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }

    /// The component as an adapter, if it is one.
    #[must_use]
    pub fn adapter(&self) -> Option<adapter::Adapter<'_>> {
        match &self.inner.bindings {
            Bindings::Adapter(bindings) => Some(adapter::Adapter { context: &self.context, bindings }),
            Bindings::Template(_) | Bindings::Classifier(_) => None,
        }
    }

    /// The component as a template resolver, if it is one.
    #[must_use]
    pub fn resolver(&self) -> Option<template::Resolver<'_>> {
        match &self.inner.bindings {
            Bindings::Template(bindings) => Some(template::Resolver { context: &self.context, bindings }),
            Bindings::Adapter(_) | Bindings::Classifier(_) => None,
        }
    }

    /// The component as a reload classifier, if it is one.
    #[must_use]
    pub fn classifier(&self) -> Option<classifier::Classifier<'_>> {
        match &self.inner.bindings {
            Bindings::Classifier(bindings) => {
                Some(classifier::Classifier { context: &self.context, bindings })
            }
            Bindings::Adapter(_) | Bindings::Template(_) => None,
        }
    }

    /// Are these settings usable? Every world has this function.
    pub async fn validate_settings(&self, settings: &Settings) -> Outcome<Result<(), crate::Problem>> {
        match &self.inner.bindings {
            Bindings::Adapter(bindings) => {
                adapter::Adapter { context: &self.context, bindings }.validate_settings(settings).await
            }
            Bindings::Template(bindings) => {
                template::Resolver { context: &self.context, bindings }.validate_settings(settings).await
            }
            Bindings::Classifier(bindings) => {
                classifier::Classifier { context: &self.context, bindings }.validate_settings(settings).await
            }
        }
    }

    /// Calls a function by its WIT name with JSON in and out, for `isomer guest call`.
    ///
    /// # Errors
    /// If the world has no such function, or the input doesn't have its form. What the call itself
    /// comes to is in the outcome.
    pub async fn call_by_name(
        &self,
        function: &str,
        settings: &Settings,
        input: Value,
    ) -> Result<Outcome<RawJson>, FunctionError> {
        match &self.inner.bindings {
            Bindings::Adapter(bindings) => {
                adapter::Adapter { context: &self.context, bindings }
                    .call_by_name(function, settings, input)
                    .await
            }
            Bindings::Template(bindings) => {
                template::Resolver { context: &self.context, bindings }
                    .call_by_name(function, settings, input)
                    .await
            }
            Bindings::Classifier(bindings) => {
                classifier::Classifier { context: &self.context, bindings }
                    .call_by_name(function, settings, input)
                    .await
            }
        }
    }
}

/// How many slots an instance takes: of memories and tables there are only as many as slots have. One, for the guests
/// of most languages.
fn weight(compiled: &component::Component) -> u32 {
    // Without the count it imports modules, and can't be linked.
    let Some(required) = compiled.resources_required() else { return 1 };
    let memories = required.num_memories.div_ceil(MEMORIES_PER_SLOT);
    memories.max(required.num_tables.div_ceil(TABLES_PER_SLOT)).max(1)
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Component({} {}@{})", self.inner.digest.short(), self.inner.world, self.inner.version)
    }
}
