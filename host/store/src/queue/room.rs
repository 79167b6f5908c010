//! How much may wait in the queue: messages are durable before their senders have an answer, so that senders could fill
//! the disk. Triggers count what waits (see the migration): the count is true for all servers, and after a crash.

use std::fmt;

use sea_orm::{ConnectionTrait as _, Statement};
use types::WorkspaceId;
use uuid::Uuid;

use crate::{StoreError, guarded::Tx};

/// The row that counts the messages for all workspaces.
const ALL: Uuid = Uuid::nil();

/// How much may wait or be on its way when one more message is enqueued, that message included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Messages for one workspace.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the messages for all workspaces.
    pub total_bytes: u64,
}

/// What there is no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFull {
    /// More messages for this workspace than so many.
    Messages(u64),
    /// More bytes of messages for this workspace.
    Bytes(u64),
    /// More bytes of messages for all workspaces.
    TotalBytes(u64),
}

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages(count) => write!(f, "for this sender, at most {count} messages may wait for it"),
            Self::Bytes(bytes) => {
                write!(f, "for this sender, at most {bytes} bytes of messages may wait for it")
            }
            Self::TotalBytes(bytes) => {
                write!(f, "for this sender, at most {bytes} bytes of messages may wait for all agents")
            }
        }
    }
}

impl Room {
    /// One of `parts` equal parts, for senders who must not take all.
    #[must_use]
    pub fn part(self, parts: u64) -> Self {
        let part = |whole: u64| whole.checked_div(parts).unwrap_or_default().max(1);
        Self { messages: part(self.messages), bytes: part(self.bytes), total_bytes: part(self.total_bytes) }
    }

    /// Whether there is room for one more message of so many bytes, in a transaction that has its place in the order of
    /// commits.
    pub(super) async fn check(
        &self,
        tx: &Tx,
        workspace: WorkspaceId,
        bytes: i64,
    ) -> Result<Result<(), QueueFull>, StoreError> {
        let sql = "SELECT workspace_id, messages, bytes FROM a2a_queue_sizes WHERE workspace_id IN ($1, $2)";
        let values = [workspace.0.into(), ALL.into()];
        let list = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        let (mut messages, mut own, mut all) = (1, number(bytes), number(bytes));
        for row in tx.query_all_raw(list).await? {
            let (id, count, bytes): (Uuid, i64, i64) =
                (row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?);
            if id == ALL {
                all += number(bytes);
            } else {
                own += number(bytes);
                messages += number(count);
            }
        }
        Ok(if messages > self.messages {
            Err(QueueFull::Messages(self.messages))
        } else if own > self.bytes {
            Err(QueueFull::Bytes(self.bytes))
        } else if all > self.total_bytes {
            Err(QueueFull::TotalBytes(self.total_bytes))
        } else {
            Ok(())
        })
    }
}
