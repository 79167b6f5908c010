//! What the fleet asks of runtimes. The catalog of guests answers; the host's defaults where none does.

use std::time::Duration;

use async_trait::async_trait;
use catalog::Catalog;
use futures::future::BoxFuture;
use store::workspaces::Hosting;
use wasm::adapter::{Phase, PlanRequest};

/// What is known of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who runs it.
    pub hosting: Hosting,
    /// Model that it uses where nobody chose one.
    pub default_model: Option<String>,
    /// Base name of its image.
    pub image_base: String,
    /// How long its start may take, where it says so.
    pub provision_timeout: Option<Duration>,
    /// Does it judge its own health, until its agent says otherwise?
    pub judges_itself: bool,
}

/// Knows runtimes.
#[async_trait]
pub trait Runtimes: Send + Sync + 'static {
    /// Waits until what answers for a runtime is decided, which just after the start it may not be;
    /// `None` if it is.
    fn ready<'a>(&'a self, runtime: &'a str) -> Option<BoxFuture<'a, ()>> {
        let _ = runtime;
        None
    }

    /// The runtime itself if it is known, else the one that stands in.
    fn sanitise(&self, runtime: &str) -> String;

    /// What is known of it.
    fn facts(&self, runtime: &str) -> Facts;

    /// Provider that a model's name hints at.
    async fn provider(&self, runtime: &str, workspace_name: &str, tier: i32, model: &str) -> Option<String>;
}

#[async_trait]
impl Runtimes for Catalog {
    fn ready<'a>(&'a self, runtime: &'a str) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(self.runtime_ready(runtime)?))
    }

    fn sanitise(&self, runtime: &str) -> String {
        self.sanitise_runtime(runtime)
    }

    fn facts(&self, runtime: &str) -> Facts {
        let description = self.description(runtime);
        Facts {
            hosting: match description.hosting {
                wasm::adapter::Hosting::Container => Hosting::Container,
                wasm::adapter::Hosting::Operator => Hosting::Operator,
                wasm::adapter::Hosting::Synthetic => Hosting::Synthetic,
            },
            default_model: description.default_model.clone(),
            image_base: description.image_base.clone().unwrap_or_default(),
            provision_timeout: description.provision_timeout_seconds.map(|s| Duration::from_secs(s.into())),
            judges_itself: description.capabilities.status_management,
        }
    }

    async fn provider(&self, runtime: &str, workspace_name: &str, tier: i32, model: &str) -> Option<String> {
        let request = PlanRequest {
            phase: Phase::Create,
            reset_session: false,
            runtime: runtime.to_owned(),
            workspace_name: workspace_name.to_owned(),
            role: None,
            tier: u8::try_from(tier).unwrap_or(1),
            model: Some(model.to_owned()),
            secret_keys: Vec::new(),
            visible_env: Vec::new(),
            template_config: None,
            extras: serde_json::Map::new(),
        };
        // An adapter that objects has no hint; it will say so again when the workspace is started.
        self.adapter(runtime).await.plan(&request).await.ok()?.provider
    }
}
