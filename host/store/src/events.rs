//! Stored events: how they are read, and how other servers on the same database are notified.

use std::sync::Arc;

use events::{Class, Envelope};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Statement,
    sqlx::postgres::{PgListener, PgNotification},
};
use types::{EventId, EventSeq, WorkspaceId};
use uuid::Uuid;

use crate::{Store, StoreError, entity::event};

/// Channel on which a commit says that there are events.
pub(crate) const COMMITTED: &str = "isomer_events";

/// Channel for ephemeral events.
const EPHEMERAL: &str = "isomer_live";

/// Bytes of one notification at most; Postgres takes less than 8,000.
pub const EPHEMERAL_BYTES: usize = 7_900;

/// Events that one query of a list reads.
const READ_AT_ONCE: u64 = 50;

/// Which stored events are read.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only this workspace's.
    pub workspace: Option<WorkspaceId>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those before the event with this id.
    pub before: Option<EventId>,
    /// This many at most.
    pub limit: u64,
    /// Bytes of payloads after which no further event is read. The last one may be the one that exceeds them.
    pub bytes: Option<usize>,
}

impl Store {
    /// Events after `seq`, oldest first, this many at most.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn events_after(&self, seq: EventSeq, limit: u64) -> Result<Vec<Arc<Envelope>>, StoreError> {
        let rows = event::Entity::find()
            .filter(event::Column::Seq.gt(seq.0))
            .order_by_asc(event::Column::Seq)
            .limit(limit)
            .all(&self.read)
            .await?;
        Ok(rows.into_iter().map(|row| Arc::new(row.into())).collect())
    }

    /// Events after `seq` that clients may see, oldest first, this many at most; only this workspace's,
    /// if one is named.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn client_events_after(
        &self,
        seq: EventSeq,
        workspace: Option<WorkspaceId>,
        limit: u64,
    ) -> Result<Vec<Arc<Envelope>>, StoreError> {
        let mut query = event::Entity::find()
            .filter(event::Column::Seq.gt(seq.0))
            .filter(event::Column::EventType.not_like("isomer.%"))
            .filter(event::Column::EventType.not_like("org.import.%"));
        if let Some(workspace) = workspace {
            query = query.filter(event::Column::WorkspaceId.eq(workspace.0));
        }
        let rows = query.order_by_asc(event::Column::Seq).limit(limit).all(&self.read).await?;
        Ok(rows.into_iter().map(|row| Arc::new(row.into())).collect())
    }

    /// The newest events that clients may see, newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn recent_events(&self, filter: &EventFilter) -> Result<Vec<Envelope>, StoreError> {
        let mut query = event::Entity::find().filter(event::Column::EventType.not_like("isomer.%"));
        if let Some(workspace) = filter.workspace {
            query = query.filter(event::Column::WorkspaceId.eq(workspace.0));
        }
        if let Some(name) = &filter.name {
            query = query.filter(event::Column::EventType.eq(name));
        }
        if let Some(before) = filter.before {
            let Some(before) =
                event::Entity::find().filter(event::Column::Id.eq(before.0)).one(&self.read).await?
            else {
                return Ok(Vec::new());
            };
            query = query.filter(event::Column::Seq.lt(before.seq));
        }
        let query = query.order_by_desc(event::Column::Seq);
        let (mut events, mut bytes) = (Vec::<Envelope>::new(), 0);
        loop {
            // In parts: a page that ends at its bytes reads little more, and other queries get the connection meanwhile.
            let part = (filter.limit - events.len() as u64).min(READ_AT_ONCE);
            let mut rest = query.clone();
            if let Some(last) = events.last().and_then(Envelope::seq) {
                rest = rest.filter(event::Column::Seq.lt(last.0));
            }
            let rows = rest.limit(part).all(&self.read).await?;
            let is_last = (rows.len() as u64) < part;
            for row in rows {
                let event = Envelope::from(row);
                bytes += event.payload().len();
                events.push(event);
            }
            if is_last
                || events.len() as u64 >= filter.limit
                || filter.bytes.is_some_and(|limit| bytes > limit)
            {
                return Ok(events);
            }
        }
    }

    /// Number of the last event.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn last_event(&self) -> Result<EventSeq, StoreError> {
        let statement = Statement::from_string(self.backend(), "SELECT seq FROM event_head");
        match self.read.query_one_raw(statement).await? {
            Some(row) => Ok(EventSeq(row.try_get_by_index(0)?)),
            None => Ok(EventSeq::START),
        }
    }

    /// Number of the oldest event that is still there.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn first_event(&self) -> Result<Option<EventSeq>, StoreError> {
        let first = event::Entity::find().order_by_asc(event::Column::Seq).one(&self.read).await?;
        Ok(first.map(|row| EventSeq(row.seq)))
    }

    // === Other servers ===

    /// Sends a message of at most [`EPHEMERAL_BYTES`] to the other servers on the same database, best
    /// effort. On SQLite there are none.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn notify_ephemeral(&self, message: &str) -> Result<(), StoreError> {
        if self.backend() == DbBackend::Postgres {
            let values = [EPHEMERAL.into(), message.into()];
            let statement =
                Statement::from_sql_and_values(DbBackend::Postgres, "SELECT pg_notify($1, $2)", values);
            self.db.query_one_raw(statement).await?;
        }
        Ok(())
    }

    /// Listens to what other servers send from now on.
    ///
    /// # Errors
    /// If the database can't be listened to.
    pub async fn listen(&self) -> Result<NotificationListener, StoreError> {
        if self.backend() != DbBackend::Postgres {
            return Ok(NotificationListener(None));
        }
        let mut listener = PgListener::connect_with(self.db.get_postgres_connection_pool()).await?;
        listener.listen_all([COMMITTED, EPHEMERAL]).await?;
        Ok(NotificationListener(Some(listener)))
    }
}

/// Receives what other servers on the same database send.
pub struct NotificationListener(Option<PgListener>);

/// What other servers sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// Events were committed.
    Committed,
    /// A message that is not stored.
    Ephemeral(String),
    /// Notifications may have been missed.
    Interrupted,
}

impl NotificationListener {
    /// Waits for the next notification. Never returns on SQLite.
    pub async fn recv(&mut self) -> Notification {
        let Some(listener) = &mut self.0 else {
            return std::future::pending().await;
        };
        match listener.try_recv().await {
            Ok(Some(received)) => Self::parse(&received),
            Ok(None) => Notification::Interrupted,
            Err(error) => {
                tracing::debug!(%error, "the database can't be listened to");
                Notification::Interrupted
            }
        }
    }

    fn parse(received: &PgNotification) -> Notification {
        match received.channel() {
            EPHEMERAL => Notification::Ephemeral(received.payload().to_owned()),
            _ => Notification::Committed,
        }
    }
}

impl From<event::Model> for Envelope {
    fn from(row: event::Model) -> Self {
        let workspace = row.workspace_id.map(WorkspaceId);
        Self::stored(
            EventId(row.id),
            EventSeq(row.seq),
            row.event_type,
            workspace,
            row.created_at,
            row.payload,
        )
    }
}

/// A row for an event that is to be stored.
pub(crate) fn row(envelope: &Envelope, seq: EventSeq) -> event::Model {
    event::Model {
        seq: seq.0,
        id: envelope.id().0,
        event_type: envelope.name().to_owned(),
        workspace_id: envelope.workspace_id().map(Uuid::from),
        payload: envelope.payload().to_string(),
        created_at: envelope.at(),
    }
}

/// Whether events of this class are stored.
pub(crate) fn is_stored(class: Class) -> bool {
    class != Class::Ephemeral
}
