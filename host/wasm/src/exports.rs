//! How a component says which world it is of: by the interface that it exports.

use types::clip;

use crate::{LoadError, World, failure::NAMES};

/// Reads world and version off the names of a component's exports.
pub(crate) fn world(exports: &[String]) -> Result<(World, String), LoadError> {
    let wrong = || LoadError::World {
        found: if exports.is_empty() { "nothing".to_owned() } else { clip(exports.join(", "), NAMES) },
        expected: World::ALL
            .map(|world| format!("{}@{}", world.interface(), world.versions().join("|")))
            .join(", "),
    };
    let [export] = exports else { return Err(wrong()) };
    let (interface, version) = export.split_once('@').ok_or_else(wrong)?;
    let world = World::ALL.into_iter().find(|world| world.interface() == interface).ok_or_else(wrong)?;
    if !world.versions().contains(&version) {
        return Err(LoadError::Version {
            world,
            found: clip(version.to_owned(), NAMES),
            supported: world.versions().join(", "),
        });
    }
    Ok((world, version.to_owned()))
}
