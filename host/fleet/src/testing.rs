//! What the fleet's tests share: rows, runtimes, databases, and waiting with an end.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::DateTime;
use events::Hub;
use serde_json::json;
use store::{
    Cipher, Store,
    workspaces::{Hosting, WorkspaceRow},
};
use tokio::{task::JoinHandle, time::timeout};
use uuid::Uuid;

use crate::{
    Backend, Blueprint, Facts, Fleet, Limits, Parts, Runtimes, Templates,
    create::NewWorkspace,
    rules::{DeliveryMode, WorkspaceAccess},
};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A workspace in a container, as it is before its first attempt.
pub(crate) fn row(name: &str) -> WorkspaceRow {
    let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let blueprint = Blueprint {
        id: Uuid::new_v4(),
        name: name.to_owned(),
        role: None,
        tier: 3,
        runtime: "langgraph".to_owned(),
        hosting: Hosting::Container,
        parent_id: None,
        delivery_mode: Some(DeliveryMode::Push),
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        budget_limit: None,
        max_concurrent_tasks: 1,
        url: None,
        spec: json!({}),
    };
    WorkspaceRow { status_since: at, created_at: at, updated_at: at, ..blueprint.row() }
}

/// Three runtimes, one of each hosting.
pub(crate) struct Table;

#[async_trait]
impl Runtimes for Table {
    fn sanitise(&self, runtime: &str) -> String {
        runtime.to_owned()
    }

    fn facts(&self, runtime: &str) -> Facts {
        let hosting = match runtime {
            "external" => Hosting::Operator,
            "mock" => Hosting::Synthetic,
            _ => Hosting::Container,
        };
        Facts {
            hosting,
            default_model: None,
            image_base: runtime.to_owned(),
            provision_timeout: None,
            judges_itself: false,
        }
    }

    async fn provider(&self, _: &str, _: &str, _: i32, _: &str) -> Option<String> {
        None
    }
}

/// Opens a fleet.
pub(crate) async fn open(
    store: Store,
    backend: Option<Arc<dyn Backend>>,
    limits: Limits,
) -> (Fleet, JoinHandle<()>) {
    let parts = Parts {
        store,
        hub: Hub::default(),
        runtimes: Arc::new(Table),
        backend,
        cipher: Cipher::new(None, None, false).unwrap(),
        templates: Templates::open(None),
        limits,
        saas: false,
    };
    Fleet::open(parts).await.unwrap()
}

/// A workspace to be made.
pub(crate) fn new(name: &str, runtime: &str, parent: Option<Uuid>) -> NewWorkspace {
    NewWorkspace {
        name: name.to_owned(),
        runtime: Some(runtime.to_owned()),
        parent_id: parent.map(|id| id.to_string()),
        ..NewWorkspace::default()
    }
}

/// The SQLite database in this file, which is made where it isn't there.
pub(crate) async fn sqlite(file: &Path) -> Store {
    Store::connect(&format!("sqlite:{}", file.display())).await.unwrap()
}

/// Waits until something holds, looking again after each event of the fleet and at least each 20 ms.
pub(crate) async fn until(what: &str, fleet: &Fleet, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        let mut heard = fleet.hub().subscribe(4_096, |_| true);
        while !holds().await {
            let _ = timeout(Duration::from_millis(20), heard.next()).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("it did not happen in time: {what}"));
}
