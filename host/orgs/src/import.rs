//! Importing an organization. Everything is read and checked first; then one change of the fleet creates the
//! missing workspaces, removes those without a place, and publishes the events. So an import happens
//! completely or not at all, and each `started` event has its `completed` or `failed`.

use std::{cell::RefCell, collections::HashSet, panic::AssertUnwindSafe, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use events::definitions::ImportFailure;
use fleet::{BatchEntry, BatchPlan, NewWorkspaceRow, WorkspaceError};
use futures::FutureExt as _;
use store::{CommitError, setups::SetupRow};
use types::SealedText;

use crate::{
    ImportPermit, Orgs,
    assembler::{Assembler, Assembly, NodeError, ResolvedNode},
    blocking::off_async_threads,
    context::ImportContext,
    error::ImportError,
    files::Files,
    plan::{Action, Plan, names},
    report::{Imported, Mode},
    requirements::Requirements,
    source::{Template, TemplateSource},
};

/// An organization to be imported.
#[derive(Debug)]
pub struct Import {
    /// Where its template is.
    pub source: TemplateSource,
    /// None adds like [`Mode::Merge`]; events repeat the difference.
    pub mode: Option<Mode>,
    /// Answer what would happen, and change nothing.
    pub dry_run: bool,
}

impl Orgs {
    /// Imports an organization.
    ///
    /// # Errors
    /// If the template is missing or invalid, or required settings are missing.
    pub async fn import(&self, import: Import, _: &ImportPermit) -> Result<Imported, ImportError> {
        let started = std::time::Instant::now();
        let Template { dir, files, org } = self.read(import.source).await?;
        let org = Arc::new(org);
        let context =
            ImportContext { fleet: &self.fleet, org: Arc::clone(&org), started, dir, mode: import.mode };
        let requirements = Requirements::of(&org);
        let settings = match self.fleet.credentials().global_secret_names().await {
            Ok(settings) => settings,
            Err(error) => {
                context.record_failure(ImportFailure::SecretsLookupFailed, 0, import.dry_run).await;
                return Err(ImportError::SettingsLookup(error));
            }
        };
        let missing = requirements.missing(&settings);
        if !missing.is_empty() && !import.dry_run {
            context.record_failure(ImportFailure::MissingEnv, missing.len(), false).await;
            let detail = requirements.places(&missing);
            let (required, template) = (requirements.required(), org.name.clone());
            return Err(ImportError::MissingEnv { missing, required, template, detail });
        }
        let applied = AssertUnwindSafe(self.apply(&context, files, settings, import.dry_run)).catch_unwind();
        let imported = match applied.await {
            Ok(applied) => applied?,
            Err(panic) => {
                context.record_failure(ImportFailure::Internal, 0, import.dry_run).await;
                std::panic::resume_unwind(panic);
            }
        };
        Ok(Imported { missing_env: missing, ..imported })
    }

    /// Assembles every workspace of a template. It reads many files, so it runs off the async threads.
    async fn assemble(
        &self,
        context: &ImportContext<'_>,
        files: Files,
        globals: HashSet<String>,
    ) -> Result<Assembly, ImportError> {
        // Templates name any runtimes, by name or alias.
        self.catalog.all_ready().await;
        for runtime in context.org.runtimes() {
            // Some may be written in any case.
            if self.catalog.check_decided(&runtime.to_ascii_lowercase()).is_err() {
                self.catalog.check_decided(runtime)?;
            }
        }
        let (orgs, org, dir) = (self.clone(), Arc::clone(&context.org), context.dir.clone());
        off_async_threads(move || {
            let seal = |plain: &[u8]| {
                let sealed = orgs.fleet.credentials().seal(plain).ok()?;
                Some(SealedText { sealed: BASE64_STANDARD.encode(sealed.bytes), version: sealed.version })
            };
            let assembler = Assembler {
                org: &org,
                dir: &dir,
                files: &files,
                runtimes: &orgs.catalog,
                default_tier: orgs.fleet.default_tier(),
                globals: &globals,
                personas: &orgs.personas_dir,
                variables: &orgs.variables,
                host: orgs.fleet.host_directories(),
                mail_domain: orgs.fleet.mail_domain(),
                setup_bytes: orgs.limits.setup_bytes,
                crons: RefCell::default(),
                seal: &seal,
            };
            assembler.assemble()
        })
        .await
        .map_err(ImportError::from)
    }

    /// Changes the fleet, or with `dry_run` only reports the plan.
    async fn apply(
        &self,
        context: &ImportContext<'_>,
        files: Files,
        settings: HashSet<String>,
        dry_run: bool,
    ) -> Result<Imported, ImportError> {
        let mut assembly = self.assemble(context, files, settings).await?;
        self.check_urls(&mut assembly).await;
        let warnings = context.org.warnings.iter().cloned();
        let warnings = warnings.chain(assembly.notes.sentences()).chain(assembly.unsupported.warnings());
        let warnings: Vec<String> = warnings.collect();
        let reconciles = context.mode == Some(Mode::Reconcile) && assembly.error.is_none();
        let names = reconciles.then(|| names(&context.org));
        let report = |plan: &Plan| context.report(plan, &assembly, &warnings);
        if dry_run {
            return Ok(report(&Plan::of(&assembly.nodes, names.as_ref(), self.fleet.workspaces())));
        }
        let entries: Vec<BatchEntry> = assembly.nodes.iter().map(|node| self.entry(node)).collect();
        let applied = self.fleet.apply_batch(|fleet| {
            let plan = Plan::of(&assembly.nodes, names.as_ref(), fleet.workspaces());
            let imported = report(&plan);
            BatchPlan {
                entries: created(&entries, &assembly.nodes, &plan),
                removed: plan.orphans,
                before: vec![context.started()],
                after: vec![context.completed(&imported)],
                done: imported,
            }
        });
        Ok(match applied.await {
            Ok(imported) => imported,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an import could not be stored");
                let first = assembly.nodes.first().map_or("workspaces", |node| &node.name);
                let nothing =
                    Imported { error: Some(format!("failed to create {first}")), ..report(&Plan::default()) };
                // With an unknown outcome the change may be stored after all, and its events with it.
                if !matches!(error, WorkspaceError::Commit(CommitError::OutcomeUnknown)) {
                    context.record(vec![context.started(), context.completed(&nothing)]).await;
                }
                nothing
            }
        })
    }

    /// Ends the tree at the first external agent whose URL the platform may not call.
    async fn check_urls(&self, assembly: &mut Assembly) {
        let nodes = assembly.nodes.iter().enumerate();
        let external: Vec<_> =
            nodes.filter_map(|(index, node)| Some((index, node, node.url.as_deref()?))).collect();
        let urls: Vec<&str> = external.iter().map(|(.., url)| *url).collect();
        let checked = self.fleet.check_agent_urls(&urls).await;
        let refused = external.iter().zip(checked).find_map(|((index, node, _), checked)| {
            let message = format!("workspace {}: {}", node.name, checked.err()?);
            Some((*index, NodeError { at: node.url_at.clone(), message }))
        });
        if let Some((index, error)) = refused {
            assembly.nodes.truncate(index);
            assembly.error = Some(error);
        }
    }

    /// A workspace to be created with its secrets sealed; its parent is known once there is a plan.
    fn entry(&self, node: &ResolvedNode) -> BatchEntry {
        let mut secrets = Vec::new();
        for (key, value) in &node.secrets {
            // A variable that can't be sealed is left out: the agent that needs it reports that.
            match self.fleet.credentials().seal_secrets(node.id, [(key.clone(), value.clone())].into()) {
                Ok(rows) => secrets.extend(rows),
                Err(error) => {
                    tracing::error!(key, error = &error as &dyn std::error::Error, "a variable was left out");
                }
            }
        }
        let workspace = NewWorkspaceRow {
            id: node.id,
            name: node.name.clone(),
            role: node.role.clone(),
            tier: node.tier,
            runtime: node.runtime.clone(),
            hosting: node.hosting,
            parent_id: None,
            delivery_mode: None,
            workspace_dir: node.workspace_dir.clone(),
            workspace_access: node.workspace_access,
            budget_limit: None,
            max_concurrent_tasks: node.max_concurrent_tasks,
            url: node.url.clone(),
            spec: node.spec.clone(),
        };
        let position = node.position;
        let setup = SetupRow::of(node.id, &node.setup);
        BatchEntry { workspace, absolute: position.absolute, relative: position.relative, secrets, setup }
    }
}

/// The workspaces that a plan creates, below their parents.
fn created(entries: &[BatchEntry], nodes: &[ResolvedNode], plan: &Plan) -> Vec<BatchEntry> {
    let parent =
        |node: &ResolvedNode| node.parent.and_then(|parent| plan.nodes.get(parent)).map(|(id, _)| *id);
    let planned = entries.iter().zip(nodes).zip(&plan.nodes);
    let created = planned.filter(|(_, (_, action))| *action == Action::Create);
    created
        .map(|((entry, node), _)| {
            let mut entry = entry.clone();
            entry.workspace.parent_id = parent(node);
            entry
        })
        .collect()
}
