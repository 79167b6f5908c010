//! Functions of WASI that no guest is given (sockets, HTTP …). A language's runtime imports many of them, and calls
//! none for a guest that computes. So a component with them loads, and the call of one of them is a trap that names it.

use std::sync::Arc;

use types::clip;
use wasmtime::component::{Component, Linker, ResourceType, types::ComponentItem};

use crate::{
    failure::NAMES,
    imports::{interface, name_in_linker},
    state::State,
};

/// The function of this name was called.
#[derive(Debug, thiserror::Error)]
#[error("{} is not available to guests", clip(self.0.clone(), NAMES))]
struct Unavailable(String);

/// What a resource of these functions would refer to: none is ever made.
struct Absent;

/// The linker with a trap for each function of WASI that `component` imports and it doesn't have.
pub(crate) fn link(linker: &Linker<State>, component: &Component) -> wasmtime::Result<Linker<State>> {
    let engine = linker.engine().clone();
    let mut linker = linker.clone();
    let mut known = Vec::new();
    for (import, item) in component.component_type().imports(&engine) {
        if let ComponentItem::ComponentInstance(instance) = item.ty
            && import.starts_with("wasi:")
        {
            let exports = instance.exports(&engine).map(|(name, item)| (name, item.ty));
            add(&mut linker, import, exports, &mut known)?;
        }
    }
    Ok(linker)
}

/// Adds what an interface doesn't have yet.
fn add<'a>(
    linker: &mut Linker<State>,
    import: &str,
    items: impl Iterator<Item = (&'a str, ComponentItem)>,
    known: &mut Vec<ResourceType>,
) -> wasmtime::Result<()> {
    let name: Arc<str> = interface(import).0.into();
    let mut root = linker.root();
    let mut instance = root.instance(&name_in_linker(import))?;
    for (item, ty) in items {
        // What is there already is refused, and stays.
        match ty {
            ComponentItem::ComponentFunc(_) => {
                let (interface, function) = (Arc::clone(&name), Arc::<str>::from(item));
                let _provided = instance.func_new(item, move |_, _, _, _| {
                    Err(Unavailable(format!("{interface}.{}", plain(&function))).into())
                });
            }
            // An interface repeats resources of others that it uses: these are as the first one defines them.
            ComponentItem::Resource(resource) if !known.contains(&resource) => {
                known.push(resource);
                let _provided = instance.resource(item, ResourceType::host::<Absent>(), |_, _| Ok(()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `[method]tcp-socket.connect` without the kind of the function.
fn plain(function: &str) -> &str {
    function.rsplit_once(']').map_or(function, |(_, name)| name)
}
