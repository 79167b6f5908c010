//! What a workspace was created from, as its row stores it: JSON with a version.
//!
//! A field may be added without a new version; it needs a default, since older rows lack it. A field that
//! changes its meaning needs a new version. Fields that this server doesn't know are kept, so that a server
//! of an older release that rewrites a row loses nothing that a newer one wrote.
//!
//! The spec is part of every row in the workspace index, so it holds no texts of users. Those are in the
//! [`WorkspaceSetup`](crate::WorkspaceSetup).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a workspace was created from, for its first start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceSpec {
    /// Rows without a version have version 1, which is not written.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: u32,
    /// Runtime template, as it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Model that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where it was imported with an org template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgSpec>,
    /// Fields of later releases.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Default for WorkspaceSpec {
    fn default() -> Self {
        Self { version: first_version(), template: None, model: None, org: None, unknown: Map::new() }
    }
}

/// The org template that a workspace was imported with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrgSpec {
    /// Directory of the org template as the client named it; empty for inline and uploaded templates.
    pub dir: String,
    /// Name of the org template.
    pub name: String,
    /// Fields of later releases.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

pub(crate) fn first_version() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_first_version(version: &u32) -> bool {
    *version == first_version()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(stored: &Value) -> WorkspaceSpec {
        serde_json::from_value(stored.clone()).unwrap()
    }

    #[test]
    fn rows_without_a_version_are_read() {
        assert_eq!(read(&json!({})), WorkspaceSpec::default());
        let created = json!({ "model": null, "template": null });
        assert_eq!(read(&created), WorkspaceSpec::default());
        let created = json!({ "model": "sonnet", "template": "base" });
        let (template, model) = (Some("base".to_owned()), Some("sonnet".to_owned()));
        assert_eq!(read(&created), WorkspaceSpec { template, model, ..WorkspaceSpec::default() });
    }

    #[test]
    fn rows_of_imported_workspaces_are_read_and_written_as_they_were() {
        let imported = json!({
            "model": "sonnet", "org": { "dir": "mixed", "name": "Mixed" }, "template": "claude",
        });
        let spec = read(&imported);
        assert!(spec.unknown.is_empty() && spec.org.as_ref().unwrap().unknown.is_empty());
        assert_eq!(serde_json::to_value(spec).unwrap(), imported);
    }

    #[test]
    fn unknown_fields_and_later_versions_are_kept() {
        let later = json!({ "color": "red", "org": { "dir": "", "name": "", "size": 1 }, "version": 2 });
        assert_eq!(serde_json::to_value(read(&later)).unwrap(), later);
    }
}
