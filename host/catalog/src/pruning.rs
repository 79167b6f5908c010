//! Refused releases are kept for their reasons, up to an age, a number and a size; of those and of what no release
//! uses, the disk keeps no compiled form for long.
//!
//! A release that was in service once is no refused one, whatever became of it later: an operator may want it back, and
//! a file in the watched directory would put it into service again. First-party releases stay too, because a start would
//! add them again.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Duration, Utc};
use store::guests::{ReleaseMutation, ReleaseRow, ReleaseState};
use wasm::Digest;

use crate::{Catalog, CatalogError, components::blocking, guest::Guest, source::Source};

/// How many refused releases are kept, and bytes of their components.
struct Kept {
    releases: usize,
    bytes: u64,
}

/// Of one guest.
const OF_ONE: Kept = Kept { releases: 10, bytes: 64 << 20 };

/// Of all guests together.
const OF_ALL: Kept = Kept { releases: 200, bytes: 512 << 20 };

/// How long.
const AGE: Duration = Duration::days(30);

impl Catalog {
    /// Deletes refused releases beyond what is kept. What fails or is interrupted is done by the next call; the
    /// hourly sweep makes one.
    pub(crate) async fn prune_refused(&self) {
        let guests = self.inner.guests.load_full();
        for (name, digests) in excess(guests.values(), store::now()) {
            let Some(guest) = guests.get(&name) else { continue };
            if let Err(error) = self.delete_refused(guest, &digests).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    guest = name,
                    error,
                    "refused releases could not be deleted; the next sweep tries again"
                );
            }
        }
    }

    async fn delete_refused(&self, guest: &Arc<Guest>, digests: &[String]) -> Result<(), CatalogError> {
        let change = self.inner.changes.lock().await;
        // A push or an operator may have put one to use meanwhile. What another server did makes the commit a conflict.
        let refused: Vec<String> = {
            let record = guest.read();
            let is_refused = |digest: &&String| record.release(digest).is_some_and(is_refused);
            digests.iter().filter(is_refused).cloned().collect()
        };
        if refused.is_empty() {
            return Ok(());
        }
        let row = guest.read().row.clone();
        let delete = |digest: &String| ReleaseMutation::Delete { digest: digest.clone() };
        match self.commit(guest, row, refused.iter().map(delete).collect()).await {
            Err(CatalogError::Superseded) => {
                drop(change);
                return self.refresh(&guest.name).await;
            }
            Err(CatalogError::NoGuest) => return Ok(()),
            committed => committed?,
        }
        refused.iter().for_each(|digest| guest.write().remove(digest));
        drop(change);
        tracing::info!(
            guest = guest.name,
            releases = refused.len(),
            "refused releases were deleted: more are not kept"
        );
        for digest in &refused {
            self.evict_refused(digest).await;
        }
        Ok(())
    }

    /// Deletes what this server keeps of a refused component on its disk, unless a release may be put into service that
    /// has it. The note that the compiler died of it stays, as long as there are not too many: a file in the watched
    /// directory would be compiled again.
    pub(crate) async fn evict_refused(&self, digest: &str) {
        if self.used_digests().contains(digest) {
            return;
        }
        let Ok(digest) = digest.parse::<Digest>() else { return };
        let (sandbox, components) = (self.inner.sandbox.clone(), self.inner.components.clone());
        let evicted = blocking(move || {
            sandbox.evict_compiled(&digest);
            components.evict(&digest);
        });
        if evicted.await.is_err() {
            tracing::warn!(%digest, "the files of a refused release could not be removed");
        }
    }

    /// Deletes compiled forms that no release uses, beyond what is kept: of components that were refused before they
    /// became releases, or whose push was interrupted.
    pub(crate) async fn sweep_compiled(&self) {
        let (used, sandbox) = (self.used_digests(), self.inner.sandbox.clone());
        let swept = blocking(move || sandbox.sweep_cache(|digest| used.contains(&digest.to_string())));
        if swept.await.is_err() {
            tracing::warn!("compiled guests without use could not be removed");
        }
    }

    /// Digests of releases that are in service, or may be put into it.
    fn used_digests(&self) -> HashSet<String> {
        let guests = self.inner.guests.load_full();
        let mut used = HashSet::new();
        for guest in guests.values() {
            let record = guest.read();
            let releases = record.releases.iter().filter(|release| release.state != ReleaseState::Rejected);
            used.extend(releases.map(|release| release.digest.clone()));
        }
        used
    }
}

fn is_refused(release: &ReleaseRow) -> bool {
    release.state == ReleaseState::Rejected
        && release.activated_at.is_none()
        && release.source != Source::Embedded.as_str()
}

/// Digests of refused releases beyond what is kept, by guest.
fn excess<'a>(
    guests: impl Iterator<Item = &'a Arc<Guest>>,
    now: DateTime<Utc>,
) -> Vec<(String, Vec<String>)> {
    let mut kept: Vec<ReleaseRow> = Vec::new();
    let mut excess: Vec<(String, String)> = Vec::new();
    for guest in guests {
        let refused: Vec<ReleaseRow> =
            guest.read().releases.iter().filter(|release| is_refused(release)).cloned().collect();
        let (old, young): (Vec<_>, Vec<_>) =
            refused.into_iter().partition(|release| now.signed_duration_since(release.pushed_at) > AGE);
        excess.extend(old.into_iter().map(|release| (release.guest, release.digest)));
        kept.extend(within(young, &OF_ONE, &mut excess));
    }
    within(kept, &OF_ALL, &mut excess);
    let mut by_guest: Vec<(String, Vec<String>)> = Vec::new();
    excess.sort();
    for (guest, digest) in excess {
        match by_guest.last_mut().filter(|(last, _)| *last == guest) {
            Some((_, digests)) => digests.push(digest),
            None => by_guest.push((guest, vec![digest])),
        }
    }
    by_guest
}

/// The newest that are kept; the others become excess.
fn within(
    mut releases: Vec<ReleaseRow>,
    limit: &Kept,
    excess: &mut Vec<(String, String)>,
) -> Vec<ReleaseRow> {
    releases.sort_by_key(|release| std::cmp::Reverse(release.pushed_at));
    let mut bytes: u64 = 0;
    let mut kept = Vec::new();
    for release in releases {
        bytes = bytes.saturating_add(release.size_bytes);
        // The newest is kept whatever its size: its reason was not read yet.
        if kept.is_empty() || kept.len() < limit.releases && bytes <= limit.bytes {
            kept.push(release);
        } else {
            excess.push((release.guest, release.digest));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use store::guests::{Counters, GuestRow};
    use wasm::World;

    use super::*;

    fn release(guest: &str, number: usize, state: ReleaseState, size_bytes: u64) -> ReleaseRow {
        ReleaseRow {
            guest: guest.to_owned(),
            digest: format!("{guest}{number:02}"),
            version: None,
            size_bytes,
            source: "upload".to_owned(),
            pushed_by: "test".to_owned(),
            pushed_at: DateTime::UNIX_EPOCH + Duration::hours(i64::try_from(number).unwrap()),
            activated_at: None,
            state,
            reason: None,
            counters: Counters::default(),
        }
    }

    fn guest(name: &str, releases: Vec<ReleaseRow>) -> Arc<Guest> {
        let row = GuestRow {
            name: name.to_owned(),
            world: "adapter".to_owned(),
            component: None,
            trusted: false,
            enabled: true,
            pooled: false,
            settings: serde_json::json!({}),
            revision: 1,
            created_at: DateTime::UNIX_EPOCH,
        };
        Arc::new(Guest::new(row, World::Adapter, releases))
    }

    fn pruned(guests: &[Arc<Guest>], days: i64) -> Vec<(String, Vec<String>)> {
        excess(guests.iter(), DateTime::UNIX_EPOCH + Duration::days(days))
    }

    #[test]
    fn the_newest_refused_releases_of_a_guest_are_kept() {
        let mut releases: Vec<_> =
            (0..13).map(|number| release("a", number, ReleaseState::Rejected, 1)).collect();
        for (number, state) in
            [(13, ReleaseState::Active), (14, ReleaseState::Retired), (15, ReleaseState::Staged)]
        {
            releases.push(release("a", number, state, 1));
        }
        // In service once; and one that comes with the program.
        releases[0].activated_at = Some(DateTime::UNIX_EPOCH);
        releases[1].source = "embedded".to_owned();
        let all = ["a", "b"].map(|name| guest(name, releases.clone()));
        assert_eq!(pruned(&all[..1], 1), [("a".to_owned(), vec!["a02".to_owned()])]);
        let old = pruned(&all[..1], 31);
        assert_eq!(old[0].1.len(), 11);
        assert!(!old[0].1.contains(&"a00".to_owned()) && !old[0].1.contains(&"a13".to_owned()));
    }

    #[test]
    fn their_size_and_those_of_all_guests_are_bounded() {
        let large = (0..3).map(|number| release("a", number, ReleaseState::Rejected, 40 << 20)).collect();
        assert_eq!(
            pruned(&[guest("a", large)], 1),
            [("a".to_owned(), vec!["a00".to_owned(), "a01".to_owned()])]
        );
        let names: Vec<String> = (0..21).map(|number| format!("g{number:02}")).collect();
        let many: Vec<_> = names
            .iter()
            .map(|name| guest(name, (0..10).map(|n| release(name, n, ReleaseState::Rejected, 1)).collect()))
            .collect();
        assert_eq!(pruned(&many[..20], 1), []);
        let count: usize = pruned(&many, 1).iter().map(|(_, digests)| digests.len()).sum();
        assert_eq!(count, 10);
    }
}
