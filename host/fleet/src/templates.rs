//! Workspace templates: directories that an operator keeps below one root, each with a `config.yaml`.
//!
//! Clients name a template, and a name must never lead out of the root: not by its spelling, and not
//! through a symlink. What a template's config says are defaults, so a config that can't be read is
//! the same as one that says nothing. Reads files; callers keep it off the async threads.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use serde::Deserialize;

/// Bytes in a `config.yaml` at most. A longer one is not read.
const CONFIG_BYTES: u64 = 1024 * 1024;

const CONFIG: &str = "config.yaml";

/// The templates below one root, or none.
#[derive(Debug)]
pub struct Templates {
    root: Option<PathBuf>,
    /// Seconds that starting takes at most, by runtime. Looked up for every workspace that is listed.
    timeouts: ArcSwap<HashMap<String, u32>>,
}

/// A template, and the defaults that it has for workspaces made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Where it lies: its real path, without symlinks.
    pub directory: PathBuf,
    /// What runs in such workspaces.
    pub runtime: Option<String>,
    /// The language model.
    pub model: Option<String>,
    /// Seconds that starting takes at most.
    pub provision_timeout_seconds: Option<u32>,
}

/// A name that no template can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid template")]
pub struct InvalidTemplate;

/// What we read of a `config.yaml`.
#[derive(Debug, Default, Deserialize)]
struct Config {
    runtime: Option<String>,
    model: Option<String>,
    runtime_config: Option<RuntimeConfig>,
}

#[derive(Debug, Default, Deserialize)]
struct RuntimeConfig {
    model: Option<String>,
    provision_timeout_seconds: Option<i64>,
}

/// Why a config says nothing. For the log only.
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("is not a file of the template root")]
    Outside,
    #[error("is longer than {CONFIG_BYTES} bytes")]
    TooLong,
    #[error("can't be parsed: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

impl Templates {
    /// The templates in `dir`, which need not be there (yet).
    #[must_use]
    pub fn open(dir: Option<PathBuf>) -> Self {
        let templates = Self { root: dir, timeouts: ArcSwap::default() };
        templates.reload();
        templates
    }

    /// Looks again at what templates declare. [`find`](Self::find) needs no reload.
    pub fn reload(&self) {
        let mut timeouts = HashMap::new();
        for template in self.all() {
            if let (Some(runtime), Some(seconds)) = (template.runtime, template.provision_timeout_seconds) {
                let longest = timeouts.entry(runtime).or_insert(seconds);
                *longest = seconds.max(*longest);
            }
        }
        self.timeouts.store(Arc::new(timeouts));
    }

    /// The template with that name, if there is one.
    ///
    /// # Errors
    /// If the name leads out of the root, or to the root itself. The spelling is checked even if no
    /// directory is configured.
    pub fn find(&self, name: &str) -> Result<Option<Template>, InvalidTemplate> {
        check_spelling(name)?;
        let Some(root) = self.real_root() else {
            return Ok(None);
        };
        let Ok(directory) = fs::canonicalize(root.join(name)) else {
            return Ok(None);
        };
        if directory == root || !directory.starts_with(&root) {
            return Err(InvalidTemplate);
        }
        Ok(directory.is_dir().then(|| read(&root, directory)))
    }

    /// The template that workspaces of a runtime are made from when none is named or the named one is
    /// missing: `<runtime>-default`, or else the one named like the runtime.
    #[must_use]
    pub fn default_of(&self, runtime: &str) -> Option<Template> {
        [&format!("{runtime}-default"), runtime].into_iter().find_map(|name| self.find(name).ok().flatten())
    }

    /// Seconds that starting a workspace of that runtime takes at most: the longest that a template
    /// declares.
    #[must_use]
    pub fn provision_timeout(&self, runtime: &str) -> Option<u32> {
        self.timeouts.load().get(runtime).copied()
    }

    /// Every template directly below the root that is no symlink.
    fn all(&self) -> Vec<Template> {
        let Some(root) = self.real_root() else {
            return Vec::new();
        };
        match fs::read_dir(&root) {
            Ok(entries) => entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| read(&root, entry.path()))
                .collect(),
            Err(error) => {
                tracing::warn!(root = %root.display(), %error, "the templates can't be listed");
                Vec::new()
            }
        }
    }

    /// The root without symlinks, if it is there.
    fn real_root(&self) -> Option<PathBuf> {
        fs::canonicalize(self.root.as_deref()?).ok()
    }
}

/// Refuses names that are absolute, go up, or are no names at all.
fn check_spelling(name: &str) -> Result<(), InvalidTemplate> {
    let mut named = false;
    for part in Path::new(name).components() {
        match part {
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(InvalidTemplate),
        }
    }
    if named && !name.contains('\0') { Ok(()) } else { Err(InvalidTemplate) }
}

/// The template in `directory`.
fn read(root: &Path, directory: PathBuf) -> Template {
    let config = match read_config(root, &directory.join(CONFIG)) {
        Ok(config) => config,
        Err(ConfigError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Config::default(),
        Err(error) => {
            tracing::warn!(template = %directory.display(), %error, "a template's {CONFIG} is not used");
            Config::default()
        }
    };
    let rest = config.runtime_config.unwrap_or_default();
    Template {
        directory,
        runtime: said(config.runtime),
        model: said(config.model).or_else(|| said(rest.model)),
        provision_timeout_seconds: rest
            .provision_timeout_seconds
            .and_then(|seconds| u32::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0),
    }
}

fn read_config(root: &Path, path: &Path) -> Result<Config, ConfigError> {
    let path = fs::canonicalize(path)?;
    // Only plain files: opening a pipe would wait for somebody to write to it.
    if !path.starts_with(root) || !path.is_file() {
        return Err(ConfigError::Outside);
    }
    let mut text = Vec::new();
    // One byte more, to tell a long config from one that just fits.
    File::open(path)?.take(CONFIG_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > CONFIG_BYTES {
        return Err(ConfigError::TooLong);
    }
    // An empty file is a config that says nothing.
    Ok(serde_yaml::from_slice::<Option<Config>>(&text)?.unwrap_or_default())
}

/// A text that says something.
fn said(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A root with templates, and a directory beside it.
    struct World {
        directory: TempDir,
        templates: Templates,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir_all(directory.path().join("root")).unwrap();
            fs::create_dir_all(directory.path().join("outside")).unwrap();
            let templates = Templates::open(Some(directory.path().join("root")));
            Self { directory, templates }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.directory.path().join(path)
        }

        fn write(&self, template: &str, config: impl AsRef<[u8]>) {
            fs::create_dir_all(self.path("root").join(template)).unwrap();
            fs::write(self.path("root").join(template).join(CONFIG), config).unwrap();
        }

        fn defaults(&self, template: &str) -> (Option<String>, Option<String>, Option<u32>) {
            let found = self.templates.find(template).unwrap().unwrap();
            (found.runtime, found.model, found.provision_timeout_seconds)
        }
    }

    #[test]
    fn configs_by_table() {
        let world = World::new();
        let text = |text: &str| Some(text.to_owned());
        for (config, expected) in [
            ("runtime: codex\nmodel: m1\n", (text("codex"), text("m1"), None)),
            ("runtime_config: {model: m2}\nmodel: m1\n", (None, text("m1"), None)),
            ("model: ''\nruntime_config: {model: m2}\n", (None, text("m2"), None)),
            ("runtime: ' '\nmodel: null\n", (None, None, None)),
            ("runtime_config:\n  provision_timeout_seconds: 900\n", (None, None, Some(900))),
            ("runtime: a\nruntime_config: {provision_timeout_seconds: 0}", (text("a"), None, None)),
            ("runtime: a\nruntime_config: {provision_timeout_seconds: -5}", (text("a"), None, None)),
            ("runtime: a\nruntime_config: {provision_timeout_seconds: 4294967296}", (text("a"), None, None)),
            ("runtime: a\nruntime_config:\nskills: [x]\n", (text("a"), None, None)),
            ("runtime: [a\n", (None, None, None)),
            ("runtime: {a: b}\n", (None, None, None)),
            ("just text", (None, None, None)),
            ("", (None, None, None)),
            ("# nothing\n", (None, None, None)),
        ] {
            world.write("t", config);
            assert_eq!(world.defaults("t"), expected, "{config:?}");
        }
        world.write("t", b"runtime: \xff\n");
        assert_eq!(world.defaults("t"), (None, None, None));
    }

    #[test]
    fn a_template_needs_no_config() {
        let world = World::new();
        fs::create_dir(world.path("root/bare")).unwrap();
        assert_eq!(world.defaults("bare"), (None, None, None));
        fs::create_dir_all(world.path("root/odd").join(CONFIG)).unwrap();
        assert_eq!(world.defaults("odd"), (None, None, None));
        let found = world.templates.find("bare").unwrap().unwrap();
        assert_eq!(found.directory, fs::canonicalize(world.path("root/bare")).unwrap());
    }

    #[test]
    fn long_configs_are_not_read() {
        let world = World::new();
        let padded = |bytes: usize| {
            let config = "runtime: codex\n#";
            format!("{config}{}", "x".repeat(bytes - config.len()))
        };
        world.write("fits", padded(1024 * 1024));
        assert_eq!(world.defaults("fits").0.as_deref(), Some("codex"));
        world.write("long", padded(1024 * 1024 + 1));
        assert_eq!(world.defaults("long"), (None, None, None));
    }

    #[test]
    fn nested_aliases_are_no_bomb() {
        let mut config = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let below = format!("*a{}, ", level - 1).repeat(9);
            config.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let world = World::new();
        world.write("bomb", config + "runtime: codex\n");
        world.templates.find("bomb").unwrap();
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        let world = World::new();
        world.write("t", "runtime: codex\n");
        world.write("nested/t", "runtime: hermes\n");
        fs::write(world.path("outside").join(CONFIG), "runtime: stolen\n").unwrap();
        symlink(world.path("outside"), world.path("root/link")).unwrap();
        symlink("..", world.path("root/up")).unwrap();
        symlink(".", world.path("root/self")).unwrap();
        symlink("t", world.path("root/alias")).unwrap();
        symlink("/nowhere", world.path("root/dangling")).unwrap();
        symlink("loop", world.path("root/loop")).unwrap();
        let absolute = world.path("root/t");
        for name in [
            "",
            ".",
            "./",
            "..",
            "../outside",
            "t/..",
            "t/../t",
            "../root/t",
            "/",
            "/etc",
            absolute.to_str().unwrap(),
            "t\0",
            "link",
            "link/x/..",
            "up",
            "up/outside",
            "self",
            "link/config.yaml",
        ] {
            assert_eq!(world.templates.find(name), Err(InvalidTemplate), "{name:?}");
        }
        for name in [
            "missing",
            "t/missing",
            "t/config.yaml",
            "t/config.yaml/x",
            "dangling",
            "loop",
            "..t",
            &"x".repeat(300),
        ] {
            assert_eq!(world.templates.find(name), Ok(None), "{name:?}");
        }
        for (name, runtime) in [("t", "codex"), ("./t/", "codex"), ("alias", "codex"), ("nested/t", "hermes")]
        {
            assert_eq!(world.defaults(name).0.as_deref(), Some(runtime), "{name:?}");
        }
        assert_eq!(InvalidTemplate.to_string(), "invalid template");
    }

    #[test]
    fn a_config_from_outside_is_not_read() {
        let world = World::new();
        fs::write(world.path("outside/secret"), "runtime: stolen\n").unwrap();
        fs::create_dir(world.path("root/t")).unwrap();
        symlink(world.path("outside/secret"), world.path("root/t").join(CONFIG)).unwrap();
        assert_eq!(world.defaults("t"), (None, None, None));
    }

    #[test]
    fn spelling_is_checked_without_a_directory() {
        let missing = Templates::open(Some("/nowhere/at/all".into()));
        for templates in [&Templates::open(None), &missing] {
            assert_eq!(templates.find("t"), Ok(None));
            for name in ["", "/etc", "../x", "a/../b"] {
                assert_eq!(templates.find(name), Err(InvalidTemplate), "{name:?}");
            }
            assert_eq!(templates.provision_timeout("codex"), None);
            assert_eq!(templates.default_of("codex"), None);
        }
    }

    #[test]
    fn the_root_may_be_a_symlink() {
        let world = World::new();
        world.write("t", "runtime: codex\n");
        symlink(world.path("root"), world.path("linked")).unwrap();
        let templates = Templates::open(Some(world.path("linked")));
        assert_eq!(templates.find("t").unwrap().unwrap().runtime.as_deref(), Some("codex"));
    }

    #[test]
    fn the_longest_timeout_of_a_runtime_counts() {
        let world = World::new();
        let config = |runtime, seconds| {
            format!("runtime: {runtime}\nruntime_config: {{provision_timeout_seconds: {seconds}}}\n")
        };
        world.write("a", config("codex", 300));
        world.write("b", config("codex", 900));
        world.write("c", config("codex", 600));
        world.write("d", config("hermes", 60));
        world.write("e", "runtime: langgraph\n");
        world.write("f", "runtime_config: {provision_timeout_seconds: 5}\n");
        fs::write(world.path("outside").join(CONFIG), config("hermes", 9999)).unwrap();
        symlink(world.path("outside"), world.path("root/link")).unwrap();
        assert_eq!(world.templates.provision_timeout("codex"), None);
        world.templates.reload();
        for (runtime, seconds) in
            [("codex", Some(900)), ("hermes", Some(60)), ("langgraph", None), ("", None), ("Codex", None)]
        {
            assert_eq!(world.templates.provision_timeout(runtime), seconds, "{runtime}");
        }
        fs::remove_dir_all(world.path("root/b")).unwrap();
        world.templates.reload();
        assert_eq!(world.templates.provision_timeout("codex"), Some(600));
    }

    #[test]
    fn runtimes_have_default_templates() {
        let world = World::new();
        world.write("claude-code-default", "model: sonnet\n");
        world.write("codex", "model: plain\n");
        world.write("both", "model: plain\n");
        world.write("both-default", "model: suffixed\n");
        for (runtime, model) in [
            ("claude-code", Some("sonnet")),
            ("codex", Some("plain")),
            ("both", Some("suffixed")),
            ("hermes", None),
            ("..", None),
        ] {
            let found = world.templates.default_of(runtime).and_then(|template| template.model);
            assert_eq!(found.as_deref(), model, "{runtime}");
        }
    }
}
