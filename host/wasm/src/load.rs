//! The way from bytes to a [`Component`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmtime::component;

use crate::{Component, Digest, LoadError, Sandbox, exports, failure::cause, imports, precheck};

impl Sandbox {
    /// Turns bytes into a component that can be called: a fraction of a second of every core when
    /// it must be compiled, a millisecond when the AOT cache has it. Call it off the async threads.
    ///
    /// # Errors
    /// Everything that keeps it from ever being called: see [`LoadError`].
    pub fn load(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        self.check(bytes)?;
        let digest = Digest::of(bytes);
        if let Some(component) = self.load_compiled(&digest) {
            return Ok(component);
        }
        let compiled = self.compile_here(bytes)?;
        let component = self.prepare(digest, &compiled)?;
        self.put(&digest, &compiled);
        Ok(component)
    }

    /// Reads the bytes over before they are compiled: see [`LoadError`] for what it finds. A tenth of a second
    /// for the largest component.
    ///
    /// # Errors
    /// What keeps the bytes from being a guest, or from being compiled in time.
    pub fn check(&self, bytes: &[u8]) -> Result<(), LoadError> {
        precheck::check(bytes, self.limits())
    }

    /// The component with this digest, if the AOT cache has it: no bytes are needed then.
    #[must_use]
    pub fn load_compiled(&self, digest: &Digest) -> Option<Component> {
        self.prepare(*digest, &self.cached(digest)?).ok()
    }

    fn compile_here(&self, bytes: &[u8]) -> Result<component::Component, LoadError> {
        // A panic of the compiler on odd input is a bad file, not a dead server.
        catch_unwind(AssertUnwindSafe(|| component::Component::from_binary(self.engine(), bytes)))
            .unwrap_or_else(|_| Err(wasmtime::Error::msg("the compiler gave up on it")))
            .map_err(|error| LoadError::Compile(cause(&error)))
    }

    /// Reads world, version and imports off a compiled component, checks them, and binds it.
    pub(crate) fn prepare(
        &self,
        digest: Digest,
        compiled: &component::Component,
    ) -> Result<Component, LoadError> {
        let engine = self.engine();
        let ty = compiled.component_type();
        let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let imports: Vec<String> = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
        let (world, version) = exports::world(&exports)?;
        imports::check(&imports)?;
        Component::new(self, digest, world, version, imports, compiled)
    }
}
