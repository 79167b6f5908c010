//! Why a workspace can't start. Each message is read by the operator, as error of the failed workspace.

/// Why there is no container to be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// Of each of these groups the workspace needs at least one variable that isn't empty.
    #[error("{}", missing_env(.0))]
    MissingEnv(Vec<Vec<String>>),
    /// A secret that all workspaces share can't be opened with the platform's key.
    #[error("failed to decrypt global secret")]
    GlobalSecret,
    /// A secret of the workspace can't be opened with the platform's key.
    #[error("failed to decrypt workspace secret")]
    WorkspaceSecret,
    /// The runtime's adapter objects.
    #[error("the adapter of runtime {runtime} refuses the workspace: {problem}")]
    Adapter {
        /// As the workspace's row has it.
        runtime: String,
        /// The adapter's own words.
        problem: String,
    },
    /// The runtime's adapter gives no plan: it is out of service, or failed. A start has no other plan.
    #[error("the adapter of runtime {runtime} gives no plan: {why}")]
    NoPlan {
        /// As the workspace's row has it.
        runtime: String,
        /// In words for people: which guest, what happened, what to do.
        why: String,
        /// One word for programs.
        reason: &'static str,
        /// The adapter may give one later although nothing is changed.
        is_transient: bool,
    },
    /// The runtime's adapter names no image.
    #[error(
        "runtime {runtime} has no container image: choose another runtime, or give its guest an image base"
    )]
    NoImage {
        /// As the workspace's row has it.
        runtime: String,
    },
    /// A file that the adapter plans can't be written as YAML.
    #[error("the adapter of runtime {runtime} plans a file {path} that can't be written as YAML")]
    Yaml {
        /// As the workspace's row has it.
        runtime: String,
        /// Relative to the configuration directory.
        path: String,
    },
}

impl NotReady {
    /// Names of the variables that are missing, if that is why. Answers list them.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        match self {
            Self::MissingEnv(groups) => groups.iter().flatten().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

fn missing_env(groups: &[Vec<String>]) -> String {
    let names: Vec<String> = groups.iter().map(|group| group.join(" or ")).collect();
    match names.as_slice() {
        [name] => format!(
            "missing required env var \"{name}\" — add it under Config → Env Vars (or as a Global secret) and \
             retry"
        ),
        names => format!(
            "missing required env vars {} — add them under Config → Env Vars (or as Global secrets) and retry",
            names.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_variables_are_named_as_the_contract_says() {
        let group = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (groups, text) in [
            (
                vec![group(&["A"])],
                "missing required env var \"A\" — add it under Config → Env Vars (or as a Global secret) and retry",
            ),
            (
                vec![group(&["A", "B"])],
                "missing required env var \"A or B\" — add it under Config → Env Vars (or as a Global secret) \
                 and retry",
            ),
            (
                vec![group(&["A"]), group(&["B"])],
                "missing required env vars A, B — add them under Config → Env Vars (or as Global secrets) and \
                 retry",
            ),
        ] {
            assert_eq!(NotReady::MissingEnv(groups).to_string(), text);
        }
        assert_eq!(NotReady::MissingEnv(vec![group(&["A", "B"]), group(&["C"])]).missing(), ["A", "B", "C"]);
        assert!(NotReady::GlobalSecret.missing().is_empty());
    }
}
