//! Deliveries that end before an agent is called.

#![allow(clippy::panic, clippy::unwrap_used)] // a test

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use catalog::{Catalog, Manifest};
use events::{Feed, Hub};
use fleet::{
    Fleet, FleetConfig, NewWorkspace, ProvisionSettings, Registration, RuntimeTemplates, rules::DeliveryMode,
};
use isomer_messaging::{
    Answer, Caller, Credential, DeliveryError, Limits, MessageHeaders, Messaging, QueueRoom, SendRequest,
};
use provision::{Backend, BackendError, ContainerSpec, Observation, OwnedContainer};
use serde_json::json;
use state::State;
use store::{
    Cipher, Store,
    activity::{ActivityFilter, RECEIVED},
    workspaces::Status,
};
use tempfile::TempDir;
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout},
};
use types::WorkspaceId;
use wasm::{AotCache, Sandbox};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Attempts of the containers that run, by workspace.
#[derive(Default)]
struct FakeBackend(Mutex<HashMap<WorkspaceId, i32>>);

#[async_trait]
impl Backend for FakeBackend {
    async fn ensure(&self, spec: &ContainerSpec) -> Result<Option<String>, BackendError> {
        self.0.lock().unwrap().insert(spec.workspace, spec.attempt);
        Ok(None)
    }

    async fn observe(&self, workspace: WorkspaceId) -> Observation {
        match self.0.lock().unwrap().get(&workspace) {
            Some(attempt) => Observation::Running { attempt: *attempt, url: None },
            None => Observation::Absent,
        }
    }

    async fn stop(&self, workspace: WorkspaceId) -> Result<(), BackendError> {
        self.0.lock().unwrap().remove(&workspace);
        Ok(())
    }

    async fn remove(&self, workspace: WorkspaceId, _: bool) -> Result<(), BackendError> {
        self.stop(workspace).await
    }

    async fn list(&self) -> Result<Vec<OwnedContainer>, BackendError> {
        Ok(Vec::new())
    }
}

async fn until(what: &str, fleet: &Fleet, holds: impl Fn() -> bool) {
    let waiting = async {
        let mut events = fleet.hub().subscribe(4_096, |_| true);
        while !holds() {
            let _ = timeout(Duration::from_millis(20), events.next()).await;
        }
    };
    timeout(TIMEOUT, waiting).await.unwrap_or_else(|_| panic!("it did not happen in time: {what}"));
}

/// A server's fleet with a fake engine.
struct Deployment {
    fleet: Fleet,
    messaging: Messaging,
    backend: Arc<FakeBackend>,
    reconciler: AbortHandle,
    directory: TempDir,
}

impl Deployment {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn restart(self) -> Self {
        self.reconciler.abort();
        Self::start_in(self.directory).await
    }

    async fn start_in(directory: TempDir) -> Self {
        let store = Store::connect(&format!("sqlite:{}", directory.path().join("isomer.db").display()))
            .await
            .unwrap();
        let cache = AotCache::open(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-guests")).unwrap();
        let sandbox = Sandbox::new(wasm::Limits::default(), Some(cache)).unwrap();
        let components = directory.path().join("components");
        let catalog =
            Catalog::open(sandbox, store.clone(), &components, Feed::default(), Manifest::default())
                .await
                .unwrap();
        let backend = Arc::new(FakeBackend::default());
        let (state, _) = State::open(store, Hub::default()).await.unwrap();
        let config = FleetConfig {
            state,
            runtimes: Arc::new(catalog.clone()),
            backend: Some(Arc::clone(&backend) as _),
            cipher: Cipher::new(None, None, false).unwrap(),
            templates: RuntimeTemplates::open(None),
            limits: fleet::Limits::default(),
            provision: ProvisionSettings::default(),
            saas: false,
            addresses: Default::default(),
            host_directories: Default::default(),
        };
        let fleet = Fleet::open(config).await;
        let limits = Limits {
            server_lease: TIMEOUT,
            header_timeout: TIMEOUT,
            idle_timeout: TIMEOUT,
            calls: 10,
            is_development: false,
            calls_of_strangers: 10,
            calls_each: 10,
            queue: QueueRoom { messages: 10, bytes: 1 << 20, total_bytes: 1 << 20 },
        };
        let messaging = Messaging::new(fleet.clone(), catalog, limits, Default::default());
        let reconciled = fleet.clone();
        let reconciler = tokio::spawn(async move { reconciled.reconcile(|| ()).await }).abort_handle();
        Self { fleet, messaging, backend, reconciler, directory }
    }

    async fn create(&self, new: NewWorkspace) -> WorkspaceId {
        self.fleet.create(NewWorkspace { name: "Agent".to_owned(), ..new }, "test").await.unwrap().row.id
    }

    /// An agent reports, under a URL where nothing listens.
    async fn register(&self, id: WorkspaceId) {
        let registration = Registration {
            id,
            url: "http://localhost:1".to_owned(),
            card: json!({}),
            mode: Some(DeliveryMode::Push),
            may_create: false,
            may_get_token: true,
            root: None,
            proved: true,
        };
        self.fleet.register(registration).await.unwrap();
    }
}

fn message(target: WorkspaceId) -> SendRequest {
    let body = json!({ "method": "message/send", "params": { "message": { "content": "hello" } } });
    SendRequest {
        target,
        body: body.to_string().into(),
        caller: Caller::User,
        deadline: None,
        credential: Credential::Own,
        idempotency_key: None,
        headers: MessageHeaders::default(),
    }
}

/// a2a.md §6.
#[tokio::test]
async fn a_message_to_a_hibernated_workspace_wakes_it() {
    let deployment = Deployment::start().await;
    let Deployment { fleet, messaging, backend, .. } = &deployment;
    let new = NewWorkspace { runtime: Some("langgraph".to_owned()), ..NewWorkspace::default() };
    let id = deployment.create(new).await;
    let attempt = || backend.0.lock().unwrap().get(&id).copied();
    until("the container runs", fleet, || attempt() == Some(1)).await;
    deployment.register(id).await;
    fleet.hibernate(id, false).await.unwrap();
    assert_eq!(attempt(), None);

    let error = messaging.deliver(message(id)).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Waking), "{error}");
    assert_eq!(error.to_string(), "workspace is waking from hibernation — retry in ~15 seconds");
    until("a second attempt runs", fleet, || attempt() == Some(2)).await;
    let error = messaging.deliver(message(id)).await.unwrap_err();
    assert!(matches!(error, DeliveryError::NoUrl { status: Status::Provisioning }), "{error}");
    deployment.reconciler.abort();
}

/// The sender's time covers the adapter, which may have to be compiled first.
#[tokio::test]
async fn a_message_that_is_not_translated_in_time_waits_in_the_queue() {
    let deployment = Deployment::start().await;
    let new =
        NewWorkspace { runtime: Some("claude-code".to_owned()), external: true, ..NewWorkspace::default() };
    let id = deployment.create(new).await;
    deployment.register(id).await;
    // No guest is compiled yet.
    let deployment = deployment.restart().await;
    let late = SendRequest { deadline: Some(Instant::now()), ..message(id) };
    let Answer::Whole(reply) = deployment.messaging.deliver(late).await.unwrap() else {
        panic!("it isn't a stream");
    };
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status, 202, "{text}");
    let filter = ActivityFilter {
        workspace: id,
        activity_type: Some(RECEIVED.to_owned()),
        by_agents: None,
        peer: None,
        before: None,
        since: None,
        after: None,
        oldest_first: false,
        limit: 9,
        bytes: u64::MAX,
    };
    let rows = deployment.fleet.store().activity(&filter).await.unwrap().rows;
    let details: Vec<_> = rows.iter().map(|row| row.error_detail.as_deref()).collect();
    assert_eq!(details, [Some("its runtime's adapter was not ready in time")]);
    deployment.reconciler.abort();
}
