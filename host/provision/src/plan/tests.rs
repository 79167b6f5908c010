//! Plans by tables: one field at a time, against one workspace that has everything.

use types::WorkspaceId;
use uuid::Uuid;
use wasm::adapter::{Capabilities, Content, EnvCopy, File, Hosting, Surfaces, Volume};

use super::*;
use crate::{ConfigFile, Privileges};

const ID: WorkspaceId = WorkspaceId(Uuid::from_u128(0x6f1c_7a52_0b7e_4a1e_9a53_0d1f_6f0f_2f11));

fn workspace() -> Workspace<'static> {
    Workspace {
        id: ID,
        attempt: 1,
        name: "Research Lead",
        role: Some("finds things out"),
        tier: 2,
        runtime: "claude-code",
        parent_id: None,
        model: None,
        directory: Directory::Volume,
    }
}

fn description() -> Description {
    Description {
        name: "claude-code".to_owned(),
        aliases: Vec::new(),
        display_name: "Claude Code".to_owned(),
        hosting: Hosting::Container,
        image_base: Some("workspace-template-claude-code".to_owned()),
        default_model: Some("sonnet".to_owned()),
        port: 8000,
        config_dir: "/configs".to_owned(),
        remote_config_dir: "/configs".to_owned(),
        template_dirs: Vec::new(),
        memory_file: None,
        volumes: vec![Volume {
            name: "claude-sessions".to_owned(),
            path: "/root/.claude/sessions".to_owned(),
            reset_group: Some("session".to_owned()),
        }],
        provision_timeout_seconds: None,
        reply_pause_ms: 0,
        transcripts: false,
        translates_messages: false,
        capabilities: Capabilities::default(),
        surfaces: Surfaces::default(),
    }
}

fn empty_plan() -> Plan {
    Plan {
        env: Vec::new(),
        env_copies: Vec::new(),
        files: Vec::new(),
        provider: None,
        required_env: Vec::new(),
        reset_groups: Vec::new(),
    }
}

fn secrets(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A start whose parts a test changes one by one.
struct Start<'a> {
    workspace: Workspace<'static>,
    description: Description,
    plan: Plan,
    secrets: BTreeMap<String, String>,
    settings: Settings,
    template: Option<RuntimeTemplate<'a>>,
}

impl Default for Start<'_> {
    fn default() -> Self {
        Self {
            workspace: workspace(),
            description: description(),
            plan: empty_plan(),
            secrets: BTreeMap::new(),
            settings: Settings::default(),
            template: None,
        }
    }
}

impl Start<'_> {
    fn request(&self) -> Request<'_> {
        Request {
            workspace: self.workspace,
            template: self.template,
            secrets: &self.secrets,
            settings: &self.settings,
        }
    }

    fn plan(&self) -> Result<ContainerSpec, NotReady> {
        plan(&self.request(), &Runtime { description: &self.description, plan: &self.plan })
    }

    fn spec(&self) -> ContainerSpec {
        self.plan().unwrap()
    }

    fn tier(tier: i32) -> ContainerSpec {
        Self { workspace: Workspace { tier, ..workspace() }, ..Self::default() }.spec()
    }
}

fn volume(name: &str, path: &str, reset: bool) -> Mount {
    Mount::Volume { name: name.to_owned(), path: path.to_owned(), reset }
}

fn bind(source: &str, path: &str, read_only: bool) -> Mount {
    Mount::Bind { source: source.to_owned(), path: path.to_owned(), read_only }
}

#[test]
fn names_and_labels_come_from_the_id_and_the_attempt() {
    let spec = Start { workspace: Workspace { attempt: 7, ..workspace() }, ..Start::default() }.spec();
    assert_eq!((spec.workspace, spec.attempt, spec.name.as_str()), (ID, 7, "ws-6f1c7a52-0b7"));
    let labels = secrets(&[
        ("molecule.platform.managed", "true"),
        ("isomer.workspace", "6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11"),
        ("isomer.attempt", "7"),
    ]);
    assert_eq!(spec.labels, labels);
    assert_eq!(spec, Start { workspace: Workspace { attempt: 7, ..workspace() }, ..Start::default() }.spec());
}

#[test]
fn tiers_by_table() {
    let config = volume("ws-6f1c7a52-0b7-configs", "/configs", false);
    let files = volume("ws-6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11-workspace", "/workspace", false);
    let session = volume("ws-6f1c7a52-0b7-claude-sessions", "/root/.claude/sessions", false);
    let tmp = Mount::Tmpfs { path: "/tmp".to_owned(), options: "rw,noexec,nosuid,size=64m".to_owned() };
    let socket = bind("/var/run/docker.sock", "/var/run/docker.sock", false);
    let usual = vec![config.clone(), files, session];
    let mib = |mib: u64| mib * 1024 * 1024;
    let cpus = |cpus: u64| cpus * 1_000_000_000;
    let root = Privileges { privileged: true, host_pid: true, read_only_root: false };
    let read_only = Privileges { read_only_root: true, ..Privileges::default() };
    for (tier, mounts, limits, privileges) in [
        (1, vec![config, tmp], None, read_only),
        (2, usual.clone(), Some((mib(512), cpus(1))), Privileges::default()),
        (3, usual.clone(), Some((mib(2_048), cpus(2))), root),
        (4, [usual.clone(), vec![socket]].concat(), Some((mib(4_096), cpus(4))), root),
        (9, usual, Some((mib(512), cpus(1))), Privileges::default()),
    ] {
        let spec = Start::tier(tier);
        assert_eq!(spec.mounts, mounts, "{tier}");
        assert_eq!(spec.limits.map(|limits| (limits.memory_bytes, limits.nano_cpus)), limits, "{tier}");
        assert_eq!(spec.privileges, privileges, "{tier}");
        assert_eq!(spec.env["TIER"], tier.to_string());
    }
}

#[test]
fn only_tier_4_is_in_the_hosts_network() {
    for tier in 1..=3 {
        let (name, alias) = ("molecule-core-net".to_owned(), "ws-6f1c7a52-0b7".to_owned());
        assert_eq!(Start::tier(tier).network, Network::Bridge { name, alias, port: 8000 });
    }
    assert_eq!(Start::tier(4).network, Network::Host { port: 8000 });
}

#[test]
fn the_workspaces_directory_by_table() {
    let isolated = volume("ws-6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11-workspace", "/workspace", false);
    for (directory, mount) in [
        (Directory::Volume, isolated),
        (Directory::Host { path: "/srv/a", read_only: false }, bind("/srv/a", "/workspace", false)),
        (Directory::Host { path: "/srv/a", read_only: true }, bind("/srv/a", "/workspace", true)),
    ] {
        let spec = Start { workspace: Workspace { directory, ..workspace() }, ..Start::default() }.spec();
        assert_eq!(spec.mounts[1], mount);
    }
}

#[test]
fn a_planned_group_resets_its_volumes_and_no_others() {
    let mut start = Start::default();
    start.description.volumes.push(Volume {
        name: "cache".to_owned(),
        path: "/root/.cache".to_owned(),
        reset_group: None,
    });
    start.plan.reset_groups = vec!["session".to_owned(), "unknown".to_owned()];
    let resets: Vec<_> = start
        .spec()
        .mounts
        .iter()
        .filter_map(|mount| match mount {
            Mount::Volume { name, reset: true, .. } => Some(name.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(resets, ["ws-6f1c7a52-0b7-claude-sessions"]);
}

#[test]
fn an_adapters_volume_never_replaces_the_platforms() {
    let mut start = Start::default();
    for path in ["/configs", "/workspace/", "/root/.claude/sessions"] {
        let (name, path) = ("mine".to_owned(), path.to_owned());
        start.description.volumes.push(Volume { name, path, reset_group: None });
    }
    assert_eq!(start.spec().mounts, Start::default().spec().mounts);
}

#[test]
fn images_by_table() {
    let base = "workspace-template-claude-code";
    for (registry, reference, origin) in [
        (Some("ghcr.io/org"), "ghcr.io/org/workspace-template-claude-code:latest", ImageOrigin::Registry),
        (None, "molecule-local/workspace-template-claude-code:latest", ImageOrigin::LocalBuild),
    ] {
        let mut start = Start::default();
        start.settings.registry = registry.map(str::to_owned);
        start.settings.image_platform = Some("linux/amd64".to_owned());
        let platform = Some("linux/amd64".to_owned());
        assert_eq!(start.spec().image, Image { reference: reference.to_owned(), platform, origin });
        assert!(start.spec().image.reference.contains(base));
    }
    for image_base in [None, Some(String::new())] {
        let description = Description { image_base, ..description() };
        let not_ready = Start { description, ..Start::default() }.plan().unwrap_err();
        assert_eq!(not_ready, NotReady::NoImage { runtime: "claude-code".to_owned() });
    }
}

#[test]
fn a_bare_workspaces_variables() {
    let expected = secrets(&[
        ("GIT_AUTHOR_EMAIL", "research-lead@agents.invalid"),
        ("GIT_AUTHOR_NAME", "Molecule AI Research Lead"),
        ("GIT_COMMITTER_EMAIL", "research-lead@agents.invalid"),
        ("GIT_COMMITTER_NAME", "Molecule AI Research Lead"),
        ("MOLECULE_AGENT_ROLE", "finds things out"),
        ("MOLECULE_URL", "http://host.docker.internal:8080"),
        ("PLATFORM_URL", "http://host.docker.internal:8080"),
        ("PLUGINS_DIR", "/plugins"),
        ("PYTHONPATH", "/app"),
        ("TIER", "2"),
        ("WORKSPACE_CONFIG_PATH", "/configs"),
        ("WORKSPACE_ID", "6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11"),
    ]);
    assert_eq!(Start::default().spec().env, expected);
}

#[test]
fn precedence_of_variables_by_table() {
    // Each row: a variable, what a secret says of it, what the adapter plans, and what the agent gets.
    for (name, secret, planned, expected) in [
        ("PYTHONPATH", Some("/mine"), None, Some("/mine")),
        ("PLUGINS_DIR", Some("/mine"), None, Some("/mine")),
        ("GIT_AUTHOR_NAME", Some("me"), None, Some("me")),
        ("GIT_AUTHOR_NAME", Some(""), None, Some("")),
        ("KEY", Some("secret"), Some("planned"), Some("planned")),
        ("MODEL", Some("secret"), Some("planned"), Some("planned")),
        ("MODEL", Some("secret"), None, Some("secret")),
        ("MOLECULE_AGENT_ROLE", Some("secret"), Some("planned"), Some("finds things out")),
        ("WORKSPACE_ID", Some("secret"), Some("planned"), Some("6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11")),
        ("WORKSPACE_CONFIG_PATH", Some("secret"), None, Some("/configs")),
        ("PLATFORM_URL", Some("secret"), None, Some("http://host.docker.internal:8080")),
        ("MOLECULE_URL", Some("secret"), None, Some("http://host.docker.internal:8080")),
        ("TIER", Some("4"), None, Some("2")),
        ("AWARENESS_URL", Some("secret"), None, None),
        ("LD_PRELOAD", Some("/workspace/x.so"), None, None),
        ("NODE_OPTIONS", Some("--require=/workspace/x"), None, None),
    ] {
        let mut start = Start::default();
        start.secrets.extend(secret.map(|value| (name.to_owned(), value.to_owned())));
        let set = |value: &str| EnvSet { name: name.to_owned(), value: value.to_owned() };
        start.plan.env.extend(planned.map(set));
        assert_eq!(start.spec().env.get(name).map(String::as_str), expected, "{name}");
    }
    let mut start = Start::default();
    start.workspace.parent_id = Some(ID);
    start.settings.awareness_url = Some("http://awareness".to_owned());
    let env = start.spec().env;
    assert_eq!(env["PARENT_ID"], ID.to_string());
    assert_eq!(env["AWARENESS_NAMESPACE"], format!("workspace:{ID}"));
    assert_eq!(env["AWARENESS_URL"], "http://awareness");
}

#[test]
fn models_by_table() {
    // Attempt, model that the workspace was made with, secrets, what is chosen.
    for (attempt, made_with, known, expected) in [
        (1, None, &[][..], None),
        (1, Some("made"), &[("MODEL", "m"), ("MODEL_PROVIDER", "p")], Some("made")),
        (1, Some(""), &[("MODEL", "m")], Some("m")),
        (2, Some("made"), &[("MODEL", "m"), ("MODEL_PROVIDER", "p")], Some("m")),
        (2, Some("made"), &[("MODEL", ""), ("MODEL_PROVIDER", "p")], Some("p")),
        (2, Some("made"), &[], None),
    ] {
        let workspace = Workspace { attempt, model: made_with, ..workspace() };
        let start = Start { workspace, secrets: secrets(known), ..Start::default() };
        let env = start.spec().env;
        let model = env.get("MODEL").map(String::as_str).filter(|model| !model.is_empty());
        assert_eq!(model, expected, "{attempt} {made_with:?} {known:?}");
        assert_eq!(start.request().for_adapter().model.as_deref(), expected);
    }
}

#[test]
fn secrets_are_copied_where_their_second_name_is_free() {
    let mut start = Start { secrets: secrets(&[("A", "1"), ("B", "2")]), ..Start::default() };
    for (source, target) in [("A", "SECOND"), ("A", "B"), ("MISSING", "THIRD")] {
        start.plan.env_copies.push(EnvCopy { source: source.to_owned(), target: target.to_owned() });
    }
    let env = start.spec().env;
    assert_eq!((env["SECOND"].as_str(), env["B"].as_str(), env.get("THIRD")), ("1", "2", None));
}

#[test]
fn required_variables_by_table() {
    let group = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let groups = vec![group(&["A", "B"]), group(&["C"]), Vec::new()];
    for (known, missing) in [
        (&[("A", "1"), ("C", "1")][..], None),
        (&[("B", "1"), ("C", "1")], None),
        (&[("A", ""), ("C", "1")], Some(vec![group(&["A", "B"])])),
        (&[("A", "1")], Some(vec![group(&["C"])])),
        (&[], Some(vec![group(&["A", "B"]), group(&["C"])])),
    ] {
        let mut start = Start { secrets: secrets(known), ..Start::default() };
        start.plan.required_env.clone_from(&groups);
        assert_eq!(start.plan().err(), missing.map(NotReady::MissingEnv), "{known:?}");
    }
    // What the adapter itself sets or copies counts.
    let mut start = Start { secrets: secrets(&[("A", "1")]), ..Start::default() };
    start.plan.required_env = vec![group(&["C"]), group(&["MODEL"])];
    start.plan.env_copies = vec![EnvCopy { source: "A".to_owned(), target: "C".to_owned() }];
    start.plan.env = vec![EnvSet { name: "MODEL".to_owned(), value: "m".to_owned() }];
    assert!(start.plan().is_ok());
}

#[test]
fn configuration_sources_by_table() {
    let directory = Path::new("/templates/claude-code-default");
    let names = ["KEY".to_owned()];
    let template = Some(RuntimeTemplate { directory, required_env: &names, config: Some(b"name: x\n") });
    let known = secrets(&[("KEY", "1")]);
    let start = |attempt, template| Start {
        workspace: Workspace { attempt, ..workspace() },
        template,
        secrets: known.clone(),
        ..Start::default()
    };
    assert_eq!(start(1, template).spec().config, ConfigSource::Template(directory.to_owned()));
    assert_eq!(
        start(2, template).spec().config,
        ConfigSource::Existing { recovery: Some(directory.to_owned()) }
    );
    assert_eq!(start(2, None).spec().config, ConfigSource::Existing { recovery: None });
    assert_eq!(
        start(1, template).request().for_adapter().template_config.as_deref(),
        Some(&b"name: x\n"[..])
    );
    // What the template asks for is asked for when the workspace is made from it.
    let bare = |attempt| Start { secrets: BTreeMap::new(), ..start(attempt, template) }.plan();
    assert_eq!(bare(1).unwrap_err(), NotReady::MissingEnv(vec![vec!["KEY".to_owned()]]));
    assert!(bare(2).is_ok());
    let ConfigSource::Generated(ConfigFile { path, content }) = start(1, None).spec().config else {
        panic!("a workspace without a template gets a generated configuration");
    };
    assert_eq!(path, "config.yaml");
    assert_eq!(
        String::from_utf8(content).unwrap(),
        "name: \"Research Lead\"\ndescription: \"finds things out\"\nversion: \"1.0.0\"\ntier: 2\n\
         runtime: \"claude-code\"\nmodel: \"sonnet\"\nruntime_config:\n  timeout: 0\n"
    );
}

#[test]
fn planned_files_are_written_at_every_start() {
    for attempt in [1, 2] {
        let mut start = Start { workspace: Workspace { attempt, ..workspace() }, ..Start::default() };
        let content = Content::Bytes(b"x".to_vec());
        start.plan.files = vec![File { path: "a/b".to_owned(), content }];
        assert_eq!(start.spec().files, [ConfigFile { path: "a/b".to_owned(), content: b"x".to_vec() }]);
    }
}

#[test]
fn an_adapter_sees_names_of_secrets_and_four_values() {
    let known = [("API_KEY", "hidden"), ("LLM_PROVIDER", "openai"), ("WORKSPACE_RESET_SESSION", "true")];
    let start = Start { secrets: secrets(&known), ..Start::default() };
    let request = start.request().for_adapter();
    assert_eq!(request.secret_keys, ["API_KEY", "LLM_PROVIDER", "WORKSPACE_RESET_SESSION"]);
    let visible: Vec<_> =
        request.visible_env.iter().map(|set| (set.name.as_str(), set.value.as_str())).collect();
    assert_eq!(visible, [("LLM_PROVIDER", "openai"), ("WORKSPACE_RESET_SESSION", "true")]);
    assert_eq!((request.phase, request.tier), (Phase::Create, 2));
    assert!(!format!("{request:?}").contains("hidden"));
    let later = Start { workspace: Workspace { attempt: 2, ..workspace() }, ..Start::default() };
    assert_eq!(later.request().for_adapter().phase, Phase::Restart);
}

#[test]
fn secrets_do_not_appear_where_a_container_is_logged() {
    let mut start = Start { secrets: secrets(&[("API_KEY", "hidden")]), ..Start::default() };
    let content = Content::Bytes(b"hidden".to_vec());
    start.plan.files = vec![File { path: "a".to_owned(), content }];
    let shown = format!("{:?}", start.spec());
    assert!(shown.contains("API_KEY") && !shown.contains("hidden"), "{shown}");
}
