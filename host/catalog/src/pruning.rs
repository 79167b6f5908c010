//! Refused releases are kept for their reasons, up to an age, a number and a size; of those and of what no release
//! uses, the disk keeps no compiled form for long.
//!
//! What is kept is chosen by the time of the refusal, and the one that is just refused is always kept: its reason was
//! not read yet, and an operator may trust it and activate it. Bytes that never were a component can't crowd out those
//! that were: they are counted apart.
//!
//! A start puts a file of the watched directory into service if its guest never had these bytes, which their release
//! says. So those of the directory are counted apart too, and never by age or over all guests: of the files of a
//! guest's name that were refused there, the last is the one that may be there still (on one of several servers: the
//! last few). Only someone who writes to that directory can make them more, and a guest has ten at most.
//!
//! A release that was in service once is no refused one, whatever became of it later: an operator may want it back, and
//! a file in the watched directory would put it into service again. First-party releases stay too, because a start
//! would add them again.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use store::guests::{ReleaseMutation, ReleaseRow, ReleaseState};

use crate::{Catalog, CatalogError, components::blocking, guest::Guest, source::Source};

/// How many refused releases are kept, and bytes of their components.
struct Kept {
    releases: usize,
    bytes: u64,
}

/// Of one guest, of each [`Kind`].
const OF_ONE: Kept = Kept { releases: 10, bytes: 64 << 20 };

/// Of all guests together, beside those of the watched directory.
const OF_ALL: Kept = Kept { releases: 200, bytes: 512 << 20 };

/// Deletions in one transaction: all commits of the deployment wait for it.
const AT_ONCE: usize = 100;

/// How long.
const AGE: Duration = Duration::days(30);

impl Catalog {
    /// After a refusal: deletes what this server keeps of the component, and refused releases beyond what is kept.
    pub(crate) async fn prune_after(&self, refusal: &CatalogError, digest: &str) {
        if refusal.is_the_guests_fault() {
            self.evict_refused(&[digest.to_owned()]).await;
            self.prune_refused(Some(digest)).await;
        }
    }

    /// Deletes refused releases beyond what is kept, never those of the digest `just` refused. What fails or is
    /// interrupted is done by the next call; the hourly sweep makes one.
    pub(crate) async fn prune_refused(&self, just: Option<&str>) {
        let guests = self.inner.guests.load_full();
        for (name, digests) in excess(guests.values(), store::now(), just) {
            let Some(guest) = guests.get(&name) else { continue };
            for digests in digests.chunks(AT_ONCE) {
                if let Err(error) = self.delete_refused(guest, digests).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        guest = name,
                        error,
                        "refused releases could not be deleted; the next sweep tries again"
                    );
                    break;
                }
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
        self.evict_refused(&refused).await;
        Ok(())
    }

    /// Notes of a refused release that the watched directory has its bytes and that it is not tried for that: it counts
    /// as the last refused of the directory from now on, and is kept.
    pub(crate) async fn note_in_directory(
        &self,
        guest: &Arc<Guest>,
        digest: &str,
    ) -> Result<(), CatalogError> {
        loop {
            let change = self.inner.changes.lock().await;
            let (row, noted) = {
                let record = guest.read();
                let last = record
                    .releases
                    .iter()
                    .filter(|release| is_refused(release) && kind(release) == Kind::Folder)
                    .max_by_key(|release| refused_at(release));
                let is_last = last.is_some_and(|last| last.digest == digest);
                let refused = record.release(digest).filter(|release| is_refused(release));
                let Some(release) = refused.filter(|_| !is_last) else { return Ok(()) };
                let source = Source::Folder.as_str().to_owned();
                let noted = ReleaseRow { source, refused_at: Some(store::now()), ..release.clone() };
                (record.row.clone(), noted)
            };
            let put = ReleaseMutation::Put { release: Box::new(noted.clone()), component: None };
            match self.commit(guest, row, vec![put]).await {
                Ok(()) => {
                    guest.write().put(&noted);
                    return Ok(());
                }
                Err(CatalogError::Superseded) => {
                    drop(change);
                    self.refresh(&guest.name).await?;
                }
                // Deleted meanwhile: the file is the first of a new guest at the next start.
                Err(CatalogError::NoGuest) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes compiled forms that no release uses, beyond what is kept: of components that were refused before they
    /// became releases, or whose push was interrupted.
    pub(crate) async fn sweep_compiled(&self) {
        let used = self.digests(|release| release.state != ReleaseState::Rejected);
        let sandbox = self.inner.sandbox.clone();
        let swept = blocking(move || sandbox.sweep_cache(|digest| used.contains(&digest.to_string())));
        if swept.await.is_err() {
            tracing::warn!("compiled guests without use could not be removed");
        }
    }
}

fn is_refused(release: &ReleaseRow) -> bool {
    release.state == ReleaseState::Rejected
        && release.activated_at.is_none()
        && release.source != Source::Embedded.as_str()
}

/// What refused releases are counted with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// From the watched directory.
    Folder,
    /// Refused after it was loaded: it can be activated again, for one once its guest is trusted.
    Component,
    /// Never loaded; there are no bytes of it.
    Rubbish,
}

const KINDS: [Kind; 3] = [Kind::Folder, Kind::Component, Kind::Rubbish];

fn kind(release: &ReleaseRow) -> Kind {
    if release.source == Source::Folder.as_str() {
        Kind::Folder
    } else if release.version.is_some() {
        Kind::Component
    } else {
        Kind::Rubbish
    }
}

/// Releases that a version refused that did not store when: not before they were pushed.
fn refused_at(release: &ReleaseRow) -> DateTime<Utc> {
    release.refused_at.unwrap_or(release.pushed_at)
}

/// Digests of refused releases beyond what is kept, by guest.
fn excess<'a>(
    guests: impl Iterator<Item = &'a Arc<Guest>>,
    now: DateTime<Utc>,
    just: Option<&str>,
) -> Vec<(String, Vec<String>)> {
    let mut kept: Vec<ReleaseRow> = Vec::new();
    let mut excess: Vec<(String, String)> = Vec::new();
    for guest in guests {
        let refused: Vec<ReleaseRow> =
            guest.read().releases.iter().filter(|release| is_refused(release)).cloned().collect();
        let is_old = |release: &ReleaseRow| {
            kind(release) != Kind::Folder && now.signed_duration_since(refused_at(release)) > AGE
        };
        let (old, young): (Vec<_>, Vec<_>) = refused.into_iter().partition(is_old);
        excess.extend(old.into_iter().map(|release| (release.guest, release.digest)));
        for one in KINDS {
            let releases = young.iter().filter(|release| kind(release) == one).cloned().collect();
            let within_one = within(releases, &OF_ONE, just, &mut excess);
            kept.extend(within_one.into_iter().filter(|_| one != Kind::Folder));
        }
    }
    within(kept, &OF_ALL, just, &mut excess);
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

/// Those that are kept: what is just refused, then components, then the last refused; the others become excess.
fn within(
    mut releases: Vec<ReleaseRow>,
    limit: &Kept,
    just: Option<&str>,
    excess: &mut Vec<(String, String)>,
) -> Vec<ReleaseRow> {
    let is_just = |release: &ReleaseRow| just == Some(release.digest.as_str());
    releases.sort_by_key(|release| {
        std::cmp::Reverse((is_just(release), kind(release) == Kind::Component, refused_at(release)))
    });
    let mut bytes: u64 = 0;
    let mut kept = Vec::new();
    for release in releases {
        bytes = bytes.saturating_add(release.size_bytes);
        // The first is kept whatever its size: its reason was not read yet.
        if kept.is_empty() || is_just(&release) || kept.len() < limit.releases && bytes <= limit.bytes {
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
            refused_at: None,
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
            description: None,
            revision: 1,
            created_at: DateTime::UNIX_EPOCH,
        };
        Arc::new(Guest::new(row, World::Adapter, releases))
    }

    fn pruned(guests: &[Arc<Guest>], days: i64) -> Vec<(String, Vec<String>)> {
        excess(guests.iter(), DateTime::UNIX_EPOCH + Duration::days(days), None)
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

    fn digests(guests: &[Arc<Guest>], days: i64, just: Option<&str>) -> Vec<String> {
        let excess = excess(guests.iter(), DateTime::UNIX_EPOCH + Duration::days(days), just);
        excess.into_iter().flat_map(|(_, digests)| digests).collect()
    }

    #[test]
    fn what_is_kept_is_chosen_by_the_time_of_the_refusal() {
        let mut releases: Vec<_> =
            (0..12).map(|number| release("a", number, ReleaseState::Rejected, 1)).collect();
        releases[0].refused_at = Some(DateTime::UNIX_EPOCH + Duration::days(40));
        let all = [guest("a", releases.clone())];
        assert_eq!(digests(&all, 1, None), ["a01", "a02"]);
        assert!(!digests(&all, 60, None).contains(&"a00".to_owned()));
        // What is just refused stays, though a clock that jumped says that it was refused before all others.
        assert_eq!(digests(&all, 1, Some("a01")), ["a02", "a03"]);
        releases[1].size_bytes = 65 << 20;
        assert!(!digests(&[guest("a", releases)], 1, Some("a01")).contains(&"a01".to_owned()));
    }

    #[test]
    fn bytes_that_never_loaded_crowd_out_no_component() {
        let mut releases: Vec<_> =
            (0..15).map(|number| release("a", number, ReleaseState::Rejected, 16 << 20)).collect();
        releases[0].version = Some("1.0.0".to_owned());
        assert!(!digests(&[guest("a", releases.clone())], 1, Some("a14")).contains(&"a00".to_owned()));
        // Nor over all guests.
        let others = (0..50).map(|number| {
            let name = format!("g{number:02}");
            guest(&name, (1..10).map(|n| release(&name, n, ReleaseState::Rejected, 1)).collect())
        });
        let all: Vec<_> = std::iter::once(guest("a", releases)).chain(others).collect();
        let pruned = digests(&all, 1, None);
        assert!(pruned.len() > 200 && !pruned.contains(&"a00".to_owned()));
    }

    #[test]
    fn the_last_refused_files_of_the_directory_are_kept_for_good() {
        let mut releases: Vec<_> =
            (0..40).map(|number| release("a", number, ReleaseState::Rejected, 1)).collect();
        for folder in &mut releases[..12] {
            folder.source = "folder".to_owned();
        }
        let pruned = digests(&[guest("a", releases)], 365, None);
        assert_eq!(pruned[..2], ["a00", "a01"]);
        assert_eq!(pruned[2..], (12..40).map(|number| format!("a{number:02}")).collect::<Vec<_>>());
        let many: Vec<_> = (0..300)
            .map(|number| {
                let name = format!("g{number:03}");
                let mut refused = release(&name, 0, ReleaseState::Rejected, 16 << 20);
                refused.source = "folder".to_owned();
                guest(&name, vec![refused])
            })
            .collect();
        assert!(digests(&many, 1, None).is_empty());
    }
}
