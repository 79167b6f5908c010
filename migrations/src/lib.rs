//! Schema migrations. A released migration is never edited; a new one corrects it.

#![forbid(unsafe_code)]

use sea_orm_migration::prelude::*;

mod columns;
mod m0001_guests;
mod m0002_core;
mod m0003_traffic;
mod m0004_guest_components;
mod m0005_drop_jobs;
mod m0006_fewer_indexes;
mod m0007_queue_claims;
mod m0008_activity_owner;
mod m0010_setups;
mod m0011_message_answers;
mod m0012_logged_claims;
mod m0013_claim_hops;
mod m0014_access;
mod m0015_refused_at;
mod m0016_queue_sizes;
mod m0020_guest_descriptions;

/// Applies missing migrations in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_guests::Migration),
            Box::new(m0002_core::Migration),
            Box::new(m0003_traffic::Migration),
            Box::new(m0004_guest_components::Migration),
            Box::new(m0005_drop_jobs::Migration),
            Box::new(m0006_fewer_indexes::Migration),
            Box::new(m0007_queue_claims::Migration),
            Box::new(m0008_activity_owner::Migration),
            Box::new(m0010_setups::Migration),
            Box::new(m0011_message_answers::Migration),
            Box::new(m0012_logged_claims::Migration),
            Box::new(m0013_claim_hops::Migration),
            Box::new(m0014_access::Migration),
            Box::new(m0015_refused_at::Migration),
            Box::new(m0016_queue_sizes::Migration),
            Box::new(m0020_guest_descriptions::Migration),
        ]
    }
}
