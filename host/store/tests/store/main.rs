//! The store, on SQLite and on Postgres: the same tests on both.

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

extern crate isomer_store as store; // its name in the other crates

mod behind;
mod changes;
mod database;
mod guests;
mod leases;
mod messaging;
mod order;
mod schema;
mod setups;
