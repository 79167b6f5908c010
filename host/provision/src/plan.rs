//! The plan of a start.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use wasm::adapter::{Description, EnvSet, Phase, Plan, PlanRequest};

use crate::{
    ConfigSource, ContainerSpec, Image, ImageOrigin, Mount, Network, NotReady, Settings, config,
    env::{self, VISIBLE_ENV, chosen_model},
    spec::container_name,
    tier::tier,
    workspace::{Directory, Workspace},
};

#[cfg(test)]
mod tests;

/// Where a workspace's files are, inside its container.
const WORKSPACE_PATH: &str = "/workspace";

/// The engine's socket, which only tier 4 sees.
const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// A runtime template as far as a start needs it.
#[derive(Debug, Clone, Copy)]
pub struct RuntimeTemplate<'a> {
    /// Directory on this server's disk, without symlinks.
    pub directory: &'a Path,
    /// Variables that its `config.yaml` asks for.
    pub required_env: &'a [String],
    /// Its `config.yaml`, where it has one.
    pub config: Option<&'a [u8]>,
}

/// What a start is planned from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The workspace to be started.
    pub workspace: Workspace<'a>,
    /// On the first attempt the template that it is made from; later the one that fills an empty volume.
    pub template: Option<RuntimeTemplate<'a>>,
    /// Secrets by name, opened; the workspace's own have replaced those of all.
    pub secrets: &'a BTreeMap<String, String>,
    /// Of the deployment.
    pub settings: &'a Settings,
}

impl Request<'_> {
    /// What the runtime's adapter is asked. Of secrets it sees the names, and four values.
    #[must_use]
    pub fn for_adapter(&self) -> PlanRequest {
        let workspace = &self.workspace;
        let visible = VISIBLE_ENV.iter().filter_map(|name| {
            let value = self.secrets.get(*name)?.clone();
            Some(EnvSet { name: (*name).to_owned(), value })
        });
        PlanRequest {
            phase: if workspace.is_first_attempt() { Phase::Create } else { Phase::Restart },
            // Until a restart can ask for a fresh session, only the variable does.
            reset_session: false,
            runtime: workspace.runtime.to_owned(),
            workspace_name: workspace.name.to_owned(),
            role: workspace.role.map(str::to_owned),
            tier: u8::try_from(workspace.tier).unwrap_or(2),
            model: chosen_model(workspace, self.secrets),
            secret_keys: self.secrets.keys().cloned().collect(),
            visible_env: visible.collect(),
            template_config: self.template.and_then(|template| template.config.map(<[u8]>::to_vec)),
            extras: serde_json::Map::new(),
        }
    }
}

/// What an adapter says of a runtime and of one start.
#[derive(Debug, Clone, Copy)]
pub struct Runtime<'a> {
    /// What the runtime is.
    pub description: &'a Description,
    /// What this start needs. Its provider is a secret since the workspace was made.
    pub plan: &'a Plan,
}

/// Plans a start.
///
/// # Errors
/// If the workspace lacks something, in words for its operator.
pub fn plan(request: &Request<'_>, runtime: &Runtime<'_>) -> Result<ContainerSpec, NotReady> {
    let Request { workspace, template, secrets, settings } = request;
    let Runtime { description, plan } = runtime;
    let tier = tier(workspace.tier, settings);
    let name = container_name(workspace.id);
    let env = env::variables(workspace, plan, &description.config_dir, secrets, settings);
    require(plan, template.filter(|_| workspace.is_first_attempt()), &env)?;
    let files = plan.files.iter().map(|file| config::planned(file, workspace.runtime));
    Ok(ContainerSpec {
        workspace: workspace.id,
        attempt: workspace.attempt,
        image: image(workspace, description, settings)?,
        network: if tier.full_host {
            Network::Host { port: description.port }
        } else {
            Network::Bridge { name: settings.network.clone(), alias: name.clone(), port: description.port }
        },
        labels: labels(workspace),
        mounts: mounts(&name, workspace, runtime, tier.config_only, tier.full_host),
        limits: tier.limits,
        privileges: tier.privileges,
        config_dir: description.config_dir.clone(),
        config: config_source(workspace, *template, description, secrets),
        files: files.collect::<Result<_, _>>()?,
        env,
        name,
    })
}

/// Refuses a start that lacks a variable of which the adapter or the template says that it is needed.
fn require(
    plan: &Plan,
    template: Option<RuntimeTemplate<'_>>,
    env: &BTreeMap<String, String>,
) -> Result<(), NotReady> {
    let names = template.map(|template| template.required_env).unwrap_or_default();
    let of_template = names.iter().map(|name| vec![name.clone()]);
    let is_set = |name: &String| env.get(name).is_some_and(|value| !value.is_empty());
    let mut missing: Vec<Vec<String>> = Vec::new();
    for group in plan.required_env.iter().cloned().chain(of_template) {
        if !group.is_empty() && !group.iter().any(is_set) && !missing.contains(&group) {
            missing.push(group);
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(NotReady::MissingEnv(missing)) }
}

fn image(
    workspace: &Workspace<'_>,
    description: &Description,
    settings: &Settings,
) -> Result<Image, NotReady> {
    let base = description.image_base.as_deref().filter(|base| !base.is_empty());
    let base = base.ok_or_else(|| NotReady::NoImage { runtime: workspace.runtime.to_owned() })?;
    let (prefix, origin) = match &settings.registry {
        Some(registry) => (registry.as_str(), ImageOrigin::Registry),
        None => ("molecule-local", ImageOrigin::LocalBuild),
    };
    Ok(Image {
        reference: format!("{prefix}/{base}:latest"),
        platform: settings.image_platform.clone(),
        origin,
    })
}

fn labels(workspace: &Workspace<'_>) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("molecule.platform.managed".to_owned(), "true".to_owned()),
        ("isomer.workspace".to_owned(), workspace.id.to_string()),
        ("isomer.attempt".to_owned(), workspace.attempt.to_string()),
    ])
}

fn mounts(
    name: &str,
    workspace: &Workspace<'_>,
    runtime: &Runtime<'_>,
    config_only: bool,
    full_host: bool,
) -> Vec<Mount> {
    let Runtime { description, plan } = runtime;
    let volume = |name: String, path: &str, reset| Mount::Volume { name, path: path.to_owned(), reset };
    let config = volume(format!("{name}-configs"), &description.config_dir, false);
    if config_only {
        let options = "rw,noexec,nosuid,size=64m".to_owned();
        return vec![config, Mount::Tmpfs { path: "/tmp".to_owned(), options }];
    }
    let mut mounts = vec![config];
    mounts.push(match workspace.directory {
        // The whole id: two workspaces never share what their agents made.
        Directory::Volume => volume(format!("ws-{}-workspace", workspace.id), WORKSPACE_PATH, false),
        Directory::Host { path, read_only } => {
            Mount::Bind { source: path.to_owned(), path: WORKSPACE_PATH.to_owned(), read_only }
        }
    });
    mounts.extend(description.volumes.iter().map(|of_adapter| {
        let reset = of_adapter.reset_group.as_ref().is_some_and(|group| plan.reset_groups.contains(group));
        volume(format!("{name}-{}", of_adapter.name), &of_adapter.path, reset)
    }));
    if full_host {
        let socket = ENGINE_SOCKET.to_owned();
        mounts.push(Mount::Bind { source: socket.clone(), path: socket, read_only: false });
    }
    // An engine refuses two mounts at one path; an adapter's never replaces the platform's.
    let mut paths = HashSet::new();
    mounts.retain(|mount| paths.insert(mount.path().trim_end_matches('/').to_owned()));
    mounts
}

fn config_source(
    workspace: &Workspace<'_>,
    template: Option<RuntimeTemplate<'_>>,
    description: &Description,
    secrets: &BTreeMap<String, String>,
) -> ConfigSource {
    let directory = template.map(|template| template.directory.to_owned());
    match directory {
        // Without being asked, a start never overwrites what an agent or its operator wrote.
        recovery if !workspace.is_first_attempt() => ConfigSource::Existing { recovery },
        Some(directory) => ConfigSource::Template(directory),
        None => {
            let model = chosen_model(workspace, secrets).or_else(|| description.default_model.clone());
            ConfigSource::Generated(config::generated(workspace, &model.unwrap_or_default()))
        }
    }
}
