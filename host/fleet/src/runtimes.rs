//! What the fleet asks about runtimes. The catalog of guests answers; the host's defaults where no guest
//! does, except for plans.

use std::time::Duration;

use async_trait::async_trait;
use catalog::{CallSubject, Catalog, PlanError, RuntimeAdapter, UndecidedRuntime};
use futures::future::BoxFuture;
use store::workspaces::Hosting;
use tokio::sync::watch;
use types::WorkspaceId;
use wasm::adapter::{Description, Plan, PlanRequest};

/// What the rules of the fleet need to know of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// How its agents are run: container, operator or synthetic.
    pub hosting: Hosting,
    /// Model of a workspace that was made without one.
    pub default_model: Option<String>,
    /// How long a start may take, where the adapter says so.
    pub provision_timeout: Option<Duration>,
    /// Its agents judge their own health, until a heartbeat says otherwise.
    pub self_reports_health: bool,
}

/// The runtimes of this server.
#[async_trait]
pub trait Runtimes: Send + Sync + 'static {
    /// The name itself if the runtime is known, else that of the one that stands in.
    fn sanitize(&self, runtime: &str) -> String;

    /// Whether it is decided which runtime a name stands for.
    ///
    /// # Errors
    /// If it may be that of a guest whose names are not known yet.
    fn check_decided(&self, runtime: &str) -> Result<(), UndecidedRuntime> {
        let _ = runtime;
        Ok(())
    }

    /// Counts changes of what answers for runtimes.
    fn changes(&self) -> watch::Receiver<u64> {
        watch::Sender::default().subscribe()
    }

    /// Tells what answers for a runtime from what answered before; 0 where nothing does. Of this process.
    fn adapter_number(&self, runtime: &str) -> u64 {
        let _ = runtime;
        0
    }

    /// Waits until the adapter of a runtime is decided, which just after the start it may not be; `None` if
    /// it is.
    fn ready<'a>(&'a self, runtime: &'a str) -> Option<BoxFuture<'a, ()>> {
        let _ = runtime;
        None
    }

    /// What is known of a runtime; of an unknown one, the host's defaults.
    fn info(&self, runtime: &str) -> RuntimeInfo;

    /// The adapter of a runtime, for one start of this workspace: all that is asked of it is answered by one release.
    async fn adapter(&self, runtime: &str, workspace: Option<WorkspaceId>) -> Box<dyn Adapter>;
}

/// What knows how workspaces of one runtime are started.
#[async_trait]
pub trait Adapter: Send + Sync {
    /// What the runtime is.
    fn description(&self) -> &Description;

    /// What a workspace needs before it starts.
    ///
    /// # Errors
    /// If the adapter objects, or gives no answer, in words for the operator.
    async fn plan(&self, request: &PlanRequest) -> Result<Plan, PlanError>;
}

#[async_trait]
impl Runtimes for Catalog {
    fn ready<'a>(&'a self, runtime: &'a str) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(self.runtime_ready(runtime)?))
    }

    fn sanitize(&self, runtime: &str) -> String {
        self.sanitize_runtime(runtime)
    }

    fn check_decided(&self, runtime: &str) -> Result<(), UndecidedRuntime> {
        Self::check_decided(self, runtime)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Self::changes(self)
    }

    fn adapter_number(&self, runtime: &str) -> u64 {
        Self::adapter_number(self, runtime)
    }

    fn info(&self, runtime: &str) -> RuntimeInfo {
        let description = self.description(runtime);
        RuntimeInfo {
            hosting: match description.hosting {
                wasm::adapter::Hosting::Container => Hosting::Container,
                wasm::adapter::Hosting::Operator => Hosting::Operator,
                wasm::adapter::Hosting::Synthetic => Hosting::Synthetic,
            },
            default_model: description.default_model.clone(),
            provision_timeout: description.provision_timeout_seconds.map(|s| Duration::from_secs(s.into())),
            self_reports_health: description.capabilities.status_management,
        }
    }

    async fn adapter(&self, runtime: &str, workspace: Option<WorkspaceId>) -> Box<dyn Adapter> {
        Box::new(Self::adapter(self, runtime, workspace.map(CallSubject::Workspace)).await)
    }
}

#[async_trait]
impl Adapter for RuntimeAdapter {
    fn description(&self) -> &Description {
        self.describe()
    }

    async fn plan(&self, request: &PlanRequest) -> Result<Plan, PlanError> {
        Self::plan(self, request).await
    }
}
