//! What instantiating a component costs. Instances multiply where a component instantiates another one several
//! times, so counts saturate.

use wasmparser::ComponentInstance;

use crate::LoadError;

/// What one instantiation makes, nested ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    pub(super) instances: u64,
    /// Whatever instances consist of: imports, aliases, exports, arguments.
    pub(super) items: u64,
}

impl Cost {
    /// One instance that is made with this many names.
    pub(super) fn instance(names: usize) -> Self {
        Self { instances: 1, items: 1 + names as u64 }
    }

    fn add(self, other: Self) -> Self {
        Self {
            instances: self.instances.saturating_add(other.instances),
            items: self.items.saturating_add(other.items),
        }
    }
}

/// A component as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Component {
    own: Cost,
    /// The index space of components: what an instance of each costs.
    defined: Vec<Cost>,
}

impl Component {
    /// Adds to what its instances cost; returns the sum.
    pub(super) fn spend(&mut self, cost: Cost) -> Cost {
        self.own = self.own.add(cost);
        self.own
    }

    pub(super) fn define(&mut self, cost: Cost) {
        self.defined.push(cost);
    }

    pub(super) fn cost(&self) -> Cost {
        self.own
    }

    pub(super) fn cost_at(&self, index: u32) -> Result<Cost, LoadError> {
        self.defined.get(index as usize).copied().ok_or_else(no_such_component)
    }

    pub(super) fn cost_of(&self, instance: &ComponentInstance<'_>) -> Result<Cost, LoadError> {
        Ok(match instance {
            ComponentInstance::Instantiate { component_index, args } => {
                Cost::instance(args.len()).add(self.cost_at(*component_index)?)
            }
            ComponentInstance::FromExports(exports) => Cost::instance(exports.len()),
        })
    }
}

pub(super) fn no_such_component() -> LoadError {
    LoadError::Compile("it refers to a component that it doesn't contain".to_owned())
}
