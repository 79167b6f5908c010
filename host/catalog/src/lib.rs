//! Guests as operators see them: names, settings, releases, and which release answers.
//!
//! A guest is a row: a component with settings under a name. Its releases are versions of the
//! component. [`Catalog`] finds what answers, calls it and counts; `lifecycle`, `updates` and
//! `deletion` change what answers, `conformance` validates it, `replication` follows the changes of other servers, and
//! `readiness` gets guests into service after a start. The rest of the host calls guests by typed
//! handles ([`RuntimeAdapter`], [`TemplateResolver`], [`ReloadClassifier`]), which answer by the host's defaults where
//! that is no harm, and else say why there is no answer ([`NoAnswer`]).

#![forbid(unsafe_code)]

mod activation;
mod audit;
mod bootstrap;
mod breaker;
mod catalog;
mod compilations;
mod compile_queue;
mod compiling;
mod component_cache;
mod components;
mod conformance;
mod defaults;
mod deletion;
mod descriptions;
mod embedded;
mod error;
mod findings;
mod guest;
mod guest_log;
mod handles;
mod lifecycle;
mod loads;
mod no_answer;
mod pruning;
mod readiness;
mod recovery;
mod refreshes;
mod replication;
mod runtimes;
mod source;
mod stats;
mod tasks;
mod updates;
mod view;
mod watcher;

pub use breaker::CallSubject;
pub use catalog::Catalog;
pub use conformance::check;
pub use descriptions::UndecidedRuntime;
pub use embedded::precompile;
pub use error::CatalogError;
pub use findings::{Conformance, Finding, Verdict};
pub use handles::{ReloadClassifier, RuntimeAdapter, TemplateResolver};
pub use no_answer::{NoAnswer, PlanError};
pub use runtimes::{FALLBACK, Manifest};
pub use source::Source;
pub use updates::GuestUpdate;
pub use view::{CallResult, GuestState, GuestSummary, GuestView, ReleaseView};
pub use watcher::{GuestWatcher, WatchError};
