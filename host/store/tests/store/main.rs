//! The store, on SQLite and on Postgres: the same tests on both.

extern crate isomer_store as store; // its name in the whole house

mod behind;
mod changes;
mod database;
mod jobs;
mod leases;
mod order;
mod schema;
