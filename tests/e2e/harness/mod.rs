//! What tests are made of: a server to talk to, a database for it, components to push.

mod agent;
mod cluster;
mod components;
mod database;
mod server;
mod socket;

pub use agent::{Act, Agent, hang_up, well};
pub use cluster::Cluster;
pub use components::{Components, variant};
pub use database::Database;
pub use server::{Answer, Server, Start, files, program};
pub use socket::Socket;

/// Makes two tests of one: on SQLite and on Postgres.
macro_rules! on_both_databases {
    ($($(#[$attribute:meta])* async fn $name:ident($database:ident: Database) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$attribute])*
            async fn run($database: Database) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(Database::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(database) = Database::postgres().await {
                    run(database).await;
                }
            }
        }
    )*};
}

pub(crate) use on_both_databases;
