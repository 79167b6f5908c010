//! Runtime templates: directories that an operator keeps below one root, each with a `config.yaml`.
//!
//! Clients name a template, and a name must never lead out of the root: not by its spelling, and not
//! through a symlink. What a template's config says are defaults, so a config that can't be read is
//! the same as one that says nothing.
//!
//! Reads files: async code goes through [`RuntimeTemplates::read`], which does it on a thread that may
//! block. How long starts may take is kept in memory, because every listed workspace shows it; it is read
//! again when a workspace is made or started.

use std::{
    collections::HashMap,
    fs,
    future::pending,
    panic::resume_unwind,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use local_files::FileError;
use serde::Deserialize;
use tokio::task::spawn_blocking;

/// Bytes in a `config.yaml` at most. A longer one is not read.
const CONFIG_BYTES: u64 = 1024 * 1024;

const CONFIG: &str = "config.yaml";

/// The runtime templates below one root, or none. Clones share what they read.
#[derive(Debug, Clone)]
pub struct RuntimeTemplates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Option<PathBuf>,
    /// Seconds that starting takes at most, by runtime.
    timeouts: ArcSwap<HashMap<String, u32>>,
}

/// A runtime template, and the defaults that it has for workspaces made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeTemplate {
    /// Real path, without symlinks.
    pub(crate) directory: PathBuf,
    pub(crate) runtime: Option<String>,
    pub(crate) model: Option<String>,
    /// Seconds that starting takes at most.
    pub(crate) provision_timeout_seconds: Option<u32>,
    /// Variables without which agents don't work.
    pub(crate) required_env: Vec<String>,
    /// The text of `config.yaml`, where it can be used.
    pub(crate) config: Option<Vec<u8>>,
}

/// A name that no runtime template can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid template")]
pub struct InvalidRuntimeTemplate;

/// What is read of a `config.yaml`.
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
    /// A list of names. Any other value says nothing, as other tools write other things there.
    required_env: Option<serde_yaml::Value>,
}

/// Why a config is not used. For the log only.
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error("can't be read: {0}")]
    File(#[from] FileError),
    #[error("is not a file of the template root")]
    Outside,
    #[error("can't be parsed: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

impl RuntimeTemplates {
    /// The templates in `dir`, which need not be there (yet). Reads nothing.
    #[must_use]
    pub fn open(dir: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner { root: dir, timeouts: ArcSwap::default() }))
    }

    /// Calls `read` on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Self) -> T + Send + 'static) -> T {
        if self.0.root.is_none() {
            return read(self);
        }
        let templates = self.clone();
        match spawn_blocking(move || read(&templates)).await {
            Ok(read) => read,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime shuts down, and this task with it.
                Err(_) => pending().await,
            },
        }
    }

    /// Reads again what templates declare. [`find`](Self::find) needs no reload.
    pub(crate) fn reload(&self) {
        let mut timeouts = HashMap::new();
        for template in self.all() {
            if let (Some(runtime), Some(seconds)) = (template.runtime, template.provision_timeout_seconds) {
                let longest = timeouts.entry(runtime).or_insert(seconds);
                *longest = seconds.max(*longest);
            }
        }
        self.0.timeouts.store(Arc::new(timeouts));
    }

    /// The template with that name, if there is one.
    ///
    /// # Errors
    /// If the name leads out of the root, or to the root itself. The spelling is checked even if no
    /// directory is configured.
    pub(crate) fn find(&self, name: &str) -> Result<Option<RuntimeTemplate>, InvalidRuntimeTemplate> {
        check_spelling(name)?;
        let Some(root) = self.real_root() else {
            return Ok(None);
        };
        let Ok(directory) = fs::canonicalize(root.join(name)) else {
            return Ok(None);
        };
        if directory == root || !directory.starts_with(&root) {
            return Err(InvalidRuntimeTemplate);
        }
        Ok(directory.is_dir().then(|| read(&root, directory)))
    }

    /// The first of these templates that exists.
    #[must_use]
    pub(crate) fn first_of(&self, names: &[String]) -> Option<RuntimeTemplate> {
        names.iter().find_map(|name| self.find(name).ok().flatten())
    }

    /// Seconds that starting a workspace of that runtime takes at most: the longest that a template
    /// declared when they were last read.
    #[must_use]
    pub(crate) fn provision_timeout(&self, runtime: &str) -> Option<u32> {
        self.0.timeouts.load().get(runtime).copied()
    }

    /// Every template directly below the root that is no symlink.
    fn all(&self) -> Vec<RuntimeTemplate> {
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
        fs::canonicalize(self.0.root.as_deref()?).ok()
    }
}

/// Refuses names that are absolute, go up, or are no names at all.
fn check_spelling(name: &str) -> Result<(), InvalidRuntimeTemplate> {
    let mut named = false;
    for part in Path::new(name).components() {
        match part {
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(InvalidRuntimeTemplate);
            }
        }
    }
    if named && !name.contains('\0') { Ok(()) } else { Err(InvalidRuntimeTemplate) }
}

/// The template in `directory`.
fn read(root: &Path, directory: PathBuf) -> RuntimeTemplate {
    let read = read_config(root, &directory.join(CONFIG)).map(|(config, text)| (config, Some(text)));
    let (config, text) = read.unwrap_or_else(|error| {
        if !matches!(&error, ConfigError::File(error) if error.is_missing()) {
            tracing::warn!(template = %directory.display(), %error, "a template's {CONFIG} is not used");
        }
        (Config::default(), None)
    });
    let rest = config.runtime_config.unwrap_or_default();
    RuntimeTemplate {
        directory,
        runtime: non_blank(config.runtime),
        model: non_blank(config.model).or_else(|| non_blank(rest.model)),
        provision_timeout_seconds: rest
            .provision_timeout_seconds
            .and_then(|seconds| u32::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0),
        required_env: rest
            .required_env
            .and_then(|names| serde_yaml::from_value(names).ok())
            .unwrap_or_default(),
        config: text,
    }
}

/// A config and its text.
fn read_config(root: &Path, path: &Path) -> Result<(Config, Vec<u8>), ConfigError> {
    let path = fs::canonicalize(path).map_err(FileError::Io)?;
    if !path.starts_with(root) {
        return Err(ConfigError::Outside);
    }
    let text = local_files::read(&path, CONFIG_BYTES)?;
    // An empty file is a config that says nothing.
    Ok((serde_yaml::from_slice::<Option<Config>>(&text)?.unwrap_or_default(), text))
}

/// The text without space at its ends, if anything is left.
fn non_blank(text: Option<String>) -> Option<String> {
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
        templates: RuntimeTemplates,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir_all(directory.path().join("root")).unwrap();
            fs::create_dir_all(directory.path().join("outside")).unwrap();
            let templates = RuntimeTemplates::open(Some(directory.path().join("root")));
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
            assert_eq!(world.templates.find(name), Err(InvalidRuntimeTemplate), "{name:?}");
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
        assert_eq!(InvalidRuntimeTemplate.to_string(), "invalid template");
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
        let missing = RuntimeTemplates::open(Some("/nowhere/at/all".into()));
        for templates in [&RuntimeTemplates::open(None), &missing] {
            assert_eq!(templates.find("t"), Ok(None));
            for name in ["", "/etc", "../x", "a/../b"] {
                assert_eq!(templates.find(name), Err(InvalidRuntimeTemplate), "{name:?}");
            }
            assert_eq!(templates.provision_timeout("codex"), None);
        }
    }

    #[test]
    fn the_root_may_be_a_symlink() {
        let world = World::new();
        world.write("t", "runtime: codex\n");
        symlink(world.path("root"), world.path("linked")).unwrap();
        let templates = RuntimeTemplates::open(Some(world.path("linked")));
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
    fn the_first_template_that_exists_is_taken() {
        let world = World::new();
        world.write("codex", "model: plain\n");
        world.write("both", "model: plain\n");
        world.write("both-default", "model: suffixed\n");
        for (names, model) in [
            (&["codex-default", "codex"][..], Some("plain")),
            (&["both-default", "both"], Some("suffixed")),
            (&["hermes-default", "hermes"], None),
            (&["..", "codex"], Some("plain")),
            (&[], None),
        ] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let found = world.templates.first_of(&names).and_then(|template| template.model);
            assert_eq!(found.as_deref(), model, "{names:?}");
        }
    }

    #[test]
    fn required_variables_and_the_text_are_read() {
        let world = World::new();
        let config = "runtime_config: {required_env: [A, B]}\n";
        world.write("t", config);
        let found = world.templates.find("t").unwrap().unwrap();
        assert_eq!(found.required_env, ["A", "B"]);
        assert_eq!(found.config.as_deref(), Some(config.as_bytes()));
        world.write("odd", "runtime: codex\nruntime_config: {required_env: A}\n");
        let odd = world.templates.find("odd").unwrap().unwrap();
        assert_eq!((odd.required_env, odd.runtime.as_deref()), (Vec::new(), Some("codex")));
        world.write("broken", "runtime: [a\n");
        let broken = world.templates.find("broken").unwrap().unwrap();
        assert_eq!((broken.required_env, broken.config), (Vec::new(), None));
    }

    #[tokio::test]
    async fn async_readers_see_what_is_on_disk() {
        let world = World::new();
        world.write("t", "runtime: codex\n");
        let found = world.templates.read(|templates| templates.find("t")).await;
        assert_eq!(found.unwrap().unwrap().runtime.as_deref(), Some("codex"));
        let panicked = tokio::spawn(async move { world.templates.read(|_| panic!("in a reader")).await });
        assert!(panicked.await.unwrap_err().is_panic());
    }
}
