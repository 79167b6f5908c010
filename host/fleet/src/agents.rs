//! Calls of agents: registration, heartbeat, change of the agent card.
//!
//! Heartbeats are the most frequent calls. One that changes nothing visible costs no statement: presence is
//! kept in memory, and written behind at intervals.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use credentials::{Maker, NewToken};
use events::{
    Event,
    definitions::{CardUpdated, Heartbeat, Task},
};
use net::UrlError;
use serde_json::Value;
use store::{
    Change, EventFilter,
    presence::PresenceRow,
    tokens::{InsertToken, NeverHadToken, TokenKind},
    workspaces::{Hosting, InsertWorkspaces, Status, UpdateWorkspaces, WorkspaceIsLive, WorkspaceRow},
};
use tokio::time::timeout;
use types::{TokenId, WorkspaceId, WorkspaceSpec, clip};

use crate::{
    agent_states::Metadata,
    error::WorkspaceError,
    event,
    fleet::{Fleet, Planned, transitions},
    machine::{self, Input},
    new_row::NewWorkspaceRow,
    presence::PresenceObserver,
    rules::{DeliveryMode, REPORTED_BYTES, WorkspaceAccess},
};

/// Runtime of a workspace that registered itself and polls for messages.
const POLLING_RUNTIME: &str = "external";

/// Runtime of a workspace that registered itself and gets messages pushed.
const PUSHED_RUNTIME: &str = "langgraph";

/// Tier of a workspace that registered itself.
const TIER: i32 = 3;

/// How the URL of an agent begins that can't be called.
const UNREACHABLE_PREFIX: &str = "remote://";

/// How often presence is stored that changed in nothing but its time.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(30);

/// How long a heartbeat waits for the database at most, for each of its steps that need it.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// Cents a month that an agent may claim to have spent.
const SPEND: std::ops::RangeInclusive<i64> = 0..=1_000_000_000_000;

/// A registration of an agent.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Its workspace.
    pub id: WorkspaceId,
    /// URL of the agent; empty for none.
    pub url: String,
    /// The agent's card.
    pub card: Value,
    /// Delivery mode that the agent asks for, if any.
    pub mode: Option<DeliveryMode>,
    /// Whether the agent may create its own workspace where none has that id.
    pub may_create: bool,
    /// Whether the agent gets a token where its workspace has none.
    pub may_get_token: bool,
    /// Where the call carried another token, the first of those that led to it: it makes the agent's.
    pub root: Option<TokenId>,
    /// The call carried a token of the workspace. A workspace that never had a token needs none.
    pub proved: bool,
}

/// Outcome of a registration.
#[derive(Debug)]
pub struct Registered {
    /// Delivery mode of the workspace from now on.
    pub mode: DeliveryMode,
    /// Why messages will not reach it, though it is registered.
    pub problem: Option<UrlError>,
    /// A token, if its workspace had none. Shown once.
    pub token: Option<NewToken>,
    /// Proves the platform to the agent. Only for a caller that proved itself, or gets its token now.
    pub inbound_secret: Option<String>,
}

/// Why an agent was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The workspace has or had a token, and the caller presented no valid one.
    #[error("missing workspace auth token")]
    Unproven,
    /// The workspace has no agent.
    #[error(
        "runtime {runtime} has no agent that could register: its workspaces are answered for by its adapter"
    )]
    Synthetic {
        /// Its runtime.
        runtime: String,
    },
    /// Messages are to be pushed, and the agent named no URL.
    #[error("url is required for push-mode workspaces")]
    NoUrl,
    /// The agent's URL is not allowed.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The workspace could not be read or changed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

/// A heartbeat.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Its workspace.
    pub id: WorkspaceId,
    /// Share of failed calls.
    pub error_rate: f64,
    /// Text of a recent error.
    pub sample_error: String,
    /// Tasks in progress.
    pub active_tasks: i32,
    /// Description of the present task.
    pub current_task: String,
    /// Seconds since it started.
    pub uptime_seconds: i64,
    /// Cents spent this month; 0 where the agent doesn't report it.
    pub monthly_spend: i64,
    /// `wedged` or empty; none where the heartbeat has no such field.
    pub runtime_state: Option<String>,
    /// Capabilities; none where the heartbeat has no metadata.
    pub metadata: Option<Metadata>,
    /// The call carried a token of the workspace.
    pub proved: bool,
}

impl Report {
    /// With texts of bounded size: a heartbeat is worth more than the end of a long text.
    fn clipped(self) -> Self {
        Self {
            sample_error: clip(self.sample_error, REPORTED_BYTES),
            current_task: clip(self.current_task, REPORTED_BYTES),
            runtime_state: self.runtime_state.map(|state| clip(state, REPORTED_BYTES)),
            ..self
        }
    }
}

/// Outcome of a heartbeat.
#[derive(Debug)]
pub struct Acknowledged {
    /// Proves the platform to the agent. Only for a caller that proved itself.
    pub inbound_secret: Option<String>,
}

impl Fleet {
    /// Adds an observer for as long as the fleet lives. An observer must not hold the fleet: that would
    /// keep its writer from ending.
    pub fn observe_presence(&self, observer: Arc<dyn PresenceObserver>) {
        self.inner.presence_observers.add(observer);
    }

    /// Whether the agent's last heartbeat with metadata claims this capability.
    #[must_use]
    pub fn has_capability(&self, id: WorkspaceId, capability: &str) -> bool {
        self.inner.agents.has_capability(id, capability)
    }

    /// How long its agent may be silent during a message, where the last heartbeat with metadata says so.
    #[must_use]
    pub fn idle_timeout(&self, id: WorkspaceId) -> Option<Duration> {
        self.inner.agents.idle_timeout(id)
    }

    /// Records that a workspace sent a message just now: readable at once, stored within 30 s.
    pub fn record_outbound(&self, id: WorkspaceId) {
        self.workspaces().put_outbound(id, store::now());
        self.write_presence(id, false);
    }

    /// Registers an agent: its workspace is online, unless its desired state is another one.
    ///
    /// # Errors
    /// If there is no such workspace and the agent may not create one, or its URL is refused.
    pub async fn register(&self, registration: Registration) -> Result<Registered, RegisterError> {
        let known = self.workspaces().get(registration.id);
        let uncallable = registration.url.starts_with(UNREACHABLE_PREFIX);
        let known_row = known.as_ref().map(|known| known.row.as_ref());
        known_row.map_or(Ok(()), has_agent)?;
        let mode = match (known_row, registration.mode) {
            // How the platform reaches what it runs is not the agent's to say.
            (Some(row), _) if row.hosting == Hosting::Container => row.delivery_mode,
            _ if uncallable => DeliveryMode::Poll,
            (row, given) => given.or(row.map(|row| row.delivery_mode)).unwrap_or(DeliveryMode::Push),
        };
        let ours = known.as_ref().is_some_and(|known| machine::has_platform_url(&known.row));
        if mode == DeliveryMode::Push && !ours {
            if registration.url.is_empty() {
                return Err(RegisterError::NoUrl);
            }
            self.check_agent_url(&registration.url).await?;
        }
        let plan = |fleet: &Self| fleet.plan_registration(&registration, mode);
        let mut registered = match self.change(plan).await {
            // Another request registered it a moment ago, or it is removed.
            Err(RegisterError::Workspace(WorkspaceError::NameTaken)) => {
                self.state().refresh(&[registration.id]).await.map_err(WorkspaceError::Store)?;
                let registration = Registration { may_create: false, ..registration.clone() };
                self.change(|fleet: &Self| fleet.plan_registration(&registration, mode)).await?
            }
            registered => registered?,
        };
        self.inner.agents.forget_state(registration.id);
        let before = self.presence(registration.id);
        let presence = PresenceRow { last_seen_at: Some(call_time(&before)), ..before };
        self.record_presence(presence, true);
        self.inner.presence_observers.on_heartbeat(registration.id);
        // A new token proves the next calls: the agent gets the secret together with it.
        if registration.proved || registered.token.is_some() {
            registered.inbound_secret = self.credentials().inbound_secret(registration.id).await;
        }
        Ok(registered)
    }

    fn plan_registration(
        &self,
        registration: &Registration,
        mode: DeliveryMode,
    ) -> Result<Planned<Registered>, RegisterError> {
        let (id, now) = (registration.id, store::now());
        if !registration.proved && self.state().tokens().ever_had_any(id) {
            return Err(RegisterError::Unproven);
        }
        // The URL of an agent that polls isn't checked, because it is never called.
        let called = mode == DeliveryMode::Push && !registration.url.is_empty();
        let problem = if called { self.inner.addresses.problem(&registration.url) } else { None };
        let url = called.then(|| registration.url.clone());
        let mut change = match self.workspaces().get(id) {
            Some(known) => {
                has_agent(&known.row)?;
                let input = Input::Registered { url, card: registration.card.clone(), delivery_mode: mode };
                transitions([(known.row.as_ref(), input)], now).require(WorkspaceIsLive(id))
            }
            None if registration.may_create => {
                let row = self.self_registered_row(registration, mode, url);
                let event = event::registered(&row);
                Change::of(InsertWorkspaces(vec![row])).with_event(id, event)
            }
            None => return Err(WorkspaceError::NotFound.into()),
        };
        let token = (registration.may_get_token && !self.state().tokens().has_any(id)).then(|| {
            let by = Maker { name: "register".to_owned(), root: registration.root };
            NewToken::of_workspace(TokenKind::Agent, id, by, now)
        });
        if let Some(token) = &token {
            change.push(InsertToken(token.row.clone()));
        }
        if !registration.proved {
            // The index may not know yet what another server issued and revoked a moment ago.
            change = change.require(NeverHadToken(id));
        }
        Ok(Planned { change, done: Registered { mode, problem, token, inbound_secret: None } })
    }

    /// Whether the platform may call an agent at this address.
    ///
    /// # Errors
    /// Says why not.
    pub async fn check_agent_url(&self, url: &str) -> Result<(), UrlError> {
        self.inner.addresses.check(url).await
    }

    /// Whether the platform may call agents at these addresses. Their names are looked up together, for half a minute.
    pub async fn check_agent_urls(&self, urls: &[&str]) -> Vec<Result<(), UrlError>> {
        self.inner.addresses.check_all(urls).await
    }

    /// The row of a workspace that was not created before: its agent runs already, in no container of the
    /// platform.
    fn self_registered_row(
        &self,
        registration: &Registration,
        mode: DeliveryMode,
        url: Option<String>,
    ) -> WorkspaceRow {
        let runtime = if mode == DeliveryMode::Poll { POLLING_RUNTIME } else { PUSHED_RUNTIME };
        let new = NewWorkspaceRow {
            id: registration.id,
            name: registration.id.to_string(),
            role: None,
            tier: TIER,
            runtime: runtime.to_owned(),
            hosting: Hosting::Operator,
            parent_id: None,
            delivery_mode: Some(mode),
            workspace_dir: None,
            workspace_access: WorkspaceAccess::None,
            budget_limit: None,
            max_concurrent_tasks: 1,
            url,
            spec: WorkspaceSpec::default(),
        };
        WorkspaceRow {
            status: Status::Online,
            observed_generation: 1,
            agent_card: Some(registration.card.clone()),
            ..new.row()
        }
    }

    /// Records a heartbeat: readable at once.
    ///
    /// # Errors
    /// If there is no such workspace, or a change of its status could not be stored.
    pub async fn heartbeat(&self, report: Report) -> Result<Acknowledged, WorkspaceError> {
        let report = report.clipped();
        let id = report.id;
        let mut workspace = self.live(id)?;
        let before = self.presence(id);
        let partial = report.metadata.is_none() && report.uptime_seconds == 0;
        let presence = PresenceRow {
            workspace_id: id,
            last_seen_at: Some(call_time(&before)),
            last_outbound_at: before.last_outbound_at,
            active_tasks: report.active_tasks,
            current_task: report.current_task.clone(),
            // A report of the task alone changes no other field.
            uptime_seconds: if partial { before.uptime_seconds } else { report.uptime_seconds },
            error_rate: report.error_rate,
            sample_error: Some(report.sample_error.clone()).filter(|error| !error.is_empty()),
            monthly_spend: match report.monthly_spend.clamp(*SPEND.start(), *SPEND.end()) {
                0 => before.monthly_spend,
                spend => spend,
            },
        };
        let (active_tasks, uptime_seconds) = (presence.active_tasks, presence.uptime_seconds);
        let timeless =
            |row: &PresenceRow| PresenceRow { last_seen_at: None, uptime_seconds: 0, ..row.clone() };
        let visible = timeless(&presence) != timeless(&before);
        self.record_presence(presence, visible);
        if self.waited_for_runtime(&workspace.row.runtime).await {
            workspace = self.live(id)?;
        }
        let (self_reports_health, mut runtime_state) = self.update_state(&report, &workspace.row);
        if runtime_state.is_none() && workspace.row.status == Status::Degraded {
            runtime_state = self.restore_state(id).await;
        }
        let heartbeat = machine::Heartbeat {
            error_rate: report.error_rate,
            runtime_state,
            sample_error: report.sample_error,
            self_reports_health,
        };
        let judged = self.judge(&workspace.row, &Input::Heartbeat(heartbeat)).await;
        if report.current_task != before.current_task {
            let task = Task { active_tasks, current_task: report.current_task };
            self.state().publish_ephemeral(id, &Event::TaskUpdated(task));
        }
        self.state()
            .publish_ephemeral(id, &Event::WorkspaceHeartbeat(Heartbeat { active_tasks, uptime_seconds }));
        self.inner.presence_observers.on_heartbeat(id);
        judged?;
        let inbound_secret = if report.proved {
            timeout(HEARTBEAT_TIMEOUT, self.credentials().inbound_secret(id)).await.ok().flatten()
        } else {
            None
        };
        Ok(Acknowledged { inbound_secret })
    }

    /// Changes the status by a heartbeat, where it does.
    ///
    /// A database that can't be written holds up no agent, and what the agent says of itself is kept in
    /// memory. The change of status is left to the next heartbeat then, which is judged by the same rules.
    async fn judge(&self, row: &WorkspaceRow, heartbeat: &Input) -> Result<(), WorkspaceError> {
        if machine::apply(row, heartbeat, store::now()).is_none() || self.state().is_database_failing() {
            return Ok(());
        }
        let judged = self.change::<_, WorkspaceError>(|fleet: &Self| {
            let known = fleet.live(row.id)?;
            let change = transitions([(known.row.as_ref(), heartbeat.clone())], store::now());
            Ok(Planned { change, done: () })
        });
        match timeout(HEARTBEAT_TIMEOUT, judged).await {
            Ok(Err(error)) if error.is_outage() => Ok(()),
            Ok(judged) => judged,
            Err(_) => Ok(()),
        }
    }

    /// Replaces an agent card.
    ///
    /// # Errors
    /// If there is no such workspace, or the card could not be stored.
    pub async fn update_card(&self, id: WorkspaceId, card: Value) -> Result<(), WorkspaceError> {
        self.change(|fleet: &Self| {
            let workspace = fleet.live(id)?;
            let row = WorkspaceRow { agent_card: Some(card.clone()), ..workspace.row.as_ref().clone() };
            let event = Event::AgentCardUpdated(CardUpdated { agent_card: card.clone() });
            let change = Change::of(UpdateWorkspaces(vec![row.revised(store::now())]));
            Ok(Planned { change: change.with_event(id, event), done: () })
        })
        .await
    }

    fn presence(&self, id: WorkspaceId) -> PresenceRow {
        let known = self.workspaces().get(id).and_then(|workspace| workspace.presence.clone());
        known.map_or_else(
            || PresenceRow { workspace_id: id, ..PresenceRow::default() },
            |known| known.as_ref().clone(),
        )
    }

    /// Records presence: in memory at once, in the database soon if the change is visible, else within 30 s.
    fn record_presence(&self, presence: PresenceRow, visible: bool) {
        let id = presence.workspace_id;
        self.workspaces().put_presence(presence);
        self.write_presence(id, visible);
    }

    /// Writes presence behind: soon, or when it was not written for [`PRESENCE_INTERVAL`].
    fn write_presence(&self, id: WorkspaceId, soon: bool) {
        let due = {
            let mut agents = self.inner.agents.lock();
            let agent = agents.entry(id).or_default();
            let due = soon || agent.written.is_none_or(|written| written.elapsed() >= PRESENCE_INTERVAL);
            if due {
                agent.written = Some(Instant::now());
            }
            due
        };
        if due {
            self.state().try_write_behind(self.presence(id));
        }
    }

    /// Keeps metadata and runtime state of a heartbeat. Returns whether the runtime reports its own health, and
    /// the state.
    fn update_state(&self, report: &Report, row: &WorkspaceRow) -> (bool, Option<String>) {
        let mut agents = self.inner.agents.lock();
        let agent = agents.entry(report.id).or_default();
        if report.metadata.is_some() {
            agent.metadata.clone_from(&report.metadata);
        }
        if report.runtime_state.is_some() {
            agent.runtime_state.clone_from(&report.runtime_state);
        }
        let state = agent.runtime_state.clone();
        // A healthy state is not remembered, because a later report may arrive at another server.
        if row.status != Status::Degraded {
            agent.runtime_state = state.clone().filter(|state| !state.is_empty());
        }
        let self_reports_health = match &agent.metadata {
            Some(metadata) => metadata.capabilities.get("status_mgmt").copied().unwrap_or(false),
            None => self.inner.runtimes.info(&row.runtime).self_reports_health,
        };
        (self_reports_health, state)
    }

    /// The state of its runtime with which an agent was degraded, before this server began or by another
    /// server. None where no stored event says so: then the runtime is not known to be well.
    async fn restore_state(&self, id: WorkspaceId) -> Option<String> {
        let filter = EventFilter {
            workspace: Some(id),
            name: Some("WORKSPACE_DEGRADED".to_owned()),
            limit: 1,
            ..EventFilter::default()
        };
        let last = timeout(HEARTBEAT_TIMEOUT, self.store().recent_events(&filter)).await.ok()?;
        let last = last.ok()?.pop()?.event()?;
        let Event::WorkspaceDegraded(degraded) = last else { return None };
        let state = degraded.runtime_state.map(|_| machine::WEDGED).unwrap_or_default();
        let mut agents = self.inner.agents.lock();
        Some(agents.entry(id).or_default().runtime_state.get_or_insert_with(|| state.to_owned()).clone())
    }
}

/// Whether a workspace can have an agent that registers.
fn has_agent(row: &WorkspaceRow) -> Result<(), RegisterError> {
    match row.hosting {
        Hosting::Operator | Hosting::Container => Ok(()),
        Hosting::Synthetic => Err(RegisterError::Synthetic { runtime: row.runtime.clone() }),
    }
}

/// The time of a call after `before`: later than that of any call before it that is known, so that the newest
/// presence wins although clocks are set.
fn call_time(before: &PresenceRow) -> DateTime<Utc> {
    let after = before.last_seen_at.and_then(|last| last.checked_add_signed(TimeDelta::microseconds(1)));
    after.map_or_else(store::now, |after| after.max(store::now()))
}
