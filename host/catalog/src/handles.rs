//! Guests as the rest of the host calls them: plain questions, and an answer every time. Where a
//! guest is missing, disabled or failing, the host's default answers and the log says so.

use std::sync::Arc;

use serde_json::Value;
use wasm::{
    Problem,
    adapter::{Description, Message, Plan, PlanRequest, Reload},
    classifier::{Diff, Verdict},
    template::{Expansion, Progress},
};

use crate::{
    Catalog, defaults,
    guest::{Guest, Live},
};

/// Guest that resolves org templates.
const RESOLVER: &str = "include";

/// Guest that classifies plugin changes.
const CLASSIFIER: &str = "skill-classifier";

/// What answers for one question or several: a release, held until the handle is dropped.
struct Answering {
    catalog: Catalog,
    held: Option<(Arc<Guest>, Arc<Live>)>,
}

/// What knows a runtime.
pub struct RuntimeAdapter {
    answering: Answering,
    description: Description,
}

/// What resolves org templates.
pub struct TemplateResolver(Answering);

/// What tells hot from cold plugin changes.
pub struct ReloadClassifier(Answering);

impl Catalog {
    /// The adapter for a runtime. An unknown one gets the host's defaults.
    #[must_use]
    pub fn adapter(&self, runtime: &str) -> RuntimeAdapter {
        let name = self.inner.runtimes.load().guest(runtime).map(str::to_owned);
        let answering = self.answering(name.as_deref());
        let description = answering.held.as_ref().and_then(|(_, live)| live.description.clone());
        RuntimeAdapter {
            description: description.unwrap_or_else(|| defaults::description(runtime)),
            answering,
        }
    }

    /// The resolver of org templates.
    #[must_use]
    pub fn resolver(&self) -> TemplateResolver {
        TemplateResolver(self.answering(Some(RESOLVER)))
    }

    /// The classifier of plugin changes.
    #[must_use]
    pub fn classifier(&self) -> ReloadClassifier {
        ReloadClassifier(self.answering(Some(CLASSIFIER)))
    }

    fn answering(&self, name: Option<&str>) -> Answering {
        let guest = name.and_then(|name| self.guest(name).ok());
        let held = guest.and_then(|guest| guest.live.load_full().map(|live| (guest, live)));
        Answering { catalog: self.clone(), held }
    }
}

/// Asks what is held, if anything is; `None` where the host's default has to stand in.
macro_rules! ask {
    ($answering:expr, $name:literal, $world:ident, $function:ident($($argument:expr),*)) => {
        match &$answering.held {
            Some((guest, live)) => {
                let call = async |component: &wasm::Component| {
                    Some(component.$world()?.$function(&live.settings, $($argument),*).await)
                };
                $answering.catalog.ask(guest, live, $name, call).await
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
    /// If the adapter objects: the message is for whoever made the workspace.
    pub async fn plan(&self, request: &PlanRequest) -> Result<Plan, Problem> {
        ask!(self.answering, "plan", adapter, plan(request)).unwrap_or_else(|| Ok(defaults::plan(request)))
    }

    /// Runtime that a configuration file names, if any.
    pub async fn runtime_in_config(&self, config: &[u8]) -> Option<String> {
        ask!(self.answering, "runtime-in-config", adapter, runtime_in_config(config)).flatten()
    }

    /// What a change to these files asks for. By default a restart: always right, only slower.
    pub async fn on_files_changed(&self, paths: &[String]) -> Reload {
        ask!(self.answering, "on-files-changed", adapter, on_files_changed(paths)).unwrap_or(Reload::Restart)
    }

    /// What a synthetic agent answers, one text per part.
    ///
    /// # Errors
    /// If the adapter objects, or is out of service.
    pub async fn synthetic_reply(&self, message: &Message) -> Result<Vec<String>, Problem> {
        ask!(self.answering, "synthetic-reply", adapter, synthetic_reply(message)).unwrap_or_else(|| {
            Err(Problem { at: None, message: "the runtime's adapter is out of service".to_owned() })
        })
    }

    /// A message's body as the runtime wants it: as it is, by default.
    ///
    /// # Errors
    /// If the adapter objects.
    pub async fn to_agent(&self, body: Value) -> Result<Value, Problem> {
        if !self.description.translates_messages {
            return Ok(body);
        }
        ask!(self.answering, "to-agent", adapter, to_agent(&body)).unwrap_or(Ok(body))
    }
}

impl TemplateResolver {
    /// One step of a resolution. Steps of one handle are answered by one release.
    pub async fn expand(&self, request: &Expansion) -> Progress {
        ask!(self.0, "expand", resolver, expand(request)).unwrap_or_else(defaults::progress)
    }
}

impl ReloadClassifier {
    /// Hot or cold? By default cold.
    pub async fn classify(&self, diff: &Diff) -> Verdict {
        ask!(self.0, "classify", classifier, classify(diff)).unwrap_or_else(defaults::verdict)
    }
}
