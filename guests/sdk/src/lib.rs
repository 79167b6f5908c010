//! The SDK for guests of Isomer.
//!
//! A guest is a WebAssembly component that exports one world. Implement the trait of that world for a unit
//! struct, and export the struct:
//!
//! | world | trait | export |
//! |---|---|---|
//! | runtime adapter | [`Adapter`] | [`export_adapter!`] |
//! | template resolver | [`Resolver`] | [`export_resolver!`] |
//! | reload classifier | [`Classifier`] | [`export_classifier!`] |
//!
//! Each trait names the type of its settings, and its functions get them parsed. On targets other than wasm
//! the export macros expand to nothing, so a guest's logic is tested with plain `cargo test`.
//!
//! ```
//! use isomer_sdk::{Adapter, Description, NoSettings};
//!
//! struct Runtime;
//!
//! impl Adapter for Runtime {
//!     type Settings = NoSettings;
//!
//!     fn describe(_: &NoSettings) -> Description {
//!         Description::container("my-agent", "My agent")
//!     }
//! }
//!
//! isomer_sdk::export_adapter!(Runtime);
//! ```

mod adapter;
pub mod bindings;
mod classifier;
mod config;
mod provider;
mod settings;
mod template;
mod tree;

pub use adapter::{
    Adapter, Capabilities, Description, EnvCopy, EnvSet, File, FileContent, Hosting, Message, Phase, Plan,
    PlanRequest, Reload, Surfaces, Volume, default_plan,
};
pub use classifier::{Classifier, Diff, Verdict};
pub use config::runtime_in_config;
pub use provider::provider_hint;
pub use settings::{NoSettings, parse_settings};
pub use template::{
    Answer, Expansion, KnownFile, Node, Progress, Resolver, Scalar, Tree as TemplateTree, Value,
};
pub use tree::{Tree, YamlTree};

pub use bindings::types::{Mark, Problem};

impl Problem {
    /// A problem without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self { at: None, message: message.into() }
    }

    /// A problem at a place: a JSON pointer into settings (`/model`), or `file:line:column`.
    pub fn at(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at: Some(at.into()), message: message.into() }
    }
}
