//! Parts of a template that are stored with the workspaces although no subsystem uses them yet. Each is
//! named in a warning of the import.

use std::collections::BTreeMap;

/// Workspaces that a warning names; further ones are counted.
const MAX_NAMED: usize = 3;

/// A part that nothing uses yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Files,
    Config,
    Plugins,
    Schedules,
    Channels,
    Memories,
}

impl Part {
    fn warning(self) -> &'static str {
        match self {
            Self::Files => "files_dir is kept; its files are not copied into workspaces yet",
            Self::Config => "prompts and category_routing are kept; no configuration is written yet",
            Self::Plugins => "plugins are kept; they are not installed yet",
            Self::Schedules => "schedules are kept; they don't run yet",
            Self::Channels => "channels are kept; they are not connected yet",
            Self::Memories => "initial and global memories are kept; agents don't get them yet",
        }
    }
}

/// The unsupported parts of a template, each with the names of the workspaces that have it.
#[derive(Debug, Default)]
pub(crate) struct Unsupported(BTreeMap<Part, Vec<String>>);

impl Unsupported {
    pub(crate) fn add(&mut self, part: Part, workspace: &str) {
        let workspaces = self.0.entry(part).or_default();
        if workspaces.last().is_none_or(|last| last != workspace) {
            workspaces.push(workspace.to_owned());
        }
    }

    /// One sentence for each part.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(part, workspaces)| format!("{} ({})", part.warning(), names(workspaces)))
    }
}

fn names(workspaces: &[String]) -> String {
    let shown: Vec<&str> = workspaces.iter().take(MAX_NAMED).map(String::as_str).collect();
    let shown = shown.join(", ");
    match workspaces.len().checked_sub(MAX_NAMED) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_three_workspaces_and_counts_the_rest() {
        let mut unsupported = Unsupported::default();
        for name in ["A", "A", "B", "C", "D", "E"] {
            unsupported.add(Part::Plugins, name);
        }
        unsupported.add(Part::Files, "A");
        let warnings: Vec<String> = unsupported.warnings().collect();
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].ends_with("yet (A)"), "{warnings:?}");
        assert!(warnings[1].ends_with("(A, B, C and 2 more)"), "{warnings:?}");
    }
}
