//! What workspaces are set up with: prompts, memories, schedules. A long text is stored once, under its
//! digest, however many workspaces have it, and deleted when the last of them is removed.
//!
//! All servers commit one after another, so a text that a removal deletes is not inserted at that moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use async_trait::async_trait;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _, QueryTrait as _, sea_query::OnConflict,
};
use serde_json::Value as Json;
use types::{SharedText, WorkspaceId, WorkspaceSetup};

use crate::{
    CommitError, Mutation, Store, StoreError,
    entity::{setup, setup_text, setup_text_use},
    statement::{IDS, ROWS},
    transaction::Transaction,
};

/// Bytes from which on a text is stored under its digest: a reference to it takes about half as many.
const LONG_TEXT: usize = 256;

/// Bytes of texts or documents in one statement.
const STATEMENT_BYTES: usize = 4 << 20;

/// The setup of one workspace as it is stored: its document, and its long texts beside that.
#[derive(Debug, Clone)]
pub struct SetupRow {
    workspace_id: WorkspaceId,
    /// JSON, with empty strings in the places of the texts.
    document: String,
    texts: Vec<(String, SharedText)>,
}

impl SetupRow {
    /// The row of a setup. None for an empty one, which is not stored.
    #[must_use]
    pub fn of(workspace_id: WorkspaceId, setup: &WorkspaceSetup) -> Option<Self> {
        if *setup == WorkspaceSetup::default() {
            return None;
        }
        let mut setup = setup.clone();
        let long = setup.texts_mut().filter(|(_, text)| text.len() >= LONG_TEXT);
        let texts = long.map(|(place, text)| (place, mem::take(text))).collect();
        // The type serializes without error: all its keys are strings.
        let document = serde_json::to_string(&setup).unwrap_or_default();
        Some(Self { workspace_id, document, texts })
    }

    /// Bytes that the row takes by itself, without its long texts.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        self.document.len()
            + self.texts.iter().map(|(place, text)| place.len() + text.digest().len()).sum::<usize>()
    }

    /// Its long texts, which other rows may share.
    pub fn texts(&self) -> impl Iterator<Item = &SharedText> {
        self.texts.iter().map(|(_, text)| text)
    }
}

impl Store {
    /// What a workspace is set up with; nothing, if there is no row for it.
    ///
    /// # Errors
    /// If the database fails, or the row is no setup.
    pub async fn setup(&self, workspace: WorkspaceId) -> Result<WorkspaceSetup, StoreError> {
        let Some(row) = setup::Entity::find_by_id(workspace.0).one(&self.read).await? else {
            return Ok(WorkspaceSetup::default());
        };
        let invalid = |error: serde_json::Error| sea_orm::DbErr::Type(format!("invalid setup: {error}"));
        let mut document: Json = serde_json::from_str(&row.document).map_err(invalid)?;
        let uses = setup_text_use::Entity::find()
            .filter(setup_text_use::Column::WorkspaceId.eq(workspace.0))
            .all(&self.read)
            .await?;
        let digests: BTreeSet<String> = uses.iter().map(|text| text.digest.clone()).collect();
        let texts = setup_text::Entity::find()
            .filter(setup_text::Column::Digest.is_in(digests))
            .all(&self.read)
            .await?;
        let texts: BTreeMap<String, String> =
            texts.into_iter().map(|row| (row.digest, row.content)).collect();
        for text in uses {
            if let (Some(place), Some(content)) = (document.pointer_mut(&text.place), texts.get(&text.digest))
            {
                *place = Json::from(content.as_str());
            }
        }
        Ok(serde_json::from_value(document).map_err(invalid)?)
    }
}

// === Mutations ===

/// Setups of new workspaces.
#[derive(Debug)]
pub struct InsertSetups(pub Vec<SetupRow>);

#[async_trait]
impl Mutation for InsertSetups {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        let texts: BTreeMap<&str, &SharedText> =
            self.0.iter().flat_map(SetupRow::texts).map(|text| (text.digest(), text)).collect();
        let texts: Vec<(&str, &SharedText)> = texts.into_iter().collect();
        for texts in chunks(&texts, |(_, text)| text.len()) {
            let rows = texts.iter().map(|(digest, text)| setup_text::Model {
                digest: (*digest).to_owned(),
                content: text.to_string(),
            });
            setup_text::Entity::insert_many(rows.map(|row| row.into_active_model().reset_all()))
                .on_conflict(OnConflict::column(setup_text::Column::Digest).do_nothing().to_owned())
                .exec_without_returning(&tx.db)
                .await?;
        }
        for rows in chunks(&self.0, |row| row.document.len()) {
            let rows = rows
                .iter()
                .map(|row| setup::Model { workspace_id: row.workspace_id.0, document: row.document.clone() });
            let rows = rows.map(|row| row.into_active_model().reset_all());
            setup::Entity::insert_many(rows).exec_without_returning(&tx.db).await?;
        }
        let uses: Vec<setup_text_use::Model> = self.0.iter().flat_map(uses_of).collect();
        for rows in uses.chunks(ROWS) {
            let rows = rows.iter().map(|row| row.clone().into_active_model().reset_all());
            setup_text_use::Entity::insert_many(rows).exec_without_returning(&tx.db).await?;
        }
        Ok(())
    }
}

fn uses_of(row: &SetupRow) -> impl Iterator<Item = setup_text_use::Model> {
    row.texts.iter().map(|(place, text)| setup_text_use::Model {
        workspace_id: row.workspace_id.0,
        place: place.clone(),
        digest: text.digest().to_owned(),
    })
}

/// Slices of at most [`ROWS`] items that have about [`STATEMENT_BYTES`] at most, each at least one item.
fn chunks<T>(mut items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut chunks = Vec::new();
    while !items.is_empty() {
        let mut left = STATEMENT_BYTES;
        let fitting = items.iter().take(ROWS).take_while(|item| {
            let fits = left > 0;
            left = left.saturating_sub(bytes(item));
            fits
        });
        let (chunk, rest) = items.split_at(fitting.count().max(1));
        chunks.push(chunk);
        items = rest;
    }
    chunks
}

/// The setups of these workspaces are deleted, with the texts that no other one has.
#[derive(Debug)]
pub struct DeleteSetups(pub Vec<WorkspaceId>);

#[async_trait]
impl Mutation for DeleteSetups {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        use setup_text_use::Column as Use;
        for ids in self.0.chunks(IDS) {
            let ids = || ids.iter().map(|id| id.0);
            let digests: Vec<String> = setup_text_use::Entity::find()
                .select_only()
                .column(Use::Digest)
                .distinct()
                .filter(Use::WorkspaceId.is_in(ids()))
                .into_tuple()
                .all(&tx.db)
                .await?;
            let uses = setup_text_use::Entity::delete_many().filter(Use::WorkspaceId.is_in(ids()));
            uses.exec(&tx.db).await?;
            let setups = setup::Entity::delete_many().filter(setup::Column::WorkspaceId.is_in(ids()));
            setups.exec(&tx.db).await?;
            for digests in digests.chunks(IDS) {
                let still_used = setup_text_use::Entity::find()
                    .select_only()
                    .column(Use::Digest)
                    .filter(Use::Digest.is_in(digests))
                    .into_query();
                setup_text::Entity::delete_many()
                    .filter(setup_text::Column::Digest.is_in(digests))
                    .filter(setup_text::Column::Digest.not_in_subquery(still_used))
                    .exec(&tx.db)
                    .await?;
            }
        }
        Ok(())
    }
}
