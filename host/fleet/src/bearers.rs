//! Making and ending tokens: durable before anybody is told.

use std::sync::Arc;

use store::{
    Change, CommitError,
    tokens::{FewerTokensThan, InsertToken, RevokeToken, RevokedBy, TokenKind, TokenRow},
    workspaces::WorkspaceIsLive,
};
use uuid::Uuid;

use crate::{
    error::FleetError,
    fleet::Fleet,
    limits::TOKENS_PER_WORKSPACE,
    tokens::{self, LiveToken, NewToken},
};

impl Fleet {
    /// Makes a token for a person or a script, for one workspace.
    ///
    /// # Errors
    /// If the workspace isn't there, or has as many as it may have and `limited`.
    pub async fn mint(&self, workspace: Uuid, by: &str, limited: bool) -> Result<NewToken, FleetError> {
        self.live(workspace)?;
        let new = NewToken::of_workspace(TokenKind::User, workspace, by, store::now());
        let mut change = Change::of(InsertToken(new.row.clone())).require(WorkspaceIsLive(workspace));
        if limited {
            change.push_precondition(FewerTokensThan { workspace, limit: TOKENS_PER_WORKSPACE });
        }
        match self.commit(change).await {
            Ok(_) => Ok(new),
            Err(CommitError::PreconditionFailed(failed)) if failed.is::<FewerTokensThan>() => {
                Err(FleetError::TooManyTokens)
            }
            Err(CommitError::PreconditionFailed(_)) => Err(FleetError::NotFound),
            Err(error) => Err(FleetError::Commit(error)),
        }
    }

    /// Makes a token for the organisation. One made by a token that is bound to an organisation is bound
    /// to the same.
    ///
    /// # Errors
    /// If it can't be stored.
    pub async fn mint_org(
        &self,
        name: Option<String>,
        org_id: Option<Uuid>,
        by: &str,
    ) -> Result<NewToken, FleetError> {
        let new = NewToken::of_org(name, org_id, by, store::now());
        let change = Change::of(InsertToken(new.row.clone()));
        self.commit(change).await.map_err(FleetError::Commit)?;
        Ok(new)
    }

    /// Ends a live token of this workspace, or of the organisation for none.
    ///
    /// # Errors
    /// If there is no such live token.
    pub async fn revoke(&self, workspace: Option<Uuid>, token: Uuid) -> Result<(), FleetError> {
        if !self.tokens_of(workspace).iter().any(|live| live.row.id == token) {
            return Err(FleetError::NoToken);
        }
        let change = Change::of(RevokeToken { id: token, by: RevokedBy::Request });
        match self.commit(change).await {
            Ok(_) => Ok(()),
            // It ended before, by somebody else or by a try of ours that we didn't learn the end of.
            Err(CommitError::Conflict) => {
                self.tokens().refresh(token, self.store().token(token).await?);
                Err(FleetError::NoToken)
            }
            Err(error) => Err(FleetError::Commit(error)),
        }
    }

    /// Live tokens of a workspace, or of the organisation for none; newest first.
    #[must_use]
    pub fn tokens_of(&self, workspace: Option<Uuid>) -> Vec<Arc<LiveToken>> {
        self.tokens().of(workspace)
    }

    /// Was this token a token of exactly this workspace, ended by its removal?
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn ended_with(&self, bearer: &str, workspace: Uuid) -> Result<bool, FleetError> {
        let row: Option<TokenRow> = self.store().token_by_hash(&tokens::hash(bearer)).await?;
        Ok(row.is_some_and(|row| {
            row.workspace_id == Some(workspace) && row.revoked_by == Some(RevokedBy::Removal)
        }))
    }
}
