//! First-party guests at the start: rows and releases that the database doesn't have yet.

use std::collections::BTreeMap;

use store::guests::{GuestCommitError, GuestMutation, GuestRow, ReleaseMutation, ReleaseRow, ReleaseState};
use wasm::{Digest, World};

use crate::{
    CatalogError, embedded,
    lifecycle::{Source, new_release},
};

/// Attempts to seed while other servers do the same.
const ATTEMPTS: usize = 16;

/// A row with its releases, oldest first.
pub(crate) type StoredGuest = (GuestRow, Vec<ReleaseRow>);

/// A first-party row with what the database lacks of it.
struct Seed {
    row: GuestRow,
    release: ReleaseRow,
    component: &'static [u8],
    is_new: bool,
    activates: bool,
}

/// Every guest, after first-party rows that the database doesn't have were added, and first-party
/// releases that are newer than its. A release that an operator activated stays active.
pub(crate) async fn seeded(store: &store::Store) -> Result<Vec<StoredGuest>, CatalogError> {
    for _ in 0..ATTEMPTS {
        let guests = store.guests().await?;
        let seeds = missing(&guests);
        if seeds.is_empty() {
            return Ok(guests);
        }
        let mutations: Vec<GuestMutation<'_>> = seeds.iter().map(Seed::mutation).collect();
        match store.commit_guests(&mutations).await {
            // Another server seeds at the same time.
            Ok(()) | Err(GuestCommitError::Conflict) => {}
            Err(GuestCommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(CatalogError::Superseded)
}

fn missing(guests: &[StoredGuest]) -> Vec<Seed> {
    let stored: BTreeMap<&str, &StoredGuest> =
        guests.iter().map(|guest| (guest.0.name.as_str(), guest)).collect();
    embedded::ROWS.iter().filter_map(|row| Seed::new(row, stored.get(row.name).copied())).collect()
}

impl Seed {
    fn new(embedded: &embedded::Row, stored: Option<&StoredGuest>) -> Option<Self> {
        let digest = embedded.digest().parse::<Digest>().ok()?;
        let world = World::from_name(embedded.world)?;
        let mut release =
            new_release(embedded.name, &digest, embedded.bytes.len(), Source::Embedded, "isomer");
        release.version = world.versions().first().map(|&version| version.to_owned());
        let row = stored.map_or_else(
            || GuestRow {
                name: embedded.name.to_owned(),
                world: embedded.world.to_owned(),
                component: Some(embedded.component.to_owned()),
                trusted: embedded.trusted,
                enabled: true,
                pooled: embedded.pooled,
                settings: embedded.settings(),
                revision: 0,
                created_at: release.pushed_at,
            },
            |(row, _)| row.clone(),
        );
        let releases = stored.map(|(_, releases)| releases.as_slice()).unwrap_or_default();
        let known = releases.iter().find(|known| known.digest == release.digest);
        let active = releases.iter().find(|release| release.state == ReleaseState::Active);
        let is_ours = active.is_none_or(|active| active.source == Source::Embedded.as_str());
        let activates = is_ours && known.is_none_or(ReleaseRow::is_untried);
        let is_new = known.is_none();
        (is_new || activates).then_some(Self { row, release, component: embedded.bytes, is_new, activates })
    }

    fn mutation(&self) -> GuestMutation<'_> {
        let put = ReleaseMutation::Put { release: &self.release, component: Some(self.component) };
        let activate = ReleaseMutation::Activate {
            digest: &self.release.digest,
            at: Some(self.release.pushed_at),
            replaced: (ReleaseState::Retired, None),
        };
        let releases =
            [self.is_new.then_some(put), self.activates.then_some(activate)].into_iter().flatten().collect();
        GuestMutation { row: &self.row, releases }
    }
}
