//! What a guest of Isomer is written with.
//!
//! A guest is a WebAssembly component that answers one kind of question. Pick the trait of its
//! world, implement it for a unit struct, and export that struct:
//!
//! | world | trait | export |
//! |---|---|---|
//! | runtime adapter | [`Adapter`] | [`export_adapter!`] |
//! | template resolver | [`Resolver`] | [`export_resolver!`] |
//! | reload classifier | [`Classifier`] | [`export_classifier!`] |
//!
//! Settings arrive parsed: a trait names their type. A crate that exports nothing on other targets
//! than wasm links natively, so a guest's logic is tested with plain `cargo test`.
//!
//! ```
//! use isomer_sdk::{Adapter, Description, NoSettings};
//!
//! struct MyAgent;
//!
//! impl Adapter for MyAgent {
//!     type Settings = NoSettings;
//!
//!     fn describe(_: &NoSettings) -> Description {
//!         Description::container("my-agent", "My agent")
//!     }
//! }
//!
//! isomer_sdk::export_adapter!(MyAgent);
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
    /// A problem that lies nowhere in particular.
    pub fn new(message: impl Into<String>) -> Self {
        Self { at: None, message: message.into() }
    }

    /// A problem at a place: a JSON pointer into settings (`/model`), or `file:line:column`.
    pub fn at(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at: Some(at.into()), message: message.into() }
    }
}
