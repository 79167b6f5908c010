//! A container as a backend is to run it.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use types::WorkspaceId;

use crate::settings::TierLimits;

/// A container to be run. Its `Debug` shows no value of a variable and no content of a file: both may be
/// secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The workspace's attempt; the container's label has it, too.
    pub attempt: i32,
    /// See [`container_name`].
    pub name: String,
    /// What is run.
    pub image: Image,
    /// How the container is reached, and what it reaches.
    pub network: Network,
    /// Labels of the container, its configuration volume and the volumes of its adapter.
    pub labels: BTreeMap<String, String>,
    /// Every variable once.
    pub env: BTreeMap<String, String>,
    /// Paths of mounts are distinct.
    pub mounts: Vec<Mount>,
    /// None: no limits.
    pub limits: Option<TierLimits>,
    /// What the container may do to its host.
    pub privileges: Privileges,
    /// Absolute path of the agent's configuration inside the container.
    pub config_dir: String,
    /// What the configuration is made from.
    pub config: ConfigSource,
    /// Files for the configuration directory that are written at every start, after `config`.
    pub files: Vec<ConfigFile>,
}

impl fmt::Debug for ContainerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerSpec")
            .field("workspace", &self.workspace)
            .field("attempt", &self.attempt)
            .field("name", &self.name)
            .field("image", &self.image)
            .field("network", &self.network)
            .field("labels", &self.labels)
            .field("env", &self.env.keys())
            .field("mounts", &self.mounts)
            .field("limits", &self.limits)
            .field("privileges", &self.privileges)
            .field("config_dir", &self.config_dir)
            .field("config", &self.config)
            .field("files", &self.files)
            .finish()
    }
}

/// What a container is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name with tag.
    pub reference: String,
    /// `os/architecture`; none leaves it to the engine.
    pub platform: Option<String>,
    /// How the image gets onto the machine.
    pub origin: ImageOrigin,
}

/// How an image gets onto the machine that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageOrigin {
    /// Pulled at every start, because its tag moves. A pull that fails is no reason not to start what is
    /// there.
    Registry,
    /// Built from the runtime's repository. A build that fails is one.
    LocalBuild,
}

/// How a container is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// In a network of the platform's own, with one port published on the host's loopback address.
    Bridge {
        /// Made where it isn't there.
        name: String,
        /// Host name of the container in that network.
        alias: String,
        /// TCP port on which the agent listens; its port on the host is the engine's choice.
        port: u16,
    },
    /// The host's own network: nothing is published, the agent listens on the host.
    Host {
        /// TCP port on which the agent listens.
        port: u16,
    },
}

/// Something that a container sees in its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A directory that outlives the container.
    Volume {
        /// Deterministic.
        name: String,
        /// Absolute path inside the container.
        path: String,
        /// The volume is emptied before this start.
        reset: bool,
    },
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        source: String,
        /// Absolute path inside the container.
        path: String,
        /// The container can't write.
        read_only: bool,
    },
    /// Memory that looks like a directory.
    Tmpfs {
        /// Absolute path inside the container.
        path: String,
        /// As `mount -o` takes them.
        options: String,
    },
}

impl Mount {
    /// Absolute path inside the container.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Volume { path, .. } | Self::Bind { path, .. } | Self::Tmpfs { path, .. } => path,
        }
    }
}

/// What a container may do to its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privileges {
    /// All capabilities and devices.
    pub privileged: bool,
    /// Sees the host's processes.
    pub host_pid: bool,
    /// Its root file system can't be written.
    pub read_only_root: bool,
}

/// What a configuration directory is filled with before the container starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSource {
    /// A directory on this server's disk, copied over what is there.
    Template(PathBuf),
    /// A file made from the workspace's fields, written over what is there.
    Generated(ConfigFile),
    /// What is there stays. A volume without `config.yaml` gets this directory, if there is one; without
    /// either the workspace can't start.
    Existing {
        /// A directory on this server's disk.
        recovery: Option<PathBuf>,
    },
}

/// A file to write below the configuration directory.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Relative, without `..`.
    pub path: String,
    /// Bytes.
    pub content: Vec<u8>,
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigFile({}, {} bytes)", self.path, self.content.len())
    }
}

/// Characters of a workspace's id in the names of what belongs to it.
const SHORT_ID: usize = 12;

/// Name of a workspace's container: `ws-` and the first 12 characters of its id.
#[must_use]
pub fn container_name(workspace: WorkspaceId) -> String {
    let id = workspace.0.hyphenated().to_string();
    format!("ws-{}", id.get(..SHORT_ID).unwrap_or(&id))
}
