//! The open connections: how many there may be in all and from one address, and which are closed to make room.
//!
//! - One address (IPv6: one /64) may have `per_address` of them. One more is refused at once, so that it costs this
//!   server an `accept` and a `close`. Loopback addresses and trusted proxies have no such limit: many clients are
//!   behind them. Through a trusted proxy, the same limit holds for the requests that each forwarded address has in
//!   progress.
//! - When all permits are taken, a newcomer is not left to wait for strangers who do nothing: connections that wait
//!   between two requests, whose head is not complete, or whose body has stopped or is too slow, are closed, those of the
//!   address with the most of them first, and of these the one for which the server has waited longest. Bodies of
//!   admitted callers come last. Nothing that is being answered is interrupted, and an address keeps a few connections
//!   whose head may be under way: the server has waited for it for a moment only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use metrics::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::client_ip::{ClientIp, TrustedProxies};
use crate::requests::{Idle, Requests};

/// The part of all connections that is closed at once to make room: finding them takes a look at each, which is done
/// rarely.
const BATCH: u32 = 16;
/// Connections of one address whose head may be under way that are not closed to make room.
const NEW_OF_ADDRESS: usize = 16;
/// How long a head may be under way, and how long for each connection that there may be: where they are few, each is
/// needed sooner.
const HEAD_TIME: Duration = Duration::from_secs(1);
const HEAD_TIME_EACH: Duration = Duration::from_millis(5);
/// The part of that time after which it is looked again for connections to close, where there were none.
const RETRY: u32 = 4;
/// Period of the log lines about refused and closed connections.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// The open connections.
#[derive(Debug)]
pub(crate) struct ConnectionTable {
    inner: Mutex<Inner>,
    permits: Arc<Semaphore>,
    max: u32,
    per_address: u32,
    head_time: Duration,
    proxies: TrustedProxies,
    refused: Counter,
    evicted: Counter,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the order in which they were accepted.
    open: BTreeMap<u64, Open>,
    next: u64,
    /// Connections, and requests by way of proxies. An address without any is not in the map, so there are at most as
    /// many as connections.
    counts: HashMap<IpAddr, u32>,
    refusals: Report,
    evictions: Report,
}

#[derive(Debug)]
struct Open {
    /// None: the address has no limit, each of its connections may be another client.
    network: Option<IpAddr>,
    requests: Arc<Requests>,
    task: Option<AbortHandle>,
}

/// An address has as many connections or requests as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl ConnectionTable {
    pub(crate) fn new(max: u32, per_address: u32, proxies: TrustedProxies) -> Arc<Self> {
        let (refused, evicted) = (
            metrics::counter!("isomer_connections_refused_total"),
            metrics::counter!("isomer_connections_evicted_total"),
        );
        let permits = Arc::new(Semaphore::new(max as usize));
        let head_time = HEAD_TIME.min(HEAD_TIME_EACH.saturating_mul(max));
        let inner = Mutex::default();
        Arc::new(Self { inner, permits, max, per_address, head_time, proxies, refused, evicted })
    }

    /// Counts a new connection for its address.
    pub(crate) fn count(self: &Arc<Self>, peer: IpAddr) -> Result<Counted, TooMany> {
        let peer = peer.to_canonical();
        let is_limited = !peer.is_loopback() && !self.proxies.trusts(peer);
        self.count_network(is_limited.then(|| ClientIp(peer).network()))
    }

    /// Counts a request for the address that a trusted proxy forwards for. None: it came another way.
    pub(crate) fn count_request(
        self: &Arc<Self>,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Option<Counted>, TooMany> {
        if !self.proxies.trusts(peer) {
            return Ok(None);
        }
        let client = self.proxies.client(peer, headers);
        let is_limited = !client.0.is_loopback() && !self.proxies.trusts(client.0);
        self.count_network(is_limited.then(|| client.network())).map(Some)
    }

    fn count_network(self: &Arc<Self>, network: Option<IpAddr>) -> Result<Counted, TooMany> {
        if let Some(network) = network {
            let mut inner = self.lock();
            let count = inner.counts.entry(network).or_default();
            if *count >= self.per_address {
                self.refused.increment(1);
                if let Some(refused) = inner.refusals.add(1) {
                    let limit = self.per_address;
                    tracing::warn!(%network, limit, refused, "refused: CONNECTIONS_PER_ADDRESS is reached");
                }
                return Err(TooMany);
            }
            *count += 1;
        }
        Ok(Counted { table: Arc::clone(self), network })
    }

    /// Waits for a permit, and closes idle connections where all are taken. None would mean a closed semaphore; it
    /// is never closed.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        loop {
            self.make_room();
            let permit = timeout(self.head_time / RETRY, Arc::clone(&self.permits).acquire_owned());
            if let Ok(permit) = permit.await {
                return permit.ok();
            }
        }
    }

    /// Waits until every socket is gone.
    pub(crate) async fn empty(&self) {
        // It fails on a closed semaphore only; it is never closed.
        let _ = self.permits.acquire_many(self.max).await;
    }

    /// Adds a connection.
    pub(crate) fn add(&self, counted: Counted, permit: OwnedSemaphorePermit) -> ConnectionPermit {
        let requests = Arc::new(Requests::default());
        let mut inner = self.lock();
        let id = inner.next;
        inner.next += 1;
        let open = Open { network: counted.network, requests: Arc::clone(&requests), task: None };
        inner.open.insert(id, open);
        ConnectionPermit { id, requests, counted, _permit: permit }
    }

    /// Names the task that serves a connection. Without it, the connection is not closed to make room.
    pub(crate) fn set_task(&self, id: u64, task: AbortHandle) {
        if let Some(open) = self.lock().open.get_mut(&id) {
            open.task = Some(task);
        }
    }

    /// Closes some of the idle connections. Their permits come back as soon as their tasks have ended.
    pub(crate) fn make_room(&self) {
        let wanted = (self.max / BATCH).max(1);
        let mut inner = self.lock();
        let mut closed = 0;
        for admitted in [false, true] {
            for open in inner.candidates(admitted, self.head_time).iter().filter_map(|id| inner.open.get(id))
            {
                if let Some(task) = &open.task
                    && open.requests.close_if_idle()
                {
                    task.abort();
                    closed += 1;
                }
                if closed == wanted {
                    break;
                }
            }
            if closed > 0 {
                break;
            }
        }
        self.evicted.increment(closed.into());
        if closed > 0
            && let Some(closed) = inner.evictions.add(closed)
        {
            let limit = self.max;
            tracing::warn!(limit, closed, "MAX_CONNECTIONS is reached: idle connections were closed");
        }
    }

    /// A panic elsewhere leaves a table whose entries are all valid.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The idle connections in the order in which they are closed.
    fn candidates(&self, admitted: bool, head_time: Duration) -> Vec<u64> {
        let is_new = |idle: &Idle| idle.awaits_head && idle.time < head_time;
        let now = tokio::time::Instant::now();
        let mut by_network: HashMap<IpAddr, Vec<(Idle, u64)>> = HashMap::new();
        // The largest is taken first: the connection's address has the most, then it is idle for the longest time.
        let mut order = BinaryHeap::new();
        for (id, open) in self.open.iter().filter(|(_, open)| open.task.is_some()) {
            let Some(idle) = open.requests.idle(now).filter(|idle| idle.is_admitted == admitted) else {
                continue;
            };
            match open.network {
                Some(network) => by_network.entry(network).or_default().push((idle, *id)),
                None if is_new(&idle) => {}
                None => order.push((1, idle.time, Reverse(*id), Vec::new())),
            }
        }
        for mut idle in by_network.into_values() {
            idle.sort_unstable_by_key(|(idle, id)| (idle.time, Reverse(*id)));
            let mut spared = 0;
            idle.retain(|(idle, _)| {
                let spare = spared < NEW_OF_ADDRESS && is_new(idle);
                spared += usize::from(spare);
                !spare
            });
            let count = idle.len();
            let mut rest: Vec<_> = idle.into_iter().map(|(idle, id)| (idle.time, Reverse(id))).collect();
            order.extend(rest.pop().map(|(time, id)| (count, time, id, rest)));
        }
        let mut candidates = Vec::new();
        while let Some((count, _, Reverse(id), mut rest)) = order.pop() {
            candidates.push(id);
            order.extend(rest.pop().map(|(time, id)| (count - 1, time, id, rest)));
        }
        candidates
    }
}

/// One connection or request of an address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    table: Arc<ConnectionTable>,
    network: Option<IpAddr>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut inner = self.table.lock();
        if let Some(count) = inner.counts.get_mut(&network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inner.counts.remove(&network);
            }
        }
    }
}

/// The permit of one connection, and its entry in the table. Dropped together with the socket.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    id: u64,
    requests: Arc<Requests>,
    counted: Counted,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionPermit {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.counted.table.lock().open.remove(&self.id);
    }
}

/// Adds up what is logged once in a while.
#[derive(Debug, Default)]
struct Report {
    count: u32,
    next: Option<Instant>,
}

impl Report {
    /// The number to log, if it is time for a line.
    fn add(&mut self, count: u32) -> Option<u32> {
        self.count = self.count.saturating_add(count);
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + REPORT_EVERY);
        Some(mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn table(max: u32, per_address: u32, proxies: &str) -> Arc<ConnectionTable> {
        ConnectionTable::new(max, per_address, proxies.parse().expect("a list"))
    }

    async fn open(table: &Arc<ConnectionTable>, peer: &str) -> ConnectionPermit {
        let counted = table.count(ip(peer)).expect("allowed");
        let permit = table.permit().await.expect("never closed");
        let permit = table.add(counted, permit);
        table.set_task(permit.id(), tokio::spawn(std::future::pending::<()>()).abort_handle());
        permit.requests().waits_from(Instant::now());
        permit
    }

    #[tokio::test]
    async fn an_address_has_a_limit_and_ipv6_counts_by_its_network() {
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"),
        ] {
            let table = table(100, 2, "");
            let first = open(&table, one).await;
            let _second = open(&table, same).await;
            assert_eq!(table.count(ip(one)).err(), Some(TooMany), "{one}");
            let _third = open(&table, other).await;
            drop(first);
            let again = open(&table, same).await;
            assert_eq!(table.count(ip(one)).err(), Some(TooMany), "{one}");
            drop((again, _second, _third));
            let inner = table.lock();
            assert!(
                inner.counts.is_empty() && inner.open.is_empty(),
                "nothing is kept of closed connections"
            );
        }
    }

    #[tokio::test]
    async fn loopback_and_trusted_proxies_are_many_clients() {
        let table = table(100, 1, "10.0.0.0/8");
        let mut permits = Vec::new();
        for peer in ["127.0.0.1", "127.0.0.1", "::1", "::1", "::ffff:127.0.0.1", "10.1.2.3", "10.1.2.3"] {
            permits.push(open(&table, peer).await);
        }
        let mut headers = HeaderMap::new();
        let mut by = |peer: &str, client: &'static str| {
            headers.insert("x-forwarded-for", http::HeaderValue::from_static(client));
            table.count_request(ip(peer), &headers)
        };
        let first = by("10.1.2.3", "192.0.2.1");
        assert!(matches!(first, Ok(Some(_))));
        assert_eq!(by("10.9.9.9", "192.0.2.1").err(), Some(TooMany), "another proxy, the same client");
        assert!(matches!(by("10.1.2.3", "192.0.2.2"), Ok(Some(_))));
        assert!(matches!(by("192.0.2.7", "192.0.2.1"), Ok(None)), "no trusted proxy says so");
        drop(first);
        assert!(by("10.1.2.3", "192.0.2.1").is_ok());
    }

    /// The ids of closed connections, in the order of their closing.
    fn order(table: &ConnectionTable) -> Vec<u64> {
        table.lock().candidates(false, table.head_time)
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_most_idle_connections_loses_the_longest_idle_first() {
        let table = table(100, 50, "");
        let mut permits = Vec::new();
        for peer in
            ["192.0.2.1", "127.0.0.1", "192.0.2.2", "192.0.2.2", "127.0.0.1", "192.0.2.2", "192.0.2.1"]
        {
            permits.push(open(&table, peer).await);
        }
        advance(SECOND).await;
        let busy = permits[0].requests().begin().expect("open");
        assert_eq!(order(&table), [2, 3, 1, 4, 5, 6]);
        drop(busy);
        assert_eq!(order(&table), [2, 3, 1, 4, 5, 6], "its answer is not sent yet");
        permits[0].requests().set_sent();
        permits[0].requests().waits_from(Instant::now());
        assert_eq!(order(&table), [2, 3, 6, 1, 4, 5, 0], "it waits for the shortest time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_gets_the_room_of_an_idle_connection() {
        let table = table(2, 50, "");
        let busy = open(&table, "192.0.2.1").await;
        let request = busy.requests().begin().expect("open");
        let counted = table.count(ip("192.0.2.2")).expect("allowed");
        let permit = table.permit().await.expect("never closed");
        let waiting = table.add(counted, permit);
        let (requests, id) = (Arc::clone(waiting.requests()), waiting.id());
        requests.waits_from(Instant::now());
        let task = tokio::spawn(async move {
            let _waiting = waiting;
            std::future::pending::<()>().await;
        });
        table.set_task(id, task.abort_handle());
        let began = Instant::now();
        let newcomer = open(&table, "192.0.2.3").await;
        assert!(began.elapsed() >= 2 * HEAD_TIME_EACH, "the other one was new");
        assert!(task.await.expect_err("aborted").is_cancelled());
        assert!(requests.begin().is_none());
        drop((newcomer, request));
        assert!(busy.requests().begin().is_some(), "the busy connection stays");
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_and_idle_connections_are_closed_by_the_time_that_the_server_has_waited_for_them() {
        let (table, begun) = (table(100, 50, ""), Instant::now());
        let mut permits = Vec::new();
        for peer in ["127.0.0.1", "192.0.2.1", "127.0.0.1", "192.0.2.2", "127.0.0.1"] {
            permits.push(open(&table, peer).await);
        }
        let [stopped, idle, later, last, admitted] = [0, 1, 2, 3, 4].map(|id: usize| permits[id].requests());
        let _requests = [stopped, later, last, admitted].map(|requests| requests.begin().expect("open"));
        drop(idle.begin());
        idle.set_sent();
        admitted.set_admitted();
        advance(SECOND).await;
        for (requests, late_from) in
            [(stopped, begun), (admitted, begun), (later, begun + SECOND / 2), (last, begun + SECOND)]
        {
            requests.body_awaited(late_from);
        }
        idle.waits_from(begun + SECOND);
        assert_eq!(order(&table), [0, 1], "the others may come");
        advance(SECOND).await;
        assert_eq!(order(&table), [0, 2, 1, 3]);
        table.make_room();
        assert_eq!((order(&table), table.lock().candidates(true, SECOND)), (vec![], vec![4]));
        table.make_room();
        assert!(admitted.begin().is_none(), "the admitted caller's comes last");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_a_moment_for_its_first_request() {
        let table = table(1000, 500, "");
        let old = open(&table, "192.0.2.9").await;
        advance(SECOND).await;
        let mut permits = Vec::new();
        for peer in ["192.0.2.1", "127.0.0.1", "192.0.2.2"] {
            permits.push(open(&table, peer).await);
        }
        assert_eq!(order(&table), [0], "the new ones stay");
        drop(old);
        // Between two requests it is not new.
        drop(permits[2].requests().begin());
        permits[2].requests().set_sent();
        assert_eq!(order(&table), [3]);
        for _ in 0..40 {
            permits.push(open(&table, "192.0.2.3").await);
        }
        let mut closed = order(&table);
        closed.sort_unstable();
        assert_eq!(closed.len(), 1 + 40 - NEW_OF_ADDRESS, "an address keeps a few new ones");
        assert_eq!(closed.first(), Some(&3));
        advance(SECOND).await;
        assert_eq!(order(&table).len(), permits.len());
    }
}
