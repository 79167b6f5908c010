//! The way from bytes to a [`Component`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmtime::component;

use crate::{Component, Digest, LoadError, Sandbox, exports, imports};

impl Sandbox {
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
        self.put(&digest, &compiled);
        Ok(component)
    }

    /// The component with this digest, if the AOT cache has it: no bytes are needed then.
    #[must_use]
    pub fn load_compiled(&self, digest: &Digest) -> Option<Component> {
        self.prepare(*digest, &self.cached(digest)?).ok()
    }

    fn preflight(&self, bytes: &[u8]) -> Result<(), LoadError> {
        let limit = self.limits().component_bytes;
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
        catch_unwind(AssertUnwindSafe(|| component::Component::from_binary(self.engine(), bytes)))
            .unwrap_or_else(|_| Err(wasmtime::Error::msg("the compiler gave up on it")))
            .map_err(|error| LoadError::Compile(format!("{error:#}")))
    }

    /// Reads world, version and imports off a compiled component, checks them, and binds it.
    fn prepare(&self, digest: Digest, compiled: &component::Component) -> Result<Component, LoadError> {
        let engine = self.engine();
        let ty = compiled.component_type();
        let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let imports: Vec<String> = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
        let (world, version) = exports::world(&exports)?;
        imports::check(&imports)?;
        Component::new(self, digest, world, version, imports, compiled)
    }
}
