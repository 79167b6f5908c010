//! How many connections this process can serve, by the files that it may open.
//!
//! A connection takes a descriptor, and the message that it sends to an agent another one. So connections get half of
//! the descriptors that are left when [`RESERVE`] are kept for everything else: up to 20 connections to Postgres, or
//! SQLite's files, the log, compilers of guests with their pipes, templates that are being read. A server that runs out
//! of descriptors for connections has enough for the database.

use std::num::NonZeroU32;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::HttpSettings;

/// Descriptors that are kept for other things than connections of clients and agents.
const RESERVE: u64 = 256;
/// Descriptors of one connection: its own, and one to an agent.
const EACH: u64 = 2;
/// Connections where hardly any descriptors are to be had.
const FEWEST: u32 = 16;
/// Up to this number of connections, the log says why there are no more.
const FEW: u32 = 1_000;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// In all.
    pub connections: u32,
    /// From one address.
    pub per_address: u32,
}

impl Capacity {
    /// Connections of a process that may open files without a limit.
    pub(crate) const MAX_CONNECTIONS: u32 = 10_000;
    /// The part of all connections that one address may have.
    pub(crate) const ADDRESS_PART: u32 = 4;

    /// The capacity by the settings, for a process that may open this many files.
    #[must_use]
    pub fn new(settings: &HttpSettings, open_files: Option<u64>) -> Self {
        let connections = settings.max_connections.map_or_else(|| affordable(open_files), NonZeroU32::get);
        let part = connections.div_ceil(Self::ADDRESS_PART);
        let per_address = settings.connections_per_address.map_or(part, NonZeroU32::get);
        Self { connections, per_address }
    }

    /// What an operator should know about it.
    #[must_use]
    pub fn hint(&self, settings: &HttpSettings, open_files: Option<u64>) -> Option<String> {
        let (open_files, connections) = (open_files?, self.connections);
        if settings.max_connections.is_some() {
            let enough = affordable(Some(open_files));
            return (connections > enough).then(|| {
                format!(
                    "MAX_CONNECTIONS={connections} is more than {open_files} file descriptors are enough for, which is \
                     {enough}: with so many connections, the server can run out of them. Raise the hard limit \
                     (`ulimit -Hn`, LimitNOFILE=, --ulimit nofile=)"
                )
            });
        }
        (connections < FEW).then(|| {
            format!(
                "at most {connections} connections at the same time, because this process may open {open_files} files \
                 only. Raise the hard limit (`ulimit -Hn`, LimitNOFILE=, --ulimit nofile=)"
            )
        })
    }
}

/// Connections that a number of descriptors is enough for.
fn affordable(open_files: Option<u64>) -> u32 {
    let files = open_files.unwrap_or(u64::MAX);
    let connections = u32::try_from(files.saturating_sub(RESERVE) / EACH).unwrap_or(u32::MAX);
    connections.clamp(FEWEST, Capacity::MAX_CONNECTIONS)
}

/// Raises the number of files that this process may open to what the system allows it. Returns that number; none is
/// unlimited. Usual soft limits, such as 1,024, are for programs that use `select`, which this one does not.
pub fn raise_open_files() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_by_open_files_and_settings() {
        for (flags, open_files, expected) in [
            (&[][..], Some(1_024), (384, 96)),
            (&[], Some(4_096), (1_920, 480)),
            (&[], Some(1_048_576), (10_000, 2_500)),
            (&[], None, (10_000, 2_500)),
            (&[], Some(64), (16, 4)),
            (&["--max-connections", "50"], Some(1_024), (50, 13)),
            (&["--max-connections", "50000"], Some(1_024), (50_000, 12_500)),
            (&["--connections-per-address", "7"], Some(1_024), (384, 7)),
        ] {
            let settings = HttpSettings::from_flags(flags.iter().copied()).expect("valid");
            let Capacity { connections, per_address } = Capacity::new(&settings, open_files);
            assert_eq!((connections, per_address), expected, "{flags:?} {open_files:?}");
        }
    }

    #[test]
    fn small_and_excessive_capacities_are_said() {
        let hint = |flags: &[&str], open_files| {
            let settings = HttpSettings::from_flags(flags.iter().copied()).expect("valid");
            Capacity::new(&settings, Some(open_files)).hint(&settings, Some(open_files)).unwrap_or_default()
        };
        assert!(hint(&[], 1_024).starts_with("at most 384 connections"), "{}", hint(&[], 1_024));
        assert!(hint(&["--max-connections", "500"], 1_024).starts_with("MAX_CONNECTIONS=500 is more"));
        assert_eq!(hint(&["--max-connections", "300"], 1_024), "");
        assert_eq!(hint(&[], 8_192), "");
    }
}
