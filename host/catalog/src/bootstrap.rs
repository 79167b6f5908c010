//! First-party guests at the start: rows and releases that the database doesn't have yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{
    CommitError, Store,
    guests::{GuestRow, PutGuest, ReleaseMutation, ReleaseRow, ReleaseState},
};
use wasm::{Digest, World};

use crate::{
    CatalogError, embedded,
    source::{Source, new_release},
};

/// Attempts to seed while other servers do the same.
const ATTEMPTS: usize = 16;

/// A row with its releases, oldest first.
pub(crate) type StoredGuest = (GuestRow, Vec<ReleaseRow>);

/// Every guest, after first-party rows that the database doesn't have were added, and first-party
/// releases that are newer than its. A release that an operator activated stays active.
pub(crate) async fn seeded(store: &Store) -> Result<Vec<StoredGuest>, CatalogError> {
    for _ in 0..ATTEMPTS {
        let guests = store.guests().await?;
        let seeds = missing(&guests);
        if seeds.is_empty() {
            return Ok(guests);
        }
        for release in seeds.iter().flat_map(|seed| &seed.releases) {
            if let ReleaseMutation::Put { release, component: Some(bytes) } = release {
                store.put_component(&release.digest, bytes).await?;
            }
        }
        match store.commit_guests(seeds).await {
            // Another server seeds at the same time.
            Ok(()) | Err(CommitError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(CatalogError::Superseded)
}

fn missing(guests: &[StoredGuest]) -> Vec<PutGuest> {
    let stored: BTreeMap<&str, &StoredGuest> =
        guests.iter().map(|guest| (guest.0.name.as_str(), guest)).collect();
    embedded::ROWS.iter().filter_map(|row| seed(row, stored.get(row.name).copied())).collect()
}

/// What the database lacks of a first-party guest, if anything.
fn seed(embedded: &embedded::Row, stored: Option<&StoredGuest>) -> Option<PutGuest> {
    let digest = embedded.digest().parse::<Digest>().ok()?;
    let world = World::from_name(embedded.world)?;
    let mut release = new_release(embedded.name, &digest, embedded.bytes.len(), Source::Embedded, "isomer");
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
            description: None,
            revision: 0,
            created_at: release.pushed_at,
        },
        |(row, _)| row.clone(),
    );
    let releases = stored.map(|(_, releases)| releases.as_slice()).unwrap_or_default();
    let known = releases.iter().find(|known| known.digest == release.digest);
    let active = releases.iter().find(|release| release.state == ReleaseState::Active);
    let is_ours = active.is_none_or(|active| active.source == Source::Embedded.as_str());
    let activate = (is_ours && known.is_none_or(ReleaseRow::is_untried)).then(|| ReleaseMutation::Activate {
        digest: release.digest.clone(),
        at: Some(release.pushed_at),
        replaced: (ReleaseState::Retired, None),
    });
    let put = known.is_none().then(|| ReleaseMutation::Put {
        release: Box::new(release),
        component: Some(Bytes::from_static(embedded.bytes)),
    });
    let releases: Vec<ReleaseMutation> = put.into_iter().chain(activate).collect();
    (!releases.is_empty()).then_some(PutGuest { row, releases })
}
