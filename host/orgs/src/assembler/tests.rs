//! The assembler with files on disk.

use std::{fs, time::Duration};

use fleet::{Adapter, RuntimeInfo};

use super::*;
use crate::{
    fields::Marks,
    template::{Defaults, Prompt, Prompts, Schedule},
};

/// Runtimes of the first-party guests that the tests need.
struct KnownRuntimes;

#[async_trait::async_trait]
impl Runtimes for KnownRuntimes {
    fn sanitize(&self, runtime: &str) -> String {
        let known = ["claude-code", "langgraph", "hermes", "mock"];
        if known.contains(&runtime) { runtime } else { "claude-code" }.to_owned()
    }

    fn info(&self, runtime: &str) -> RuntimeInfo {
        RuntimeInfo {
            hosting: if runtime == "mock" { Hosting::Synthetic } else { Hosting::Container },
            default_model: (runtime == "claude-code").then(|| "sonnet".to_owned()),
            provision_timeout: None::<Duration>,
            self_reports_health: false,
        }
    }

    async fn adapter(&self, _: &str, _: Option<WorkspaceId>) -> Box<dyn Adapter> {
        unreachable!("a template is assembled without plans")
    }
}

/// A template in a directory with personas beside it.
struct Fixture {
    dir: tempfile::TempDir,
    org: Org,
    globals: HashSet<String>,
}

impl Fixture {
    fn new(nodes: Vec<Node>, defaults: Defaults) -> Self {
        let org = Org { name: "T".to_owned(), defaults, workspaces: nodes, ..Org::default() };
        Self { dir: tempfile::tempdir().unwrap(), org, globals: HashSet::new() }
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn assemble(&self) -> Assembly {
        self.try_assemble(32 << 20).unwrap()
    }

    fn try_assemble(&self, setup_bytes: usize) -> Result<Assembly, InvalidValue> {
        let root = self.dir.path().join("t");
        fs::create_dir_all(&root).unwrap();
        let containment_root = fs::canonicalize(self.dir.path()).unwrap();
        let files = Files::directory(root, containment_root);
        let assembler = Assembler {
            org: &self.org,
            dir: "t",
            files: &files,
            runtimes: &KnownRuntimes,
            default_tier: 3,
            globals: &self.globals,
            personas: &self.dir.path().join("personas"),
            variables: &ServerVariables::default(),
            host: &HostDirectories::default(),
            mail_domain: "agents.invalid",
            setup_bytes,
            crons: RefCell::default(),
            seal: &|_| Some(SealedText { sealed: "sealed".to_owned(), version: 1 }),
        };
        assembler.assemble()
    }

    fn only(&self) -> ResolvedNode {
        let mut found = self.assemble();
        assert_eq!((found.error, found.nodes.len()), (None, 1));
        found.nodes.remove(0)
    }
}

fn named(name: &str) -> Node {
    Node { name: name.to_owned(), ..Node::default() }
}

#[test]
fn runtime_and_hosting_follow_the_template() {
    for (own, default, external, runtime, hosting) in [
        ("", "", false, "langgraph", Hosting::Container),
        ("", "hermes", false, "hermes", Hosting::Container),
        ("claude-code", "hermes", false, "claude-code", Hosting::Container),
        ("unknown", "", false, "claude-code", Hosting::Container),
        (" Mock ", "", false, "mock", Hosting::Synthetic),
        ("external", "", false, "external", Hosting::Operator),
        ("mock", "", true, "external", Hosting::Operator),
    ] {
        let node = Node { runtime: own.to_owned(), external, ..named("A") };
        let defaults = Defaults { runtime: default.to_owned(), ..Defaults::default() };
        let node = Fixture::new(vec![node], defaults).only();
        assert_eq!((node.runtime.as_str(), node.hosting), (runtime, hosting), "{own:?}");
    }
}

#[test]
fn later_layers_of_variables_win_and_only_containers_have_any() {
    let node = Node { files_dir: "teams/lead".to_owned(), ..named("A") };
    let fixture =
        Fixture::new(vec![node.clone(), Node { runtime: "mock".to_owned(), ..node }], Defaults::default());
    fixture.file("personas/lead/env", "A=persona\nB=persona\nC=persona\nPATH=/evil");
    fixture.file("t/.env", "B=org\nC=org");
    fixture.file("t/teams/lead/.env", "C=own\nPATH=/evil");
    let found = fixture.assemble();
    let secrets: Vec<(&str, &str)> =
        found.nodes[0].secrets.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(secrets, [("A", "persona"), ("B", "org"), ("C", "own")]);
    assert!(found.nodes[1].secrets.is_empty());
}

#[test]
fn directories_outside_of_the_template_have_no_variables() {
    for files_dir in ["../other", "/etc", "a/../../other"] {
        let fixture =
            Fixture::new(vec![Node { files_dir: files_dir.to_owned(), ..named("A") }], Defaults::default());
        fixture.file("other/.env", "A=1");
        let node = fixture.only();
        assert!(node.secrets.is_empty(), "{files_dir}");
    }
}

#[test]
fn a_default_model_is_used_only_where_nothing_else_names_one() {
    let model = |fixture: &Fixture| fixture.only().spec.model;
    let fixture =
        Fixture::new(vec![Node { runtime: "claude-code".to_owned(), ..named("A") }], Defaults::default());
    assert_eq!(model(&fixture).as_deref(), Some("sonnet"));
    let neither = Fixture::new(vec![named("A")], Defaults::default());
    assert_eq!(model(&neither).as_deref(), Some(types::defaults::MODEL));
    fixture.file("t/.env", "MODEL=own");
    assert_eq!(model(&fixture), None);
    let mut fixture = Fixture::new(vec![named("A")], Defaults::default());
    fixture.globals.insert("MODEL".to_owned());
    assert_eq!(model(&fixture), None);
    fixture.org.defaults.model = "default".to_owned();
    assert_eq!(model(&fixture).as_deref(), Some("default"));
    fixture.org.workspaces[0].model = "node".to_owned();
    assert_eq!(model(&fixture).as_deref(), Some("node"));
}

#[test]
fn prompts_of_the_node_win_over_those_of_the_defaults() {
    let prompt = |text: &str, file: &str| Prompt { text: text.into(), file: file.to_owned() };
    for (own, default, expected) in [
        (prompt("own", "own.md"), prompt("default", ""), Some("own")),
        (prompt("", "own.md"), prompt("default", ""), Some("file of the node")),
        (prompt("", "none.md"), prompt("default", "default.md"), Some("default")),
        (prompt("", ""), prompt("", "default.md"), Some("file of\nthe template")),
        (prompt("", "../../x.md"), prompt("", ""), None),
        (prompt("", ""), prompt("", ""), None),
    ] {
        let prompts = |initial: &Prompt| Prompts { initial: initial.clone(), ..Prompts::default() };
        let node = Node { files_dir: "a".to_owned(), prompts: prompts(&own), ..named("A") };
        let fixture =
            Fixture::new(vec![node], Defaults { prompts: prompts(&default), ..Defaults::default() });
        fixture.file("t/a/own.md", "\nfile of the node\n\n");
        fixture.file("t/default.md", "file of  \nthe template");
        fixture.file("x.md", "secret");
        let setup = fixture.only().setup;
        assert_eq!(setup.initial_prompt.as_deref(), expected, "{own:?}");
    }
}

#[test]
fn an_invalid_node_ends_the_tree_in_depth_first_order() {
    let bad = Node { workspace_dir: "x".to_owned(), ..named("Bad") };
    let tree = Node {
        children: vec![named("B"), Node { children: vec![bad], ..named("C") }, named("D")],
        ..named("A")
    };
    let found = Fixture::new(vec![tree, named("E")], Defaults::default()).assemble();
    assert_eq!(found.nodes.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["A", "B", "C"]);
    let error = found.error.map(|error| error.message);
    assert_eq!(error.as_deref(), Some("workspace Bad: workspace_dir must be an absolute path"));
}

#[test]
fn schedules_that_can_not_run_are_left_out_and_noted() {
    let schedule = |cron: &str, timezone: &str, prompt: &str, file: &str| Schedule {
        name: "s".to_owned(),
        cron_expr: cron.to_owned(),
        timezone: timezone.to_owned(),
        prompt: prompt.into(),
        prompt_file: file.to_owned(),
        enabled: true,
        marks: Marks::default(),
    };
    let schedules = vec![
        schedule("0 9 * * 1", "UTC", "go", ""),
        schedule("0 9 * *", "UTC", "go", ""),
        schedule("0 9 30 2 *", "UTC", "go", ""),
        schedule("0 9 * * 1", "Europe/Berln", "go", ""),
        schedule("0 9 * * 1", "UTC", "", "none.md"),
        schedule("0 9 * * 1", "UTC", "", "S.md"),
        schedule("0 9 * * 1", "UTC", "", "s.md"),
    ];
    let fixture = Fixture::new(vec![Node { schedules, ..named("A") }], Defaults::default());
    fixture.file("t/s.md", "from a file\n");
    let found = fixture.assemble();
    let prompts: Vec<&str> = found.nodes[0].setup.schedules.iter().map(|it| &*it.prompt).collect();
    assert_eq!(prompts, ["go", "from a file\n"]);
    let notes: Vec<String> = found.notes.sentences().collect();
    for (note, part) in notes.iter().zip([
        "the schedule `s` of A is left out: `0 9 * *` is no cron expression: it needs five fields",
        "never matches a date",
        "`Europe/Berln` is no time zone",
        "prompt_file `none.md` is not used: missing file",
        "it has no prompt",
        "missing file; `s.md` differs only in case",
        "it has no prompt",
    ]) {
        assert!(note.contains(part), "{part}: {notes:?}");
    }
    assert_eq!(notes.len(), 7);
}

#[test]
fn a_text_that_workspaces_share_counts_once_and_what_is_too_much_is_refused() {
    let prompts = Prompts {
        initial: Prompt { text: "x".repeat(1 << 20).into(), file: String::new() },
        ..Prompts::default()
    };
    let memories = vec![InitialMemory { content: "y".repeat(2 << 20).into(), scope: String::new() }];
    let defaults = Defaults { prompts: prompts.clone(), initial_memories: memories, ..Defaults::default() };
    let nodes = |count: usize| (0..count).map(|number| named(&format!("N{number}"))).collect::<Vec<_>>();
    let fixture = Fixture::new(nodes(500), defaults);
    let found = fixture.try_assemble(2 << 20).unwrap();
    let digests: HashSet<String> = found
        .nodes
        .iter()
        .map(|node| node.setup.initial_prompt.as_ref().unwrap().digest().to_owned())
        .collect();
    assert_eq!((found.nodes.len(), digests.len()), (500, 1));

    let mut own = nodes(5);
    for (number, node) in own.iter_mut().enumerate() {
        node.system_prompt = format!("{number}{}", "z".repeat(number << 20)).into();
    }
    let fixture = Fixture::new(own, Defaults::default());
    let error = fixture.try_assemble((3 << 20) + 1_000).unwrap_err();
    let parts = ["up to N3 have 6 MiB", "3 MiB are allowed", "N3 (3 MiB), N2 (2 MiB), N1 (1 MiB)"];
    for part in parts {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    // Variables are sealed for each workspace, so they count for each.
    let fixture = Fixture::new(nodes(5), Defaults::default());
    fixture.file("t/.env", &format!("A={}", "x".repeat(1 << 19)));
    assert!(fixture.try_assemble(2 << 20).unwrap_err().message.contains("up to N3"));
}

#[test]
fn models_and_runtimes_of_the_defaults_are_checked_too() {
    let long = "x".repeat(MODEL_BYTES + 1);
    for (defaults, field) in [
        (Defaults { model: long.clone(), ..Defaults::default() }, "model"),
        (Defaults { runtime: "a\nb".to_owned(), ..Defaults::default() }, "runtime"),
    ] {
        let found = Fixture::new(vec![named("A")], defaults).assemble();
        let error = found.error.map(|error| error.message);
        assert_eq!((error, found.nodes.len()), (Some(format!("workspace A: invalid {field}")), 0));
    }
}

#[test]
fn files_with_credentials_are_no_prompts() {
    let prompts =
        Prompts { initial: Prompt { file: ".env".to_owned(), ..Prompt::default() }, ..Prompts::default() };
    let fixture = Fixture::new(vec![Node { prompts, ..named("A") }], Defaults::default());
    fixture.file("t/.env", "TOKEN=secret");
    assert_eq!(fixture.only().setup.initial_prompt, None);
}
