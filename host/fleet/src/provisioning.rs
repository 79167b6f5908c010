//! From a row to the container that is to be run: gathers what the pure plan of `provision` needs.

use std::collections::BTreeMap;

use catalog::PlanError;
use provision::{ContainerSpec, Directory, NotReady, Request, Runtime, Workspace};
use store::{StoreError, secrets::SecretRow, workspaces::WorkspaceRow};

use crate::{
    fleet::Fleet,
    rules::WorkspaceAccess,
    runtimes::Adapter,
    templates::{RuntimeTemplate, RuntimeTemplates},
};

impl Fleet {
    /// The container of a workspace's present attempt, or why there is none.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) async fn plan_container(
        &self,
        row: &WorkspaceRow,
    ) -> Result<Result<ContainerSpec, NotReady>, StoreError> {
        let secrets = match self.open_secrets(row).await? {
            Ok(secrets) => secrets,
            Err(not_ready) => return Ok(Err(not_ready)),
        };
        let adapter = self.inner.runtimes.adapter(&row.runtime, Some(row.id)).await;
        let template = self.start_template(row, adapter.as_ref()).await;
        let template = template.as_ref().map(|template| provision::RuntimeTemplate {
            directory: &template.directory,
            required_env: &template.required_env,
            config: template.config.as_deref(),
        });
        let settings = &self.inner.provision;
        let request = Request { workspace: workspace(row), template, secrets: &secrets, settings };
        let plan = match adapter.plan(&request.for_adapter()).await {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(without_plan(row.runtime.clone(), error))),
        };
        Ok(provision::plan(&request, &Runtime { description: adapter.description(), plan: &plan }))
    }

    /// Secrets by name: those of all workspaces, and over them the workspace's own.
    async fn open_secrets(
        &self,
        row: &WorkspaceRow,
    ) -> Result<Result<BTreeMap<String, String>, NotReady>, StoreError> {
        let store = self.store();
        let (global, own) = (store.global_secrets().await?, store.workspace_secrets(row.id).await?);
        let mut secrets = BTreeMap::new();
        for (rows, not_ready) in [(global, NotReady::GlobalSecret), (own, NotReady::WorkspaceSecret)] {
            for row in rows {
                let Some(value) = self.open_secret(&row) else { return Ok(Err(not_ready)) };
                if provision::is_ignored_secret(&row.key) {
                    tracing::warn!(
                        secret = row.key,
                        "a secret is not used: only the platform sets that variable"
                    );
                }
                secrets.insert(row.key, value);
            }
        }
        Ok(Ok(secrets))
    }

    fn open_secret(&self, row: &SecretRow) -> Option<String> {
        let opened = self.credentials().open(row);
        let opened = opened.inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            tracing::warn!(owner = ?row.owner, key = row.key, error, "a secret can't be opened");
        });
        String::from_utf8(opened.ok()?).ok()
    }

    /// The template of a start. What templates declare is read again with it, so that a changed file counts
    /// from the next start on.
    async fn start_template(&self, row: &WorkspaceRow, adapter: &dyn Adapter) -> Option<RuntimeTemplate> {
        let first_attempt = row.attempt <= 1;
        let named = row.spec.template.clone();
        let of_org = row.spec.org.is_some();
        let defaults = adapter.description().template_dirs.clone();
        let find = move |templates: &RuntimeTemplates| {
            templates.reload();
            let named = named.filter(|name| !name.is_empty());
            match named.as_deref() {
                Some(name) if first_attempt => {
                    templates.find(name).ok().flatten().or_else(|| templates.first_of(&defaults))
                }
                None if first_attempt && !of_org => None,
                _ => templates.first_of(&defaults),
            }
        };
        self.inner.templates.read(find).await
    }
}

fn without_plan(runtime: String, error: PlanError) -> NotReady {
    match error {
        PlanError::Refused(problem) => NotReady::Adapter { runtime, problem: problem.message },
        PlanError::NoAnswer(no_answer) => NotReady::NoPlan {
            runtime,
            why: no_answer.to_string(),
            reason: no_answer.reason(),
            is_transient: no_answer.is_transient(),
        },
    }
}

fn workspace(row: &WorkspaceRow) -> Workspace<'_> {
    let read_only = row.workspace_access == WorkspaceAccess::ReadOnly;
    let isolated = row.workspace_access == WorkspaceAccess::None;
    Workspace {
        id: row.id,
        attempt: row.attempt,
        name: &row.name,
        role: row.role.as_deref(),
        tier: row.tier,
        runtime: &row.runtime,
        parent_id: row.parent_id,
        model: row.spec.model.as_deref(),
        directory: match row.workspace_dir.as_deref().filter(|_| !isolated) {
            Some(path) => Directory::Host { path, read_only },
            None => Directory::Volume,
        },
    }
}
