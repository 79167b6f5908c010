//! Workspaces with a delivery in flight, and when an event of each was last published: what the idle timeout
//! of a delivery is measured by; and how many deliveries there may be. Events of other workspaces cost one atomic read,
//! or one lookup while deliveries are in flight.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use events::PublishObserver;
use fleet::Fleet;
use net::IdleClock;
use store::activity::StartedActivity;
use tokio::time::Instant;
use types::WorkspaceId;

use crate::{
    delivery::{Delivery, Origin},
    limits::{LONG_DELIVERY, Limits},
};

#[derive(Debug, Default)]
pub(crate) struct InFlight {
    workspaces: Mutex<Workspaces>,
    /// How many there are, to be read without the lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Workspaces {
    entries: HashMap<WorkspaceId, Entry>,
    /// Of all workspaces.
    deliveries: usize,
    /// Those for senders who showed no credential.
    of_strangers: usize,
}

/// What has as many deliveries as it may have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Workspace,
    /// All of this server, or those for senders without a credential.
    Server,
}

/// How many deliveries there may be at once.
#[derive(Debug, Clone, Copy)]
struct Most {
    all: usize,
    of_strangers: usize,
    /// Of one workspace.
    each: usize,
}

impl From<Limits> for Most {
    fn from(limits: Limits) -> Self {
        Self { all: limits.calls, of_strangers: limits.calls_of_strangers, each: limits.calls_each }
    }
}

#[derive(Debug)]
struct Entry {
    deliveries: usize,
    published: Arc<Published>,
}

/// When an event was last published.
#[derive(Debug)]
struct Published {
    from: Instant,
    /// Milliseconds after `from`.
    last: AtomicU64,
}

/// The idle clock of one delivery.
pub(crate) struct DeliveryClock {
    in_flight: Arc<InFlight>,
    published: Arc<Published>,
    delivery: Delivery,
    fleet: Fleet,
    default_timeout: Duration,
    /// When the delivery is a long one.
    long_at: Instant,
    /// Its activity was written.
    written: AtomicBool,
}

impl InFlight {
    /// Begins a delivery, which ends when the clock is dropped.
    pub(crate) fn start(
        self: &Arc<Self>,
        delivery: &Delivery,
        fleet: &Fleet,
        limits: Limits,
    ) -> Result<DeliveryClock, Full> {
        let published = self.enter(delivery.target.row.id, Most::from(limits), delivery.anonymous)?;
        published.reset();
        Ok(DeliveryClock {
            in_flight: Arc::clone(self),
            published,
            delivery: delivery.clone(),
            fleet: fleet.clone(),
            default_timeout: limits.idle_timeout,
            long_at: Instant::now() + LONG_DELIVERY,
            written: AtomicBool::new(false),
        })
    }

    fn enter(&self, id: WorkspaceId, most: Most, by_stranger: bool) -> Result<Arc<Published>, Full> {
        let mut workspaces = self.lock();
        let Workspaces { entries, deliveries, of_strangers } = &mut *workspaces;
        // The workspace first: what its agent is too busy for can be queued.
        if entries.get(&id).is_some_and(|entry| entry.deliveries >= most.each) {
            return Err(Full::Workspace);
        }
        if *deliveries >= most.all || (by_stranger && *of_strangers >= most.of_strangers) {
            return Err(Full::Server);
        }
        *of_strangers += usize::from(by_stranger);
        let entry = entries.entry(id).or_insert_with(|| {
            let published = Published { from: Instant::now(), last: AtomicU64::new(0) };
            Entry { deliveries: 0, published: Arc::new(published) }
        });
        entry.deliveries += 1;
        *deliveries += 1;
        let published = Arc::clone(&entry.published);
        self.count.store(entries.len(), Ordering::Relaxed);
        Ok(published)
    }

    fn leave(&self, id: WorkspaceId, by_stranger: bool) {
        let mut workspaces = self.lock();
        let Workspaces { entries, deliveries, of_strangers } = &mut *workspaces;
        if let Some(entry) = entries.get_mut(&id) {
            *of_strangers -= usize::from(by_stranger);
            entry.deliveries -= 1;
            *deliveries -= 1;
            if entry.deliveries == 0 {
                entries.remove(&id);
            }
        }
        self.count.store(entries.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Workspaces> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PublishObserver for InFlight {
    fn on_published(&self, workspace: WorkspaceId) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(entry) = self.lock().entries.get(&workspace) {
            entry.published.reset();
        }
    }
}

impl Published {
    fn reset(&self) {
        let after = u64::try_from(self.from.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(after, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.from + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

impl DeliveryClock {
    fn id(&self) -> WorkspaceId {
        self.delivery.target.row.id
    }
}

impl IdleClock for DeliveryClock {
    fn deadline(&self) -> Instant {
        let timeout = self.fleet.idle_timeout(self.id()).unwrap_or(self.default_timeout);
        let last = self.published.last();
        // A heartbeat may report any number.
        last.checked_add(timeout).unwrap_or(last + self.default_timeout)
    }

    fn reset(&self) {
        self.published.reset();
    }

    /// A message from the queue needs no trace beside its item there.
    fn long_at(&self) -> Option<Instant> {
        (self.delivery.origin == Origin::Sender && !self.written.load(Ordering::Relaxed))
            .then_some(self.long_at)
    }

    /// Writes the activity of a delivery that has not ended.
    fn on_long(&self) {
        self.written.store(true, Ordering::Relaxed);
        let row = self.delivery.pending_entry().into_row();
        let state = self.fleet.state();
        state.try_write_behind(StartedActivity { row, owner: state.server() });
    }
}

impl std::fmt::Debug for DeliveryClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryClock").field("workspace", &self.id()).finish_non_exhaustive()
    }
}

impl Drop for DeliveryClock {
    fn drop(&mut self) {
        self.in_flight.leave(self.id(), self.delivery.anonymous);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PLENTY: Most = Most { all: 10, of_strangers: 10, each: 10 };

    #[tokio::test(start_paused = true)]
    async fn events_of_a_workspace_in_flight_reset_its_time() {
        let in_flight = InFlight::default();
        let [id, other] = [WorkspaceId::random(), WorkspaceId::random()];
        let published = in_flight.enter(id, PLENTY, true).expect("room");
        let start = Instant::now();
        advance(Duration::from_secs(5)).await;
        in_flight.on_published(other);
        assert_eq!(published.last(), start);
        in_flight.on_published(id);
        assert_eq!(published.last(), start + Duration::from_secs(5));
    }

    #[test]
    fn a_workspace_is_forgotten_with_its_last_delivery() {
        let in_flight = InFlight::default();
        let id = WorkspaceId::random();
        let first = in_flight.enter(id, PLENTY, true).expect("room");
        assert!(Arc::ptr_eq(&first, &in_flight.enter(id, PLENTY, false).expect("room")));
        in_flight.leave(id, false);
        assert_eq!(in_flight.count.load(Ordering::Relaxed), 1);
        in_flight.leave(id, true);
        assert_eq!(in_flight.lock().of_strangers, 0);
        assert_eq!((in_flight.count.load(Ordering::Relaxed), in_flight.lock().entries.len()), (0, 0));
    }

    #[test]
    fn deliveries_are_limited_for_a_workspace_and_for_all() {
        let in_flight = InFlight::default();
        let [one, other] = [WorkspaceId::random(), WorkspaceId::random()];
        let most = Most { all: 3, of_strangers: 3, each: 2 };
        let enter = |id| in_flight.enter(id, most, false).map(drop);
        assert_eq!([enter(one), enter(one), enter(one)], [Ok(()), Ok(()), Err(Full::Workspace)]);
        assert_eq!([enter(other), enter(other)], [Ok(()), Err(Full::Server)]);
        in_flight.leave(one, false);
        assert_eq!([enter(other), enter(one)], [Ok(()), Err(Full::Server)]);
        in_flight.leave(other, false);
        assert_eq!(enter(one), Ok(()));
    }

    #[test]
    fn senders_without_a_credential_have_a_part_of_all_deliveries() {
        let in_flight = InFlight::default();
        let most = Most { all: 4, of_strangers: 2, each: 4 };
        let (id, other) = (WorkspaceId::random(), WorkspaceId::random());
        let enter = |id, by_stranger| in_flight.enter(id, most, by_stranger).map(drop);
        assert_eq!(
            [enter(id, true), enter(other, true), enter(id, true)],
            [Ok(()), Ok(()), Err(Full::Server)]
        );
        assert_eq!(
            [enter(id, false), enter(id, false), enter(id, false)],
            [Ok(()), Ok(()), Err(Full::Server)]
        );
        in_flight.leave(id, false);
        assert_eq!(enter(id, true), Err(Full::Server));
        in_flight.leave(other, true);
        assert_eq!(enter(id, true), Ok(()));
    }
}
