//! A component that is ready to be instantiated, with everything that could be done ahead done.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;
use wasmtime::component;

use crate::{
    Digest, FunctionError, LoadError, Outcome, Sandbox, Settings, World, adapter, classifier, reuse::Reuse,
    template,
};

/// A loaded guest, without settings. Cheap to clone. Every call has an instance of its own, unless
/// [`Component::reused`] says otherwise.
#[derive(Clone)]
pub struct Component {
    pub(crate) inner: Arc<Inner>,
    pub(crate) reuse: Option<Arc<Reuse>>,
}

pub(crate) struct Inner {
    pub(crate) sandbox: Sandbox,
    pub(crate) slots: Semaphore,
    digest: Digest,
    world: World,
    version: String,
    imports: Vec<String>,
    bound: Bound,
}

/// The component bound to the functions of its world, one variant per supported version.
enum Bound {
    Adapter(adapter::Bound),
    Template(template::Bound),
    Classifier(classifier::Bound),
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
        let pre = sandbox.linker().instantiate_pre(compiled);
        let pre = pre.map_err(|error| LoadError::ImportTypes(format!("{error:#}")))?;
        let bind = || -> wasmtime::Result<Bound> {
            Ok(match world {
                World::Adapter => Bound::Adapter(adapter::Bound::new(pre)?),
                World::Template => Bound::Template(template::Bound::new(pre)?),
                World::Classifier => Bound::Classifier(classifier::Bound::new(pre)?),
            })
        };
        let bound = bind().map_err(|error| LoadError::Shape(format!("{error:#}")))?;
        let slots = Semaphore::new(sandbox.limits().slots_per_component as usize);
        let sandbox = sandbox.clone();
        Ok(Self {
            inner: Arc::new(Inner { sandbox, slots, digest, world, version, imports, bound }),
            reuse: None,
        })
    }

    /// The same component, with its instances used again for later calls of this value and its clones.
    #[must_use]
    pub fn reused(&self) -> Self {
        let reuse = Reuse::new(self.inner.sandbox.idle_places());
        Self { inner: Arc::clone(&self.inner), reuse: Some(Arc::new(reuse)) }
    }

    /// The same component, with an instance for each call.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), reuse: None }
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
        match &self.inner.bound {
            Bound::Adapter(bound) => Some(adapter::Adapter { component: self, bound }),
            Bound::Template(_) | Bound::Classifier(_) => None,
        }
    }

    /// The component as a template resolver, if it is one.
    #[must_use]
    pub fn resolver(&self) -> Option<template::Resolver<'_>> {
        match &self.inner.bound {
            Bound::Template(bound) => Some(template::Resolver { component: self, bound }),
            Bound::Adapter(_) | Bound::Classifier(_) => None,
        }
    }

    /// The component as a reload classifier, if it is one.
    #[must_use]
    pub fn classifier(&self) -> Option<classifier::Classifier<'_>> {
        match &self.inner.bound {
            Bound::Classifier(bound) => Some(classifier::Classifier { component: self, bound }),
            Bound::Adapter(_) | Bound::Template(_) => None,
        }
    }

    /// Are these settings usable? Every world has this function.
    pub async fn validate_settings(&self, settings: &Settings) -> Outcome<Result<(), crate::Problem>> {
        match &self.inner.bound {
            Bound::Adapter(bound) => {
                adapter::Adapter { component: self, bound }.validate_settings(settings).await
            }
            Bound::Template(bound) => {
                template::Resolver { component: self, bound }.validate_settings(settings).await
            }
            Bound::Classifier(bound) => {
                classifier::Classifier { component: self, bound }.validate_settings(settings).await
            }
        }
    }

    /// Calls a function by its WIT name with JSON in and out, for people who try a guest.
    ///
    /// # Errors
    /// If the world has no such function, or the input doesn't have its form. What the call itself
    /// comes to is in the outcome.
    pub async fn call_by_name(
        &self,
        function: &str,
        settings: &Settings,
        input: Value,
    ) -> Result<Outcome<Value>, FunctionError> {
        match &self.inner.bound {
            Bound::Adapter(bound) => {
                adapter::Adapter { component: self, bound }.call_by_name(function, settings, input).await
            }
            Bound::Template(bound) => {
                template::Resolver { component: self, bound }.call_by_name(function, settings, input).await
            }
            Bound::Classifier(bound) => {
                classifier::Classifier { component: self, bound }
                    .call_by_name(function, settings, input)
                    .await
            }
        }
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Component({} {}@{})", self.inner.digest.short(), self.inner.world, self.inner.version)
    }
}
