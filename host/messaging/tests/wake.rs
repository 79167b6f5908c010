//! A message to a hibernated workspace wakes it: a2a.md §6.

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
use isomer_messaging::{Caller, DeliveryError, Limits, MessageHeaders, Messaging, SendRequest};
use provision::{Backend, BackendError, ContainerSpec, Observation, OwnedContainer};
use serde_json::json;
use state::State;
use store::{Cipher, Store, workspaces::Status};
use tokio::time::timeout;
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

#[tokio::test]
async fn a_message_to_a_hibernated_workspace_wakes_it() {
    let directory = tempfile::tempdir().unwrap();
    let store =
        Store::connect(&format!("sqlite:{}", directory.path().join("isomer.db").display())).await.unwrap();
    let cache = AotCache::open(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-guests")).unwrap();
    let sandbox = Sandbox::new(wasm::Limits::default(), Some(cache)).unwrap();
    let components = directory.path().join("components");
    let catalog = Catalog::open(sandbox, store.clone(), &components, Feed::default(), Manifest::default())
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
    };
    let fleet = Fleet::open(config).await;
    let limits = Limits { server_lease: TIMEOUT, header_timeout: TIMEOUT, idle_timeout: TIMEOUT };
    let messaging = Messaging::new(fleet.clone(), catalog, limits, Default::default());
    let reconciler = tokio::spawn({
        let fleet = fleet.clone();
        async move { fleet.reconcile(|| ()).await }
    });

    let new = NewWorkspace {
        name: "Sleeper".to_owned(),
        runtime: Some("langgraph".to_owned()),
        ..NewWorkspace::default()
    };
    let id = fleet.create(new, "test").await.unwrap().row.id;
    let attempt = || backend.0.lock().unwrap().get(&id).copied();
    until("the container runs", &fleet, || attempt() == Some(1)).await;
    let registration = Registration {
        id,
        url: "http://localhost:1".to_owned(),
        card: json!({}),
        mode: Some(DeliveryMode::Push),
        may_create: false,
        proved: true,
    };
    fleet.register(registration).await.unwrap();
    fleet.hibernate(id, false).await.unwrap();
    assert_eq!(attempt(), None);

    let body = json!({ "method": "message/send", "params": { "message": { "content": "hello" } } });
    let message = SendRequest {
        target: id,
        body: body.to_string().into(),
        caller: Caller::User,
        deadline: None,
        headers: MessageHeaders::default(),
    };
    let error = messaging.deliver(message.clone()).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Waking), "{error}");
    assert_eq!(error.to_string(), "workspace is waking from hibernation — retry in ~15 seconds");
    until("a second attempt runs", &fleet, || attempt() == Some(2)).await;
    let error = messaging.deliver(message).await.unwrap_err();
    assert!(matches!(error, DeliveryError::NoUrl { status: Status::Provisioning }), "{error}");
    reconciler.abort();
}
