//! Keys of a template that are most likely misspelled. A key that occurs often is one warning.

use std::collections::{BTreeMap, HashMap};

use types::nearest;

/// Warnings at most; further keys are counted.
const MAX_WARNINGS: usize = 50;

/// Different unknown keys that are compared with known ones: a template may have a hundred thousand.
const MAX_COMPARED: usize = 2_000;

/// Bytes of a key that is compared.
const MAX_KEY: usize = 40;

/// Keys that nearly match a known one.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// The known key that one means, by kind of mapping and key.
    compared: HashMap<(&'static str, String), Option<&'static str>>,
    /// First place and number of places, by kind of mapping and key.
    misspelled: BTreeMap<(&'static str, String), (String, usize)>,
    more: usize,
}

impl Findings {
    /// Notes a key that no field has. `place` is asked only for the first one of its name.
    pub(crate) fn unknown_key(
        &mut self,
        kind: &'static str,
        key: &str,
        known: &[&'static str],
        place: impl FnOnce() -> String,
    ) {
        if key.len() > MAX_KEY {
            return;
        }
        let name = (kind, key.to_owned());
        let meant = match self.compared.get(&name) {
            Some(meant) => *meant,
            None if self.compared.len() < MAX_COMPARED => {
                let meant = nearest(key, known.iter().copied());
                self.compared.insert(name.clone(), meant);
                meant
            }
            None => None,
        };
        if meant.is_none() {
            return;
        }
        if let Some((_, places)) = self.misspelled.get_mut(&name) {
            *places += 1;
        } else if self.misspelled.len() < MAX_WARNINGS {
            self.misspelled.insert(name, (place(), 1));
        } else {
            self.more += 1;
        }
    }

    /// One sentence for each key.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let sentence = |(name, (place, places)): (&(&'static str, String), &(String, usize))| {
            let meant = self.compared.get(name).copied().flatten().unwrap_or_default();
            let (kind, key) = name;
            let more =
                if *places > 1 { format!(" (and in {} more places)", places - 1) } else { String::new() };
            format!("{place}: {kind} has no field `{key}`, which is ignored; did you mean `{meant}`?{more}")
        };
        let mut warnings: Vec<String> = self.misspelled.iter().map(sentence).collect();
        if self.more > 0 {
            warnings.push(format!("{} more keys are ignored and resemble known fields", self.more));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 9] =
        ["name", "role", "runtime", "tier", "children", "model", "files_dir", "initial_prompt", "url"];

    #[test]
    fn a_key_that_occurs_often_is_one_warning_and_many_keys_are_counted() {
        let mut findings = Findings::default();
        for line in 1..=3 {
            findings.unknown_key("a workspace", "chidren", &KNOWN, || format!("org.yaml:{line}:1"));
        }
        assert_eq!(
            findings.warnings(),
            ["org.yaml:1:1: a workspace has no field `chidren`, which is ignored; did you mean `children`? \
              (and in 2 more places)"]
        );
        for number in 0..100 {
            let key = format!("role{}", char::from_u32(0x4e00 + number).unwrap());
            findings.unknown_key("a workspace", &key, &KNOWN, || "p".to_owned());
        }
        let warnings = findings.warnings();
        assert_eq!(warnings.len(), MAX_WARNINGS + 1);
        assert_eq!(warnings[MAX_WARNINGS], "51 more keys are ignored and resemble known fields");
    }
}
