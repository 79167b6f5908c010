//! New tokens, before they are inserted.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rand::Rng as _;
use state::token_hash;
use store::tokens::{TokenKind, TokenRow};
use types::{OrgId, Owner, TokenId, WorkspaceId};

/// Random bytes of a token, which is written as 43 characters.
const TOKEN_BYTES: usize = 32;

/// Characters of a token's text.
pub(crate) const TEXT_CHARACTERS: usize = 43;

/// Characters of a token that lists show, so that people can tell tokens apart.
const PREFIX: usize = 8;

/// Who makes a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// As lists show it: `admin-token`, `org-token:PREFIX` or another name.
    pub name: String,
    /// Where a token makes it, the first of those that led to that one.
    pub root: Option<TokenId>,
}

impl From<&str> for Maker {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), root: None }
    }
}

/// A token that was just issued. Its text exists only here: it is shown once and never stored.
pub struct NewToken {
    /// The bearer token.
    pub text: String,
    /// The row to insert.
    pub row: TokenRow,
}

impl NewToken {
    /// A token for a workspace.
    #[must_use]
    pub fn of_workspace(kind: TokenKind, workspace: WorkspaceId, by: Maker, now: DateTime<Utc>) -> Self {
        Self::new(kind, Owner::Workspace(workspace), by, now)
    }

    /// A token for the organization.
    #[must_use]
    pub fn of_org(name: Option<String>, org_id: Option<OrgId>, by: Maker, now: DateTime<Utc>) -> Self {
        let mut new = Self::new(TokenKind::Org, Owner::Organization, by, now);
        new.row.name = name;
        new.row.org_id = org_id;
        new
    }

    fn new(kind: TokenKind, owner: Owner, by: Maker, now: DateTime<Utc>) -> Self {
        let text = random_text();
        let row = TokenRow {
            id: TokenId::random(),
            kind,
            owner,
            hash: token_hash(&text).to_vec(),
            prefix: text.chars().take(PREFIX).collect(),
            name: None,
            created_by: Some(by.name),
            org_id: None,
            created_at: now,
            last_used_at: None,
            revoked_at: None,
            revoked_by: None,
            root: by.root,
        };
        Self { text, row }
    }
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("id", &self.row.id).finish_non_exhaustive()
    }
}

/// A random text with the strength of a token.
pub(crate) fn random_text() -> String {
    let mut bytes = [0; TOKEN_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
