//! What every capability needs to read and change the deployment's state.
//!
//! [`State`] commits changes through the writer, retries them when another change was earlier, publishes
//! their events, and follows the other servers on the same database. Reads on hot paths need no database:
//! [`WorkspaceIndex`] and [`TokenIndex`] are in-memory images of rows.

#![forbid(unsafe_code)]

mod background;
mod ephemeral;
mod index;
mod local_times;
mod peers;
mod replication;
mod state;
#[cfg(test)]
mod tests;
mod token_index;
mod workspace_index;

pub use index::Index;
pub use local_times::{LONGEST_BACKOFF, LocalTimes, steady_now};
pub use state::{ChangeError, MAX_ATTEMPTS, Planned, State};
pub use token_index::{LiveToken, TokenIndex, token_hash};
pub use workspace_index::{Workspace, WorkspaceIndex};
