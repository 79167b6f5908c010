//! Guests as operators see them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use store::guests::{Counters, ReleaseRow, ReleaseState};
use wasm::{LogLine, World, adapter::Description};
use wire_json::RawJson;

/// A guest, in a list.
#[derive(Debug, Clone, Serialize)]
pub struct GuestSummary {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub world: World,
    /// What answers.
    pub state: GuestState,
    /// Digest of the release that answers.
    pub release: Option<String>,
    /// Where that release came from.
    pub source: Option<String>,
    /// Whether the guest may ask for hosting other than a container.
    pub trusted: bool,
    /// Whether calls take warm instances from a pool.
    pub pooled: bool,
    /// What the releases did together.
    pub counters: Counters,
}

/// What answers for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestState {
    /// Its active release.
    Active,
    /// Nothing: an operator disabled it.
    Disabled,
    /// Nothing: it has no release that works. Named after the host's defaults, which answer some questions then.
    HostDefault,
    /// None yet: the server has just started and compiles its release.
    Preparing,
}

/// A guest with everything about it.
#[derive(Debug, Clone, Serialize)]
pub struct GuestView {
    /// The summary's fields.
    #[serde(flatten)]
    pub summary: GuestSummary,
    /// First-party component that backs it.
    pub component: Option<String>,
    /// Its settings.
    pub settings: Value,
    /// What an adapter says about its runtime; out of service, what it said last.
    pub description: Option<Arc<Description>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Its releases, newest first.
    pub releases: Vec<ReleaseView>,
}

/// A release.
#[derive(Debug, Clone, Serialize)]
pub struct ReleaseView {
    /// SHA-256 of the component.
    pub digest: String,
    /// Where it stands.
    pub state: ReleaseState,
    /// Why, where there is a reason.
    pub reason: Option<String>,
    /// Version of the world.
    pub version: Option<String>,
    /// Size of the component.
    pub size_bytes: u64,
    /// `embedded`, `upload` or `folder`.
    pub source: String,
    /// The caller (such as `admin-token`), or `folder` for the watched directory.
    pub pushed_by: String,
    /// When.
    pub pushed_at: DateTime<Utc>,
    /// When it was last activated.
    pub activated_at: Option<DateTime<Utc>>,
    /// What it did.
    pub counters: Counters,
}

/// The result of a call by name.
#[derive(Debug, Clone, Serialize)]
pub struct CallResult {
    /// What the guest answered.
    pub answer: RawJson,
    /// Digest of the release that answered.
    pub release: String,
    /// From the free slot to the checked answer.
    pub elapsed_us: u128,
    /// Largest linear memory.
    pub peak_memory_bytes: usize,
    /// What the guest wrote.
    pub log: Vec<LogLine>,
}

impl ReleaseView {
    pub(crate) fn new(row: &ReleaseRow, counters: Counters) -> Self {
        Self {
            digest: row.digest.clone(),
            state: row.state,
            reason: row.reason.clone(),
            version: row.version.clone(),
            size_bytes: row.size_bytes,
            source: row.source.clone(),
            pushed_by: row.pushed_by.clone(),
            pushed_at: row.pushed_at,
            activated_at: row.activated_at,
            counters,
        }
    }
}
