//! Importing an organisation: everything is read and checked first; then one change makes what is
//! missing, removes what has no place any more, and tells of it. So there is never half an
//! organisation, and no import that began without an end.

use std::{collections::HashSet, panic::AssertUnwindSafe, time::Instant};

use bytes::Bytes;
use events::{
    Event,
    catalogue::{ImportCompleted, ImportFailed, ImportFailure, ImportStarted},
};
use fleet::{Blueprint, Fleet, FleetError, Population, Settler};
use futures::FutureExt as _;
use serde_json::Value as Json;
use store::CommitError;
use uuid::Uuid;

use crate::{
    Orgs, decode,
    error::ImportError,
    files::Files,
    member::{Member, Members, SkippedChannel},
    plan::{Fate, Plan, names},
    requirements::{Requirement, Requirements},
    template::Org,
    upload,
};

/// The mode in which what has no place any more is removed.
pub const RECONCILE: &str = "reconcile";

/// An organisation to be imported.
#[derive(Debug)]
pub struct Import {
    /// The template.
    pub from: From,
    /// `reconcile` removes what has no place any more; anything else only adds.
    pub mode: String,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// Where a template is.
#[derive(Debug)]
pub enum From {
    /// A directory among the server's templates.
    Directory(String),
    /// The request itself.
    Inline(Json),
    /// A tar archive.
    Archive(Bytes),
}

/// What came of an import, or would come of it.
#[derive(Debug)]
pub struct Imported {
    /// What the organisation is called.
    pub org: String,
    /// The mode that was asked for.
    pub mode: String,
    /// The template's workspaces, parents first, up to the first that can't be.
    pub workspaces: Vec<Placed>,
    /// Those that went, or would go: roots with everything below them.
    pub removed: Vec<Removed>,
    /// Why there are not more.
    pub error: Option<String>,
    /// Settings that are missing. An import that isn't a rehearsal has none.
    pub missing_env: Vec<Requirement>,
    /// What is kept for later.
    pub warnings: Vec<String>,
}

/// A workspace of a template.
#[derive(Debug)]
pub struct Placed {
    /// Its id, if it has one already.
    pub id: Uuid,
    /// Made or kept.
    pub fate: Fate,
    /// What people call it.
    pub name: String,
    /// Its parent among those placed.
    pub parent: Option<usize>,
    /// 1 to 4.
    pub tier: i32,
    /// What runs in it.
    pub runtime: String,
    /// Channels that it can't have.
    pub channels_skipped: Vec<SkippedChannel>,
}

/// A workspace that has no place any more.
#[derive(Debug)]
pub struct Removed {
    /// Its id.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// The names of those above it, the root first.
    pub above: Vec<String>,
}

impl Imported {
    /// How many were made.
    #[must_use]
    pub fn created(&self) -> usize {
        self.workspaces.iter().filter(|placed| placed.fate == Fate::Create).count()
    }
}

/// An import under way.
struct Under<'a> {
    fleet: &'a Fleet,
    org: &'a Org,
    started: Instant,
    dir: String,
    mode: String,
}

impl Orgs {
    /// Imports an organisation.
    ///
    /// # Errors
    /// If there is no such template, it can't be read, or settings are missing.
    pub async fn import(&self, import: Import) -> Result<Imported, ImportError> {
        let started = Instant::now();
        let (dir, files, org) = self.read(import.from).await?;
        let under = Under { fleet: &self.fleet, org: &org, started, dir, mode: import.mode };
        let requirements = Requirements::of(&org);
        let settings = match self.fleet.global_settings().await {
            Ok(settings) => settings,
            Err(error) => {
                under.gave_up(ImportFailure::SecretsLookupFailed, 0, import.dry_run).await;
                return Err(ImportError::Settings(error));
            }
        };
        let missing = requirements.missing(&settings);
        if !missing.is_empty() && !import.dry_run {
            under.gave_up(ImportFailure::MissingEnv, missing.len(), false).await;
            let (required, template) = (requirements.required, org.name);
            return Err(ImportError::MissingEnv { missing, required, template });
        }
        let settled = AssertUnwindSafe(self.settle(&under, files, settings, import.dry_run)).catch_unwind();
        let imported = match settled.await {
            Ok(imported) => imported,
            Err(panic) => {
                under.gave_up(ImportFailure::Internal, 0, import.dry_run).await;
                std::panic::resume_unwind(panic);
            }
        };
        Ok(Imported { missing_env: missing, ..imported })
    }

    /// Reads a template: the name of its directory, its files, and what they say.
    async fn read(&self, from: From) -> Result<(String, Files, Org), ImportError> {
        let (dir, files) = match from {
            From::Inline(template) => {
                let org = decode::org(&decode::tree(&template), self.limits)?;
                if org.name.is_empty() {
                    return Err(ImportError::Nothing);
                }
                return Ok((String::new(), Files::None, org));
            }
            From::Directory(dir) => {
                let files = self.directory(&dir).ok_or(ImportError::Directory)?;
                (dir, files)
            }
            From::Archive(archive) => {
                // Unpacking may be 32 MiB of work.
                let unpacked = tokio::task::spawn_blocking(move || upload::unpack(&archive)).await;
                (String::new(), unpacked.unwrap_or(Err(upload::UploadError::Unreadable))?)
            }
        };
        let org = self.template(&files).await?;
        Ok((dir, files, org))
    }

    /// Does what is to be done, or only says what.
    async fn settle(
        &self,
        under: &Under<'_>,
        files: Files,
        settings: HashSet<String>,
        dry_run: bool,
    ) -> Imported {
        let mut members = self.members(under.org.clone(), under.dir.clone(), files, settings).await;
        self.check_urls(&mut members).await;
        let mut warnings: Vec<String> = members.kept.warnings().collect();
        warnings.extend(
            under
                .org
                .externals
                .iter()
                .map(|external| format!("{external} is not fetched yet; what it stands for is left out")),
        );
        let names = names(under.org);
        let tidies = under.mode == RECONCILE && members.error.is_none();
        let names = tidies.then_some(&names);
        let report = |plan: &Plan| under.report(plan, &members, &warnings);
        if dry_run {
            return report(&Plan::of(&members.members, names, self.fleet.directory()));
        }
        let mut settlers: Vec<Settler> = Vec::new();
        for member in &members.members {
            settlers.push(self.settler(member));
        }
        let populated = self.fleet.populate(|fleet| {
            let plan = Plan::of(&members.members, names, fleet.directory());
            let imported = report(&plan);
            Population {
                settlers: placed(&settlers, &members.members, &plan),
                removed: plan.orphans,
                before: vec![under.started()],
                after: vec![under.completed(&imported)],
                done: imported,
            }
        });
        match populated.await {
            Ok(imported) => imported,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an import could not be stored");
                let first = members.members.first().map_or("workspaces", |member| &member.name);
                let nothing = Imported {
                    workspaces: Vec::new(),
                    removed: Vec::new(),
                    error: Some(format!("failed to create {first}")),
                    ..report(&Plan { members: Vec::new(), orphans: Vec::new() })
                };
                // It may have happened all the same, and then it was told.
                if !matches!(error, FleetError::Commit(CommitError::OutcomeUnknown)) {
                    under.record(vec![under.started(), under.completed(&nothing)]).await;
                }
                nothing
            }
        }
    }

    /// Agents that somebody else runs must be where we may call them. The first that isn't ends the tree.
    async fn check_urls(&self, members: &mut Members) {
        for index in 0..members.members.len() {
            let Some(member) = members.members.get(index) else { break };
            let Some(url) = &member.url else { continue };
            if let Err(error) = self.fleet.check_agent_url(url).await {
                members.error = Some(format!("workspace {}: {error}", member.name));
                members.members.truncate(index);
                break;
            }
        }
    }

    fn settler(&self, member: &Member) -> Settler {
        let mut secrets = Vec::new();
        for (key, value) in &member.secrets {
            // One that can't be sealed is left out: what needs it will say so.
            match self.fleet.seal_secrets(member.id, [(key.clone(), value.clone())].into()) {
                Ok(rows) => secrets.extend(rows),
                Err(error) => {
                    tracing::error!(key, error = &error as &dyn std::error::Error, "a variable was left out");
                }
            }
        }
        let blueprint = Blueprint {
            id: member.id,
            name: member.name.clone(),
            role: member.role.clone(),
            tier: member.tier,
            runtime: member.runtime.clone(),
            hosting: member.hosting,
            parent_id: None,
            delivery_mode: None,
            workspace_dir: member.workspace_dir.clone(),
            workspace_access: member.workspace_access,
            budget_limit: None,
            max_concurrent_tasks: member.max_concurrent_tasks,
            url: member.url.clone(),
            spec: member.spec.clone(),
        };
        Settler { blueprint, absolute: member.absolute, relative: member.relative, secrets }
    }
}

/// Those that are made, below their parents.
fn placed(settlers: &[Settler], members: &[Member], plan: &Plan) -> Vec<Settler> {
    let parent =
        |member: &Member| member.parent.and_then(|parent| plan.members.get(parent)).map(|(id, _)| *id);
    let new = settlers.iter().zip(members).zip(&plan.members).filter(|(_, (_, fate))| *fate == Fate::Create);
    new.map(|((settler, member), _)| {
        let mut settler = settler.clone();
        settler.blueprint.parent_id = parent(member);
        settler
    })
    .collect()
}

impl Under<'_> {
    fn report(&self, plan: &Plan, members: &Members, warnings: &[String]) -> Imported {
        let mut workspaces = Vec::with_capacity(plan.members.len());
        for ((id, fate), member) in plan.members.iter().zip(&members.members) {
            if *fate == Fate::Keep {
                let (name, tier) = (&member.name, member.tier);
                tracing::debug!(name, existing_id = %id, tier, "provision.skip_existing");
            }
            workspaces.push(Placed {
                id: *id,
                fate: *fate,
                name: member.name.clone(),
                parent: member.parent,
                tier: member.tier,
                runtime: member.runtime.clone(),
                channels_skipped: member.channels_skipped.clone(),
            });
        }
        Imported {
            org: self.org.name.clone(),
            mode: self.mode.clone(),
            workspaces,
            removed: plan.orphans.iter().flat_map(|orphan| self.removed(*orphan)).collect(),
            error: members.error.clone(),
            missing_env: Vec::new(),
            warnings: warnings.to_vec(),
        }
    }

    /// An orphan and everything below it.
    fn removed(&self, orphan: Uuid) -> Vec<Removed> {
        let directory = self.fleet.directory();
        let below = directory.descendants(orphan);
        let all = directory.get(orphan).into_iter().chain(below);
        let removed = all.map(|it| {
            let above = directory.ancestors(it.row.id);
            let above = above.iter().rev().map(|above| above.row.name.clone()).collect();
            Removed { id: it.row.id, name: it.row.name.clone(), above }
        });
        removed.collect()
    }

    fn started(&self) -> Event {
        let (dir, mode, name) = (self.dir.clone(), self.mode.clone(), self.org.name.clone());
        Event::ImportStarted(ImportStarted { dir, mode, name })
    }

    fn completed(&self, imported: &Imported) -> Event {
        let created = imported.created();
        Event::ImportCompleted(ImportCompleted {
            create_error: imported.error.clone().unwrap_or_default(),
            created_count: number(created),
            dir: self.dir.clone(),
            duration_ms: self.duration_ms(),
            mode: self.mode.clone(),
            name: self.org.name.clone(),
            reconcile_errors: 0,
            reconcile_removed_count: number(imported.removed.len()),
            skipped_count: number(imported.workspaces.len() - created),
        })
    }

    /// Tells of an import that came to nothing, unless it was only a rehearsal.
    async fn gave_up(&self, reason: ImportFailure, missing: usize, dry_run: bool) {
        if dry_run {
            return;
        }
        let failed = Event::ImportFailed(ImportFailed {
            dir: self.dir.clone(),
            duration_ms: self.duration_ms(),
            missing_count: number(missing),
            mode: self.mode.clone(),
            name: self.org.name.clone(),
            reason,
        });
        self.record(vec![self.started(), failed]).await;
    }

    async fn record(&self, events: Vec<Event>) {
        if let Err(error) = self.fleet.record(events).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "what came of an import could not be recorded");
        }
    }

    fn duration_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
