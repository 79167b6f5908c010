//! The variables of a container, lowest precedence first: what an image expects, secrets (the workspace's
//! own over those of all), the Git identity where nothing else says one, the model, what the adapter
//! plans, role and parent, and last the platform's own, which nothing replaces.

use std::collections::BTreeMap;

use wasm::adapter::Plan;

use crate::{Settings, workspace::Workspace};

/// The few variables whose values an adapter may see.
pub const VISIBLE_ENV: [&str; 4] = ["MODEL", "MODEL_PROVIDER", "LLM_PROVIDER", "WORKSPACE_RESET_SESSION"];

/// The model of a start: on the first attempt the one that the workspace was made with, else what the
/// secrets say. Those follow later choices.
#[must_use]
pub fn chosen_model(workspace: &Workspace<'_>, secrets: &BTreeMap<String, String>) -> Option<String> {
    let created_with = workspace.model.filter(|_| workspace.is_first_attempt());
    let secret = |name: &str| secrets.get(name).map(String::as_str);
    [created_with, secret("MODEL"), secret("MODEL_PROVIDER")]
        .into_iter()
        .flatten()
        .find(|model| !model.is_empty())
        .map(str::to_owned)
}

pub(crate) fn variables(
    workspace: &Workspace<'_>,
    plan: &Plan,
    config_dir: &str,
    secrets: &BTreeMap<String, String>,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        env.insert(name.to_owned(), value.to_owned());
    };
    set("PLUGINS_DIR", "/plugins");
    set("PYTHONPATH", "/app");
    secrets.iter().filter(|(name, _)| !is_ignored_secret(name)).for_each(|(name, value)| set(name, value));
    for (name, value) in git_identity(workspace.name, settings) {
        if !secrets.contains_key(name) {
            set(name, &value);
        }
    }
    if let Some(model) = chosen_model(workspace, secrets) {
        set("MODEL", &model);
    }
    for copy in &plan.env_copies {
        // A secret of that name was set explicitly, so it takes precedence over the copy.
        if let Some(value) = secrets.get(&copy.source).filter(|_| !secrets.contains_key(&copy.target)) {
            set(&copy.target, value);
        }
    }
    plan.env.iter().for_each(|planned| set(&planned.name, &planned.value));
    if let Some(role) = workspace.role.filter(|role| !role.is_empty()) {
        set("MOLECULE_AGENT_ROLE", role);
    }
    if let Some(parent) = workspace.parent_id {
        set("PARENT_ID", &parent.to_string());
    }
    set("WORKSPACE_ID", &workspace.id.to_string());
    set("WORKSPACE_CONFIG_PATH", config_dir);
    set("PLATFORM_URL", &settings.platform_url);
    set("MOLECULE_URL", &settings.platform_url);
    set("TIER", &workspace.tier.to_string());
    match &settings.awareness_url {
        Some(url) => {
            set("AWARENESS_NAMESPACE", &format!("workspace:{}", workspace.id));
            set("AWARENESS_URL", url);
        }
        None => env.retain(|name, _| !name.starts_with("AWARENESS_")),
    }
    env
}

/// Whether a secret of this name has no effect. None is accepted any more, but one may have been stored before.
#[must_use]
pub fn is_ignored_secret(name: &str) -> bool {
    // By the contract these two take precedence over the platform's.
    types::is_reserved_env(name) && !matches!(name, "PLUGINS_DIR" | "PYTHONPATH")
}

/// The author of an agent's git commits. Empty for a workspace without a name.
fn git_identity(workspace: &str, settings: &Settings) -> Vec<(&'static str, String)> {
    let slug = slug(workspace);
    if slug.is_empty() {
        return Vec::new();
    }
    let name = format!("{} {workspace}", settings.git_brand);
    let mail = format!("{slug}@{}", settings.git_domain);
    vec![
        ("GIT_AUTHOR_NAME", name.clone()),
        ("GIT_COMMITTER_NAME", name),
        ("GIT_AUTHOR_EMAIL", mail.clone()),
        ("GIT_COMMITTER_EMAIL", mail),
    ]
}

/// Lower case; each run of other characters than letters and digits is one hyphen, none at the ends.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_by_table() {
        for (name, expected) in [
            ("Research Lead", "research-lead"),
            ("  a--b  ", "a-b"),
            ("PM (2)", "pm-2"),
            ("Ünïcode 9", "n-code-9"),
            ("???", ""),
            ("", ""),
        ] {
            assert_eq!(slug(name), expected, "{name:?}");
        }
    }
}
