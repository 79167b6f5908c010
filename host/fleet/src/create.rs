//! Creation of a workspace: everything is checked first, then one change writes all of it.

use std::collections::{BTreeMap, HashSet};

use catalog::UndecidedRuntime;
use credentials::{Maker, NewToken, SealError};
use net::UrlError;
use store::{
    Change,
    layouts::{LayoutRow, PutLayouts},
    secrets::{PutSecrets, SecretRow},
    setups::{InsertSetups, SetupRow},
    tokens::{InsertToken, TokenKind},
    workspaces::{Hosting, InsertWorkspaces, PausedAbove, WorkspaceIsLive, WorkspaceRow},
};
use types::{InitialMemory, WorkspaceId, WorkspaceSetup, WorkspaceSpec, clip, defaults};
use wasm::adapter::{Phase, PlanRequest};

use crate::{
    error::WorkspaceError,
    fleet::{Fleet, Planned},
    new_row::NewWorkspaceRow,
    rules::{
        self, DeliveryMode, FieldError, InvalidAccess, InvalidDirectory, InvalidMode, SecretError,
        WorkspaceAccess,
    },
    templates::{InvalidRuntimeTemplate, RuntimeTemplate, RuntimeTemplates},
};

/// Bytes of a refused secret's name that are repeated.
const SHOWN_KEY_BYTES: usize = 128;

/// Variations of a name that are tried when siblings have it: ` (2)` to ` (99)`.
const NAMES: u32 = 99;

/// A request for a workspace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewWorkspace {
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub role: Option<String>,
    /// Name of the runtime template that it is made from.
    pub template: Option<String>,
    /// 1 to 4; 0: the default.
    pub tier: i64,
    /// Model of its agent.
    pub model: Option<String>,
    /// What runs in it.
    pub runtime: Option<String>,
    /// Its operator runs the agent.
    pub external: bool,
    /// Where that agent is reached.
    pub url: Option<String>,
    /// `push` or `poll`.
    pub delivery_mode: Option<String>,
    /// Directory of the host that it works in.
    pub workspace_dir: Option<String>,
    /// What it may do there.
    pub workspace_access: Option<String>,
    /// The workspace above it.
    pub parent_id: Option<String>,
    /// Cents per month.
    pub budget_limit: Option<i64>,
    /// Its secrets, in plain text.
    pub secrets: BTreeMap<String, String>,
    /// Tasks that it takes at once; below 1 counts as 1.
    pub max_concurrent_tasks: i64,
    /// Its place on the canvas.
    pub position: Option<(f64, f64)>,
    /// What its agent remembers from the start. Kept in its setup until there is a memory to fill.
    pub initial_memories: Vec<InitialMemory>,
}

/// A workspace that was created.
#[derive(Debug)]
pub struct Created {
    /// Its row, as it was inserted.
    pub row: WorkspaceRow,
    /// Token for an agent that its operator runs and that hasn't called yet. Shown once.
    pub token: Option<NewToken>,
}

/// Why a workspace was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A field is invalid.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The host directory is not allowed.
    #[error(transparent)]
    Directory(#[from] InvalidDirectory),
    /// The access to the host directory is invalid.
    #[error(transparent)]
    Access(#[from] InvalidAccess),
    /// The delivery mode is invalid.
    #[error(transparent)]
    Mode(#[from] InvalidMode),
    /// The name or value of a secret is invalid.
    #[error("{error}")]
    Secret {
        /// The name, cut where it is long.
        key: String,
        /// What is wrong with it.
        error: SecretError,
    },
    /// A secret could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The name of the runtime template is invalid.
    #[error(transparent)]
    Template(#[from] InvalidRuntimeTemplate),
    /// The agent's URL is not allowed.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The parent doesn't exist.
    #[error("parent workspace not found")]
    NoParent,
    /// It is not known yet whether the runtime exists.
    #[error(transparent)]
    Undecided(#[from] UndecidedRuntime),
    /// The workspace could not be read or changed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

/// A new workspace, checked.
struct Checked {
    row: WorkspaceRow,
    secrets: Vec<SecretRow>,
    setup: Option<SetupRow>,
    position: (f64, f64),
}

impl Fleet {
    /// Creates a workspace. Its name gets a number where siblings have it.
    ///
    /// # Errors
    /// If a field is invalid; then nothing is created.
    pub async fn create(&self, new: NewWorkspace, by: impl Into<Maker>) -> Result<Created, CreateError> {
        let by = by.into();
        let checked = self.check(&new).await?;
        let mut taken: HashSet<String> = HashSet::new();
        for number in 1..=NAMES {
            let parent = checked.row.parent_id;
            taken.extend(self.workspaces().children(parent).iter().map(|sibling| sibling.row.name.clone()));
            let name = if number == 1 { new.name.clone() } else { format!("{} ({number})", new.name) };
            if taken.contains(&name) {
                continue;
            }
            match self.insert(&checked, name.clone(), &by).await {
                Err(CreateError::Workspace(WorkspaceError::NameTaken)) => taken.insert(name),
                done => return done,
            };
        }
        Err(WorkspaceError::NameTaken.into())
    }

    async fn insert(&self, checked: &Checked, name: String, by: &Maker) -> Result<Created, CreateError> {
        self.change(|fleet: &Self| {
            let now = store::now();
            let mut row = WorkspaceRow { name: name.clone(), ..checked.row.clone() };
            if row.parent_id.is_some_and(|parent| fleet.workspaces().get(parent).is_none()) {
                return Err(CreateError::NoParent);
            }
            let below_paused = row.parent_id.is_some_and(|parent| fleet.workspaces().is_paused(parent));
            let begun = fleet.begin(row, below_paused);
            row = begun.row;
            // Its agent has still to call, now or after a pause.
            let waits = row.hosting == Hosting::Operator && row.url.is_none();
            let token = waits.then(|| NewToken::of_workspace(TokenKind::Agent, row.id, by.clone(), now));
            let (x, y) = checked.position;
            let layout = LayoutRow { workspace_id: row.id, x, y, collapsed: false };
            let mut change = Change::of(InsertWorkspaces(vec![row.clone()]))
                .with(PutLayouts(vec![layout]))
                .with(PutSecrets(checked.secrets.clone()))
                .with(InsertSetups(checked.setup.clone().into_iter().collect()));
            if let Some(parent) = row.parent_id {
                change.push_precondition(WorkspaceIsLive(parent));
                change.push_precondition(PausedAbove { id: parent, is_paused: below_paused });
            }
            if let Some(token) = &token {
                change.push(InsertToken(token.row.clone()));
            }
            change.events = begun.events.into_iter().map(|event| (Some(row.id), event)).collect();
            Ok(Planned { change, done: Created { row, token } })
        })
        .await
    }

    async fn check(&self, new: &NewWorkspace) -> Result<Checked, CreateError> {
        let role = new.role.clone().filter(|role| !role.is_empty());
        rules::name(&new.name)?;
        role.as_deref().map_or(Ok(()), rules::role)?;
        new.model.as_deref().map_or(Ok(()), rules::model)?;
        new.runtime.as_deref().map_or(Ok(()), rules::runtime)?;
        let tier = rules::new_tier(new.tier)?.unwrap_or(self.default_tier());
        let template = self.template(new.template.clone().filter(|name| !name.is_empty())).await?;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let of_template = template.as_ref();
        let runtime = given(&new.runtime).or_else(|| of_template.and_then(|t| t.runtime.clone()));
        let model = given(&new.model).or_else(|| of_template.and_then(|t| t.model.clone()));
        let asked = runtime.as_deref().unwrap_or(defaults::RUNTIME);
        if let Some(ready) = self.inner.runtimes.ready(asked) {
            ready.await;
        }
        self.inner.runtimes.check_decided(asked)?;
        let runtime = match runtime {
            None if new.external => defaults::OPERATOR_RUNTIME.to_owned(),
            runtime => self.inner.runtimes.sanitize(runtime.as_deref().unwrap_or(defaults::RUNTIME)),
        };
        let hosting =
            if new.external { Hosting::Operator } else { self.inner.runtimes.info(&runtime).hosting };

        let workspace_dir = new.workspace_dir.clone().filter(|dir| !dir.is_empty());
        workspace_dir.as_deref().map_or(Ok(()), |dir| self.host_directories().check(dir))?;
        let access = new.workspace_access.as_deref().unwrap_or_default();
        let access = WorkspaceAccess::asked(access, workspace_dir.is_some())?;
        let delivery_mode = DeliveryMode::asked(new.delivery_mode.as_deref().unwrap_or_default())?;
        let url = new.url.clone().filter(|url| hosting == Hosting::Operator && !url.is_empty());
        if let Some(url) = &url {
            self.check_agent_url(url).await?;
        }
        let parent_id = match new.parent_id.as_deref().filter(|parent| !parent.is_empty()) {
            Some(parent) => Some(WorkspaceId::parse(parent).map_err(|_| CreateError::NoParent)?),
            None => None,
        };
        let id = WorkspaceId::random();
        let secrets = self.sealed(id, new, &runtime, tier, model.as_deref()).await?;
        let blueprint = NewWorkspaceRow {
            id,
            name: new.name.clone(),
            role,
            tier,
            runtime,
            hosting,
            parent_id,
            delivery_mode,
            workspace_dir,
            workspace_access: access,
            budget_limit: new.budget_limit,
            max_concurrent_tasks: i32::try_from(new.max_concurrent_tasks.max(1)).unwrap_or(i32::MAX),
            url,
            spec: WorkspaceSpec { template: new.template.clone(), model, ..WorkspaceSpec::default() },
        };
        let setup =
            WorkspaceSetup { initial_memories: new.initial_memories.clone(), ..WorkspaceSetup::default() };
        let setup = SetupRow::of(id, &setup);
        let row = blueprint.row();
        Ok(Checked { row, secrets, setup, position: new.position.unwrap_or_default() })
    }

    /// The named template, if it exists. How long starts may take is read again with it.
    async fn template(
        &self,
        name: Option<String>,
    ) -> Result<Option<RuntimeTemplate>, InvalidRuntimeTemplate> {
        let find = move |templates: &RuntimeTemplates| {
            templates.reload();
            name.map_or(Ok(None), |name| templates.find(&name))
        };
        self.inner.templates.read(find).await
    }

    /// The given secrets, and over them the chosen model and the provider that its name hints at.
    async fn sealed(
        &self,
        id: WorkspaceId,
        new: &NewWorkspace,
        runtime: &str,
        tier: i32,
        model: Option<&str>,
    ) -> Result<Vec<SecretRow>, CreateError> {
        for (key, value) in &new.secrets {
            let refused = |error| CreateError::Secret { key: clip(key.clone(), SHOWN_KEY_BYTES), error };
            rules::secret_key(key).and_then(|()| rules::secret_value(value)).map_err(refused)?;
        }
        let mut secrets = new.secrets.clone();
        if let Some(model) = model {
            let provider = self.provider(runtime, &new.name, tier, model).await;
            secrets.insert("MODEL_PROVIDER".to_owned(), model.to_owned());
            secrets.extend(provider.map(|provider| ("LLM_PROVIDER".to_owned(), provider)));
        }
        Ok(self.credentials().seal_secrets(id, secrets)?)
    }

    /// The provider that a model's name hints at, by the runtime's adapter.
    async fn provider(&self, runtime: &str, name: &str, tier: i32, model: &str) -> Option<String> {
        let request = PlanRequest {
            phase: Phase::Create,
            reset_session: false,
            runtime: runtime.to_owned(),
            workspace_name: name.to_owned(),
            role: None,
            tier: u8::try_from(tier).unwrap_or(1),
            model: Some(model.to_owned()),
            secret_keys: Vec::new(),
            visible_env: Vec::new(),
            template_config: None,
            extras: serde_json::Map::new(),
        };
        // An adapter that objects or gives no answer has no hint; the workspace learns why when it is started.
        self.inner.runtimes.adapter(runtime, None).await.plan(&request).await.ok()?.provider
    }
}
