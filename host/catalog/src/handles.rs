//! Guests as the rest of the host calls them: typed functions that always answer. Where a guest is
//! missing, disabled or failing, the host's default answers and the log says so. A guest that is not
//! in service yet after a start is waited for.

use std::sync::Arc;

use wasm::{
    Problem,
    adapter::{Description, Message, Plan, PlanRequest, Reload},
    classifier::{Diff, Verdict},
    template::{Expansion, Progress},
};
use wire_json::RawJson;

use crate::{
    Catalog, defaults,
    guest::{ActiveRelease, Guest},
};

/// Guest that resolves org templates.
const RESOLVER: &str = "include";

/// Guest that classifies plugin changes.
const CLASSIFIER: &str = "skill-classifier";

/// The release that answers one or several calls. It is the same one until the handle is dropped.
struct Handle {
    catalog: Catalog,
    release: Option<(Arc<Guest>, Arc<ActiveRelease>)>,
}

/// The adapter of a runtime.
pub struct RuntimeAdapter {
    handle: Handle,
    description: Description,
}

/// The resolver of org templates.
pub struct TemplateResolver(Handle);

/// The classifier of plugin changes: hot or cold.
pub struct ReloadClassifier(Handle);

impl Catalog {
    /// The adapter for a runtime. An unknown one gets the host's defaults.
    pub async fn adapter(&self, runtime: &str) -> RuntimeAdapter {
        if let Some(ready) = self.runtime_ready(runtime) {
            ready.await;
        }
        let handle = self.runtime_handle(runtime);
        RuntimeAdapter { description: handle.description(runtime), handle }
    }

    /// What is known of a runtime now: see [`Catalog::runtime_ready`]. An unknown one gets the host's
    /// defaults.
    #[must_use]
    pub fn description(&self, runtime: &str) -> Description {
        self.runtime_handle(runtime).description(runtime)
    }

    /// The resolver of org templates.
    pub async fn resolver(&self) -> TemplateResolver {
        self.guest_ready(RESOLVER).await;
        TemplateResolver(self.handle(Some(RESOLVER)))
    }

    /// The classifier of plugin changes.
    pub async fn classifier(&self) -> ReloadClassifier {
        self.guest_ready(CLASSIFIER).await;
        ReloadClassifier(self.handle(Some(CLASSIFIER)))
    }

    fn runtime_handle(&self, runtime: &str) -> Handle {
        self.handle(self.inner.runtimes.load().guest(runtime))
    }

    fn handle(&self, name: Option<&str>) -> Handle {
        let guest = name.and_then(|name| self.guest(name).ok());
        let release = guest.and_then(|guest| guest.active.load_full().map(|active| (guest, active)));
        Handle { catalog: self.clone(), release }
    }
}

impl Handle {
    fn description(&self, runtime: &str) -> Description {
        let description = self.release.as_ref().and_then(|(_, active)| active.description.clone());
        description.unwrap_or_else(|| defaults::description(runtime))
    }
}

/// Calls the handle's release; `None` where the host's default has to stand in.
macro_rules! invoke {
    ($handle:expr, $name:literal, $world:ident, $function:ident($($argument:expr),*)) => {
        match &$handle.release {
            Some((guest, active)) => {
                let call = async |component: &wasm::Component| {
                    Some(component.$world()?.$function(&active.settings, $($argument),*).await)
                };
                $handle.catalog.invoke(guest, active, $name, call).await
            }
            None => None,
        }
    };
}

impl RuntimeAdapter {
    /// What the runtime is.
    #[must_use]
    pub fn describe(&self) -> &Description {
        &self.description
    }

    /// What a workspace needs before it starts.
    ///
    /// # Errors
    /// If the adapter objects: the message is for the maker of the workspace.
    pub async fn plan(&self, request: &PlanRequest) -> Result<Plan, Problem> {
        invoke!(self.handle, "plan", adapter, plan(request)).unwrap_or_else(|| Ok(defaults::plan(request)))
    }

    /// Runtime that a configuration file names, if any.
    pub async fn runtime_in_config(&self, config: &[u8]) -> Option<String> {
        invoke!(self.handle, "runtime-in-config", adapter, runtime_in_config(config)).flatten()
    }

    /// What a change to these files asks for. By default a restart: always right, only slower.
    pub async fn on_files_changed(&self, paths: &[String]) -> Reload {
        invoke!(self.handle, "on-files-changed", adapter, on_files_changed(paths)).unwrap_or(Reload::Restart)
    }

    /// What a synthetic agent answers, one text per part.
    ///
    /// # Errors
    /// If the adapter objects, or is out of service.
    pub async fn synthetic_reply(&self, message: &Message) -> Result<Vec<String>, Problem> {
        invoke!(self.handle, "synthetic-reply", adapter, synthetic_reply(message)).unwrap_or_else(|| {
            Err(Problem { at: None, message: "the runtime's adapter is out of service".to_owned() })
        })
    }

    /// A message's body as the runtime wants it: as it is, by default.
    ///
    /// # Errors
    /// If the adapter objects.
    pub async fn to_agent(&self, body: &RawJson) -> Result<RawJson, Problem> {
        if !self.description.translates_messages {
            return Ok(body.clone());
        }
        invoke!(self.handle, "to-agent", adapter, to_agent(body.text())).unwrap_or_else(|| Ok(body.clone()))
    }
}

impl TemplateResolver {
    /// One step of a resolution. Steps of one handle are answered by one release.
    pub async fn expand(&self, request: &Expansion) -> Progress {
        invoke!(self.0, "expand", resolver, expand(request)).unwrap_or_else(defaults::progress)
    }
}

impl ReloadClassifier {
    /// Hot or cold? By default cold.
    pub async fn classify(&self, diff: &Diff) -> Verdict {
        invoke!(self.0, "classify", classifier, classify(diff)).unwrap_or_else(defaults::verdict)
    }
}
