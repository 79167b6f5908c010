//! Issuing, revoking and authenticating tokens.

use std::sync::Arc;

use state::{LiveToken, token_hash};
use store::{
    Change, CommitError,
    tokens::{
        FewerOrgTokensThan, FewerTokensThan, InsertToken, OrgTokensMade, RevokeToken, RevokedBy, TokenKind,
        TokenRow, TokenUsed,
    },
    workspaces::WorkspaceIsLive,
};
use types::{OrgId, Owner, TokenId, WorkspaceId};

use crate::{
    Credentials, Maker, NewToken, TokenError,
    error::{ORG_TOKENS_PER_HOUR, TOKENS_PER_WORKSPACE},
};

impl Credentials {
    /// The live token of a bearer. Records its use.
    #[must_use]
    pub fn authenticate(&self, bearer: &str) -> Option<Arc<LiveToken>> {
        let token = self.state.tokens().find(bearer)?;
        if let Owner::Workspace(workspace) = token.row.owner
            && self.state.workspaces().get(workspace).is_none()
        {
            return None;
        }
        let now = store::now();
        if token.record_use(now) {
            self.state.try_write_behind(TokenUsed { id: token.row.id, at: now });
        }
        Some(token)
    }

    /// Issues a token for one workspace.
    ///
    /// # Errors
    /// If the workspace doesn't exist, or is `limited` and has as many tokens as it may have.
    pub async fn issue(
        &self,
        workspace: WorkspaceId,
        by: impl Into<Maker>,
        limited: bool,
    ) -> Result<NewToken, TokenError> {
        if self.state.workspaces().get(workspace).is_none() {
            return Err(TokenError::NoWorkspace);
        }
        let new = NewToken::of_workspace(TokenKind::User, workspace, by.into(), store::now());
        let mut change = Change::of(InsertToken(new.row.clone())).require(WorkspaceIsLive(workspace));
        if limited {
            change.push_precondition(FewerTokensThan { workspace, limit: TOKENS_PER_WORKSPACE });
        }
        match self.state.commit(change).await {
            Ok(_) => Ok(new),
            Err(CommitError::PreconditionFailed(failed)) if failed.is::<FewerTokensThan>() => {
                Err(TokenError::TooMany)
            }
            Err(CommitError::PreconditionFailed(_)) => Err(TokenError::NoWorkspace),
            Err(error) => Err(TokenError::Commit(error)),
        }
    }

    /// Issues a token for the organization. One issued by a token that is bound to an organization is bound
    /// to the same.
    ///
    /// # Errors
    /// If it can't be stored, or is `limited` and its maker made as many within an hour as may be. Tokens that a token
    /// made for itself count for the first of them.
    pub async fn issue_for_org(
        &self,
        name: Option<String>,
        org_id: Option<OrgId>,
        by: impl Into<Maker>,
        limited: bool,
    ) -> Result<NewToken, TokenError> {
        let new = NewToken::of_org(name, org_id, by.into(), store::now());
        let mut change = Change::of(InsertToken(new.row.clone()));
        let made = OrgTokensMade::like(&new.row);
        if limited {
            change.push_precondition(FewerOrgTokensThan { made: made.clone(), limit: ORG_TOKENS_PER_HOUR });
        }
        match self.state.commit(change).await {
            Ok(_) => Ok(new),
            Err(CommitError::PreconditionFailed(_)) => {
                let wait = self.state.store().until_fewer_org_tokens(&made, ORG_TOKENS_PER_HOUR).await?;
                Err(TokenError::TooManyThisHour { wait_seconds: wait })
            }
            Err(error) => Err(TokenError::Commit(error)),
        }
    }

    /// Revokes a live token of this owner.
    ///
    /// # Errors
    /// If there is no such live token.
    pub async fn revoke(&self, owner: Owner, token: TokenId) -> Result<(), TokenError> {
        if !self.tokens_of(owner).iter().any(|live| live.row.id == token) {
            return Err(TokenError::NotFound);
        }
        let change = Change::of(RevokeToken { id: token, by: RevokedBy::Request });
        match self.state.commit(change).await {
            Ok(_) => Ok(()),
            // Revoked before, by another request or by an attempt of this one whose answer was lost.
            Err(CommitError::Conflict) => {
                self.state.tokens().refresh_row(token, self.state.store().token(token).await?);
                Err(TokenError::NotFound)
            }
            Err(error) => Err(TokenError::Commit(error)),
        }
    }

    /// Live tokens of this owner, newest first.
    #[must_use]
    pub fn tokens_of(&self, owner: Owner) -> Vec<Arc<LiveToken>> {
        self.state.tokens().of(owner)
    }

    /// Whether this was a token of this workspace that its removal revoked.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn was_revoked_by_removal(
        &self,
        bearer: &str,
        workspace: WorkspaceId,
    ) -> Result<bool, TokenError> {
        let row: Option<TokenRow> = self.state.store().token_by_hash(&token_hash(bearer)).await?;
        Ok(row.is_some_and(|row| {
            row.owner == Owner::Workspace(workspace) && row.revoked_by == Some(RevokedBy::Removal)
        }))
    }
}
