//! The one order of all commits: the row `event_head`, which each transaction locks first.
//!
//! It hands out event numbers and times, and those of activity rows, which grow in the order of commits.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::{Envelope, Event};
use sea_orm::{ConnectionTrait as _, Statement};
use types::{EventSeq, WorkspaceId};

use crate::{StoreError, clock, events::is_stored, guarded::Tx};

/// The place of one transaction in the order of commits.
#[derive(Debug)]
pub(crate) struct Sequencer {
    /// Of the last event.
    seq: EventSeq,
    at_us: i64,
    /// When the transaction began.
    pub(crate) now: DateTime<Utc>,
    /// Number and time, microseconds since 1970, of the last activity row …
    activity_seq: i64,
    activity_us: i64,
    /// … and whether this transaction wrote it.
    activity_assigned: bool,
}

impl Sequencer {
    /// Locks the row of `event_head`, so that no other server commits before this transaction ends, and
    /// takes this many event numbers and event times.
    pub(crate) async fn acquire(tx: &Tx, numbers: usize, times: usize) -> Result<Self, StoreError> {
        let [numbers, times] = [numbers, times].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        let (now, mut before) = (crate::now(), clock::take(times));
        let sql = "UPDATE event_head SET seq = seq + $1, \
                   at_us = $3 + CASE WHEN at_us > $2 THEN at_us ELSE $2 END RETURNING seq, at_us, \
                   activity_seq, activity_us";
        let values = [numbers.into(), before.into(), times.into()];
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        let head = tx.query_one_raw(statement).await?.ok_or(StoreError::Gone)?;
        let (seq, at_us): (i64, i64) = (head.try_get_by_index(0)?, head.try_get_by_index(1)?);
        let (activity_seq, activity_us) = (head.try_get_by_index(2)?, head.try_get_by_index(3)?);
        let known = at_us - times;
        if times > 0 && known > before {
            // Other servers committed later times meanwhile. Ephemeral events of this process took times
            // of its own clock since, so all of this transaction's times must come after both.
            clock::advance(known);
            before = clock::take(times);
            let sql = "UPDATE event_head SET at_us = $1";
            let values = [(before + times).into()];
            tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
        }
        let seq = EventSeq(seq - numbers);
        Ok(Self { seq, at_us: before, now, activity_seq, activity_us, activity_assigned: false })
    }

    /// The envelope of an event: with the next time, and with the next number if it is stored.
    pub(crate) fn envelope(&mut self, workspace: Option<WorkspaceId>, event: &Event) -> Arc<Envelope> {
        self.at_us += 1;
        let at = DateTime::from_timestamp_micros(self.at_us).unwrap_or(self.now);
        if !is_stored(event.class()) {
            return Arc::new(Envelope::ephemeral(workspace, event, at));
        }
        self.seq = self.seq.next();
        Arc::new(Envelope::sequenced(self.seq, workspace, event, at))
    }

    /// The next number of an activity row that was made at this time, and a time later than that of any
    /// row before.
    pub(crate) fn assign_activity(&mut self, created_at: DateTime<Utc>) -> (i64, DateTime<Utc>) {
        self.activity_assigned = true;
        self.activity_seq += 1;
        self.activity_us = Ord::max(created_at.timestamp_micros(), self.activity_us + 1);
        (self.activity_seq, DateTime::from_timestamp_micros(self.activity_us).unwrap_or(created_at))
    }

    /// Stores the last number and time of activity rows, for the next transaction.
    pub(crate) async fn save(&self, tx: &Tx) -> Result<(), StoreError> {
        if self.activity_assigned {
            let sql = "UPDATE event_head SET activity_seq = $1, activity_us = $2";
            let values = [self.activity_seq.into(), self.activity_us.into()];
            let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
            tx.execute_raw(statement).await?;
        }
        Ok(())
    }
}
