//! Components of releases and pushes: from the AOT cache, else compiled when it is their turn.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::watch;
use wasm::{Component, Digest};

use crate::{
    Catalog, CatalogError, compilations::Compilation, compile_queue::Permit, components::blocking, embedded,
    loads::LoadFor,
};

impl Catalog {
    /// Ends every compilation, and refuses further ones: the server stops.
    pub fn stop_compiling(&self) {
        self.inner.compilations.stop();
    }

    /// The component of bytes with this digest that are pushed. `by_hand`: also if the compiler died of them before.
    pub(crate) async fn load_pushed(
        &self,
        guest: &str,
        digest: Digest,
        bytes: &Bytes,
        by_hand: bool,
    ) -> Result<Component, CatalogError> {
        let (sandbox, checked) = (self.inner.sandbox.clone(), bytes.clone());
        let compilations = &self.inner.compilations;
        let permit = compilations.loads.permit(LoadFor::Push).await?;
        blocking(move || {
            let _permit = permit;
            sandbox.check(&checked)
        })
        .await??;
        let sandbox = self.inner.sandbox.clone();
        let known = compilations.loads.read(LoadFor::Push, move || {
            let noted = || sandbox.noted_death(&digest).filter(|_| !by_hand);
            match sandbox.load_compiled(&digest) {
                None => noted().map_or(Ok(None), Err),
                known => Ok(known),
            }
        });
        if let Some(component) = known.await?.transpose()?.flatten() {
            return Ok(component);
        }
        let _entry = compilations.queue.enqueue(guest, bytes.len())?;
        if let Some(running) = compilations.find(&digest) {
            return running.result().await;
        }
        let permit = compilations.queue.acquire_for_push(guest).await?;
        self.begin_compiling(digest, bytes.clone(), permit).result().await
    }

    /// The component with this digest, which a release of `guest` has: from the AOT cache, else compiled.
    pub(crate) async fn load_stored(&self, guest: &str, digest: Digest) -> Result<Component, CatalogError> {
        let compilations = &self.inner.compilations;
        if let Some(component) = self.load_cached(digest).await? {
            return Ok(component);
        }
        if let Some(running) = compilations.find(&digest) {
            return running.result().await;
        }
        let permit = compilations.queue.acquire_for_need(guest).await?;
        let bytes: Bytes = match embedded::bytes(&digest) {
            Some(bytes) => Bytes::from_static(bytes),
            None => self.component_bytes(digest).await?.into(),
        };
        let (sandbox, checked) = (self.inner.sandbox.clone(), bytes.clone());
        blocking(move || sandbox.check(&checked)).await??;
        if embedded::bytes(&digest).is_none() {
            let sandbox = self.inner.sandbox.clone();
            let noted = compilations.loads.read(LoadFor::Need, move || sandbox.noted_death(&digest)).await?;
            if let Some(death) = noted.flatten() {
                return Err(death.into());
            }
        }
        let compiled = self.begin_compiling(digest, bytes.clone(), permit).result().await;
        match compiled {
            Err(CatalogError::NoCompiler(why)) if embedded::bytes(&digest).is_some() => {
                tracing::warn!(
                    guest,
                    "{why}: this guest, which comes with the program, is compiled in the server"
                );
                let sandbox = self.inner.sandbox.clone();
                Ok(blocking(move || sandbox.load(&bytes)).await??)
            }
            compiled => compiled,
        }
    }

    async fn load_cached(&self, digest: Digest) -> Result<Option<Component>, CatalogError> {
        let sandbox = self.inner.sandbox.clone();
        let loaded =
            self.inner.compilations.loads.read(LoadFor::Need, move || sandbox.load_compiled(&digest));
        Ok(loaded.await?.flatten())
    }

    /// Compiles, unless that runs already or was done while the caller waited.
    fn begin_compiling(&self, digest: Digest, bytes: Bytes, permit: Permit) -> Arc<Compilation> {
        let mut running = self.inner.compilations.running();
        if let Some(known) = running.get(&digest).and_then(Weak::upgrade) {
            return known;
        }
        let (done, result) = watch::channel(None);
        let catalog = self.clone();
        let task = tokio::spawn(async move {
            let compiled = match catalog.load_cached(digest).await {
                Ok(Some(component)) => Ok(component),
                _ => catalog.inner.sandbox.compile(digest, bytes).await,
            };
            drop(permit);
            let _ = done.send(Some(compiled));
        });
        let compilation = Arc::new(Compilation { task: task.abort_handle(), result });
        running.retain(|_, compilation| compilation.strong_count() > 0);
        running.insert(digest, Arc::downgrade(&compilation));
        compilation
    }
}
