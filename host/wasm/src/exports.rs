//! How a component says which world it is of: by the interface that it exports.

use types::clip;

use crate::{LoadError, World, failure::NAMES};

/// Reads world and version off the names of a component's exports. Others than ours don't count: toolchains add some of
/// their own.
pub(crate) fn world(exports: &[String]) -> Result<(World, String), LoadError> {
    let wrong = || LoadError::World {
        found: if exports.is_empty() { "nothing".to_owned() } else { clip(exports.join(", "), NAMES) },
        expected: World::ALL
            .map(|world| format!("{}@{}", world.interface(), world.versions().join("|")))
            .join(", "),
    };
    let mut ours = exports.iter().filter_map(|export| of_ours(export));
    let (Some((world, version)), None) = (ours.next(), ours.next()) else { return Err(wrong()) };
    if !world.versions().contains(&version) {
        return Err(LoadError::Version {
            world,
            found: clip(version.to_owned(), NAMES),
            supported: world.versions().join(", "),
        });
    }
    Ok((world, version.to_owned()))
}

fn of_ours(export: &str) -> Option<(World, &str)> {
    let (interface, version) = export.split_once('@')?;
    let world = World::ALL.into_iter().find(|world| world.interface() == interface)?;
    Some((world, version))
}
