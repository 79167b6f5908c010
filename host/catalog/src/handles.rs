//! Guests as the rest of the host calls them: typed functions. Where a guest is missing, disabled or failing, the
//! host's default answers questions about reloads, plugin changes and models; a plan and a template have no default,
//! and the caller learns why there is no answer. A guest that is not in service yet after a start is waited for.

use std::sync::Arc;

use wasm::{
    Failure, Problem,
    adapter::{Description, Message, Plan, PlanRequest, Reload},
    classifier::{Diff, Verdict},
    template::{Expansion, Progress},
};
use wire_json::RawJson;

use crate::{
    Catalog, NoAnswer, PlanError,
    breaker::CallSubject,
    defaults,
    guest::{ActiveRelease, Guest},
};

/// Guest that resolves org templates.
const RESOLVER: &str = "include";

/// Guest that classifies plugin changes.
const CLASSIFIER: &str = "skill-classifier";

/// The release that answers one or several calls. It is the same one until the handle is dropped.
struct Handle {
    catalog: Catalog,
    release: Result<(Arc<Guest>, Arc<ActiveRelease>), NoAnswer>,
}

/// The adapter of a runtime.
pub struct RuntimeAdapter {
    handle: Handle,
    /// What it is called for, if that is known.
    subject: Option<CallSubject>,
    description: Arc<Description>,
}

/// The resolver of org templates.
pub struct TemplateResolver(Handle);

/// The classifier of plugin changes: hot or cold.
pub struct ReloadClassifier(Handle);

impl Catalog {
    /// The adapter for a runtime, to be called for this subject: what fails again and again for one workspace does not
    /// take the runtime away from others.
    pub async fn adapter(&self, runtime: &str, subject: Option<CallSubject>) -> RuntimeAdapter {
        if let Some(ready) = self.runtime_ready(runtime) {
            ready.await;
        }
        let known = self.inner.runtimes.load().get(runtime).cloned();
        let handle = match &known {
            Some(known) => self.handle(&known.guest),
            None => self.no_handle(NoAnswer::NoAdapter(runtime.to_owned())),
        };
        // An earlier release that answers until the active one does may know other runtimes only.
        let handle = match &handle.release {
            Ok((guest, active)) if !active.answers_for(runtime) => {
                self.no_handle(NoAnswer::Preparing(guest.name.clone()))
            }
            _ => handle,
        };
        let in_service = handle.release.as_ref().ok().and_then(|(_, active)| active.description.clone());
        let description = in_service.or_else(|| known.map(|known| known.description));
        let description = description.unwrap_or_else(|| Arc::new(defaults::description(runtime)));
        RuntimeAdapter { handle, subject, description }
    }

    /// What is known of a runtime now: see [`Catalog::runtime_ready`]. An unknown one gets the host's
    /// defaults.
    #[must_use]
    pub fn description(&self, runtime: &str) -> Arc<Description> {
        let runtimes = self.inner.runtimes.load();
        let known = runtimes.get(runtime).map(|known| Arc::clone(&known.description));
        known.unwrap_or_else(|| Arc::new(defaults::description(runtime)))
    }

    /// Tells what answers for a runtime from what answered before; 0 where nothing does. Of this server and this
    /// process.
    #[must_use]
    pub fn adapter_number(&self, runtime: &str) -> u64 {
        let runtimes = self.inner.runtimes.load();
        let guest = runtimes.guest(runtime).and_then(|name| self.guest(name).ok());
        guest.and_then(|guest| guest.active.load().as_ref().map(|active| active.number)).unwrap_or_default()
    }

    /// The resolver of org templates.
    pub async fn resolver(&self) -> TemplateResolver {
        self.guest_ready(RESOLVER).await;
        TemplateResolver(self.handle(RESOLVER))
    }

    /// The classifier of plugin changes.
    pub async fn classifier(&self) -> ReloadClassifier {
        self.guest_ready(CLASSIFIER).await;
        ReloadClassifier(self.handle(CLASSIFIER))
    }

    fn handle(&self, name: &str) -> Handle {
        let Ok(guest) = self.guest(name) else { return self.no_handle(NoAnswer::NoGuest(name.to_owned())) };
        match guest.active.load_full() {
            Some(active) => Handle { catalog: self.clone(), release: Ok((guest, active)) },
            None => self.no_handle(absent(&guest)),
        }
    }

    fn no_handle(&self, why: NoAnswer) -> Handle {
        Handle { catalog: self.clone(), release: Err(why) }
    }
}

/// Why nothing answers for a guest.
fn absent(guest: &Guest) -> NoAnswer {
    let name = guest.name.clone();
    if !guest.read().row.enabled {
        NoAnswer::Disabled(name)
    } else if !guest.is_prepared() {
        NoAnswer::Preparing(name)
    } else {
        NoAnswer::OutOfService(name)
    }
}

/// Calls the handle's release.
macro_rules! invoke {
    ($handle:expr, $name:literal, $subject:expr, $world:ident, $function:ident($($argument:expr),*)) => {
        match &$handle.release {
            Ok((guest, active)) => {
                let call = async |component: &wasm::Component| {
                    Some(component.$world()?.$function(&active.settings, $($argument),*).await)
                };
                $handle.catalog.invoke(guest, active, $name, $subject, call).await
            }
            Err(absent) => Err(absent.clone()),
        }
    };
}

impl RuntimeAdapter {
    /// What the runtime is; while its adapter is out of service, as it said last.
    #[must_use]
    pub fn describe(&self) -> &Description {
        &self.description
    }

    /// What a workspace needs before it starts. There is no default: a container without its files and keys is wrong.
    ///
    /// # Errors
    /// If the adapter objects, or gives no answer.
    pub async fn plan(&self, request: &PlanRequest) -> Result<Plan, PlanError> {
        let mut planned = self.plan_once(request).await;
        if let Err(NoAnswer::Failed { failure: Failure::Timeout { .. }, .. }) = planned {
            // A machine that is busy with other things may be too slow once.
            planned = self.plan_once(request).await;
        }
        planned?.map_err(PlanError::Refused)
    }

    async fn plan_once(&self, request: &PlanRequest) -> Result<Result<Plan, Problem>, NoAnswer> {
        let subject = || CallSubject::of(self.subject, request);
        invoke!(self.handle, "plan", subject, adapter, plan(request))
    }

    /// Runtime that a configuration file names, if any.
    pub async fn runtime_in_config(&self, config: &[u8]) -> Option<String> {
        let subject = || CallSubject::of(self.subject, &config);
        invoke!(self.handle, "runtime-in-config", subject, adapter, runtime_in_config(config)).ok().flatten()
    }

    /// What a change to these files asks for. By default a restart: always right, only slower.
    pub async fn on_files_changed(&self, paths: &[String]) -> Reload {
        let subject = || CallSubject::of(self.subject, &paths);
        let answered = invoke!(self.handle, "on-files-changed", subject, adapter, on_files_changed(paths));
        answered.unwrap_or(Reload::Restart)
    }

    /// What a synthetic agent answers, one text per part.
    ///
    /// # Errors
    /// If the adapter objects, or gives no answer.
    pub async fn synthetic_reply(&self, message: &Message) -> Result<Vec<String>, Problem> {
        let subject = || CallSubject::of(self.subject, message);
        let replied = invoke!(self.handle, "synthetic-reply", subject, adapter, synthetic_reply(message));
        replied.unwrap_or_else(|absent| Err(Problem { at: None, message: absent.to_string() }))
    }

    /// A message's body as the runtime wants it: as it is, by default.
    ///
    /// # Errors
    /// If the adapter objects.
    pub async fn to_agent(&self, body: &RawJson) -> Result<RawJson, Problem> {
        if !self.description.translates_messages {
            return Ok(body.clone());
        }
        let subject = || CallSubject::of(self.subject, body);
        let translated = invoke!(self.handle, "to-agent", subject, adapter, to_agent(body.text()));
        translated.unwrap_or_else(|_| Ok(body.clone()))
    }
}

impl TemplateResolver {
    /// One step of a resolution. Steps of one handle are answered by one release. There is no default: a template is
    /// never resolved by half.
    ///
    /// # Errors
    /// If the resolver gives no answer.
    pub async fn expand(&self, request: &Expansion) -> Result<Progress, NoAnswer> {
        invoke!(self.0, "expand", || CallSubject::input(request), resolver, expand(request))
    }
}

impl ReloadClassifier {
    /// Hot or cold? By default cold.
    pub async fn classify(&self, diff: &Diff) -> Verdict {
        let answered = invoke!(self.0, "classify", || CallSubject::input(diff), classifier, classify(diff));
        answered.unwrap_or_else(|_| defaults::verdict())
    }
}
