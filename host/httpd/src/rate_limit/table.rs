//! Where the budgets are: a bounded table of keys, each with the time at which its burst will be
//! full again.
//!
//! The time is all that GCRA needs to know, and it orders the keys by how much of their budget is
//! used up. So a full table makes room by forgetting the keys that would be full soonest: first
//! those that are full already, of which nothing is lost, then those that asked once or twice. A
//! new key always finds space. For a used-up budget to be forgotten, a client would have to use up
//! nearly as many others at the same time as the table holds; invented keys that asked once push out
//! each other.
//!
//! The table is cut into shards, so that requests rarely wait for each other, and the one that has
//! to make room holds up only those of its shard, for some ten microseconds.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;

/// Keys that one table holds.
pub(super) const CAPACITY: usize = 100_000;
const SHARDS: usize = 16;
/// How much of a full shard makes room at once: dear enough to be done rarely, little enough that
/// only the least used keys go.
const SURPLUS: usize = 16;

/// The owner of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The organization that this server belongs to.
    Org,
    /// The holder of a token, by its SHA-256.
    Token([u8; 32]),
    /// A client by its address.
    Address(IpAddr),
}

impl Key {
    /// What kind of key it is, for the log.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::Token(_) => "token",
            Self::Address(_) => "address",
        }
    }
}

/// A key, and where the table notes when its burst is full again: governor decides by that time but
/// does not expose it.
#[derive(Debug, Clone)]
pub(super) struct CountedKey {
    pub(super) key: Key,
    /// Counted from the start of the limiter.
    pub(super) full_at: Cell<Nanos>,
}

impl CountedKey {
    pub(super) fn new(key: Key) -> Self {
        Self { key, full_at: Cell::default() }
    }
}

impl PartialEq for CountedKey {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for CountedKey {}

impl Hash for CountedKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key.hash(hasher);
    }
}

type Shard = HashMap<Key, Nanos>;

/// The budgets of one limiter.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
    places: usize,
    hasher: RandomState,
}

impl Table {
    pub(super) fn new() -> Self {
        Self::with_shards(SHARDS, CAPACITY / SHARDS)
    }

    fn with_shards(shards: usize, places: usize) -> Self {
        let shards = (0..shards).map(|_| Mutex::default()).collect();
        Self { shards, places, hasher: RandomState::new() }
    }

    fn shard(&self, key: Key) -> Option<MutexGuard<'_, Shard>> {
        let hash = self.hasher.hash_one(key) as usize;
        self.shards.get(hash % self.shards.len()).map(lock)
    }
}

/// A panic elsewhere leaves a map of times, of which none is invalid.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets the keys whose burst is full soonest.
fn make_room(shard: &mut Shard) {
    let mut times: Vec<Nanos> = shard.values().copied().collect();
    let surplus = times.len().div_ceil(SURPLUS);
    let Some(last) = surplus.checked_sub(1) else {
        return;
    };
    let (sooner, last, _) = times.select_nth_unstable(last);
    let last = *last;
    // Of those that are full at the very same time, no more than have to go.
    let mut ties = surplus - sooner.iter().filter(|time| **time < last).count();
    shard.retain(|_, time| {
        if *time == last && ties > 0 {
            ties -= 1;
            return false;
        }
        *time >= last
    });
}

impl StateStore for Table {
    type Key = CountedKey;

    fn measure_and_replace<T, F, E>(&self, counted: &CountedKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Some(mut shard) = self.shard(counted.key) else {
            return decide(None).map(|(decision, _)| decision); // there is at least one shard
        };
        let known = shard.get_mut(&counted.key);
        let (decision, full_at) = decide(known.as_deref().copied())?;
        counted.full_at.set(full_at);
        if let Some(time) = known {
            *time = full_at;
        } else {
            if shard.len() >= self.places {
                make_room(&mut shard);
            }
            shard.insert(counted.key, full_at);
        }
        Ok(decision)
    }
}

impl ShrinkableKeyedStateStore<CountedKey> for Table {
    fn retain_recent(&self, drop_below: Nanos) {
        for shard in &self.shards {
            lock(shard).retain(|_, full_at| *full_at > drop_below);
        }
    }

    fn shrink_to_fit(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let twice = shard.len() * 2;
            shard.shrink_to(twice);
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn key(number: u32) -> Key {
        Key::Address(Ipv4Addr::from_bits(number).into())
    }

    /// Makes a key full again at a time, as a request would.
    fn set(table: &Table, number: u32, full_at: u64) {
        let decide = |_: Option<Nanos>| Ok::<_, ()>(((), Nanos::new(full_at)));
        table.measure_and_replace(&CountedKey::new(key(number)), decide).expect("decided");
    }

    fn get(table: &Table, number: u32) -> Option<u64> {
        let decide = |known: Option<Nanos>| Err::<((), Nanos), _>(known);
        let known = table.measure_and_replace(&CountedKey::new(key(number)), decide);
        known.expect_err("left as it is").map(Nanos::as_u64)
    }

    #[test]
    fn a_refusal_changes_nothing() {
        let table = Table::new();
        assert_eq!(get(&table, 1), None);
        assert!(table.is_empty());
        set(&table, 1, 7);
        assert_eq!(get(&table, 1), Some(7));
    }

    #[test]
    fn a_full_table_forgets_the_least_used_keys() {
        let table = Table::with_shards(1, 32);
        (0..32).for_each(|number| set(&table, number, 1_000 + u64::from(number)));
        set(&table, 5, 9_000);
        set(&table, 100, 500);
        // A sixteenth made room; what number 5 used was not forgotten.
        assert_eq!(table.len(), 31);
        assert_eq!([get(&table, 0), get(&table, 1)], [None, None]);
        assert_eq!([get(&table, 2), get(&table, 5), get(&table, 100)], [Some(1_002), Some(9_000), Some(500)]);
    }

    #[test]
    fn only_as_many_equal_entries_are_evicted_as_needed() {
        let table = Table::with_shards(1, 32);
        (0..33).for_each(|number| set(&table, number, 1));
        assert_eq!(table.len(), 31);
    }

    #[test]
    fn keys_that_ask_once_do_not_push_out_a_used_up_budget() {
        let table = Table::with_shards(1, 64);
        set(&table, 0, 1_000_000);
        for number in 1..10_000 {
            set(&table, number, u64::from(number));
            assert!(table.len() <= 64);
            // The new key is stored although the table is full.
            assert_eq!(get(&table, number), Some(u64::from(number)));
        }
        assert_eq!(get(&table, 0), Some(1_000_000));
    }

    #[test]
    fn a_full_table_stays_within_its_capacity() {
        let table = Table::new();
        let capacity = u32::try_from(CAPACITY).expect("small");
        (0..capacity * 3 / 2).for_each(|number| set(&table, number, 1));
        assert!(table.len() <= CAPACITY, "{}", table.len());
        assert!(table.len() > CAPACITY * 9 / 10, "{}", table.len());
        table.retain_recent(Nanos::new(1));
        assert!(table.is_empty());
        table.shrink_to_fit();
        assert!(table.shards.iter().all(|shard| lock(shard).capacity() < 16));
    }
}
