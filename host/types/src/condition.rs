//! Conditions of a workspace, in the form that Kubernetes uses.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    spec::{first_version, is_first_version},
    string_enum,
};

string_enum! {
    /// Whether a condition holds.
    ConditionStatus {
        /// It holds.
        True = "True",
        /// It doesn't.
        False = "False",
        /// It can't be said.
        Unknown = "Unknown",
    }
}

/// One condition of a workspace, as the row stores it and clients read it: hence the alphabetical order of
/// its fields. Fields that this server doesn't know are kept when it rewrites the row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// For people.
    #[serde(default)]
    pub message: String,
    /// One word for programs.
    #[serde(default)]
    pub reason: String,
    /// Time of the last change of its status.
    pub since: DateTime<Utc>,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// What it is about; unique in a row.
    #[serde(rename = "type")]
    pub kind: String,
    /// Rows without a version have version 1, which is not written.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: u32,
    /// Fields of later releases.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Condition {
    /// A condition of the present version.
    #[must_use]
    pub fn new(kind: &str, status: ConditionStatus, since: DateTime<Utc>) -> Self {
        Self {
            message: String::new(),
            reason: String::new(),
            since,
            status,
            kind: kind.to_owned(),
            version: first_version(),
            unknown: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_version_are_read_and_written_as_they_were() {
        let stored = r#"{"message":"no answer in time","reason":"NoAnswer","since":"2026-11-27T03:30:57.000123Z","status":"False","type":"BackendReachable"}"#;
        let condition: Condition = serde_json::from_str(stored).unwrap();
        assert_eq!((condition.kind.as_str(), condition.status), ("BackendReachable", ConditionStatus::False));
        assert_eq!(condition.version, 1);
        assert_eq!(serde_json::to_string(&condition).unwrap(), stored);
    }

    #[test]
    fn unknown_fields_and_later_versions_are_kept() {
        let later = r#"{"message":"","reason":"","since":"2026-11-27T03:30:57Z","status":"Unknown","type":"T","version":2,"weight":3}"#;
        let condition: Condition = serde_json::from_str(later).unwrap();
        assert_eq!(serde_json::to_string(&condition).unwrap(), later);
    }
}
