//! Guests as operators see them: names, settings, releases, and which release answers.
//!
//! A guest is a row: a component with settings under a name. Its releases are versions of the
//! component. [`Catalog`] finds what answers, calls it and keeps account; `lifecycle` changes what
//! answers; `conformance` decides what may. The rest of the host asks through typed handles
//! ([`RuntimeAdapter`], [`TemplateResolver`], [`ReloadClassifier`]), which always have an answer.

#![forbid(unsafe_code)]

mod blobs;
mod breaker;
mod catalog;
mod conformance;
mod defaults;
mod embedded;
mod error;
mod fallback;
mod folder;
mod guest;
mod handles;
mod lifecycle;
mod rows;
mod runtimes;
mod service;
mod start;
mod stats;
mod view;

pub use catalog::Catalog;
pub use conformance::{Conformance, Finding, Verdict, check};
pub use error::CatalogError;
pub use folder::{Folder, FolderError};
pub use handles::{ReloadClassifier, RuntimeAdapter, TemplateResolver};
pub use lifecycle::Source;
pub use rows::RowChange;
pub use runtimes::{FALLBACK, Manifest};
pub use view::{Called, GuestState, GuestSummary, GuestView, ReleaseView};
