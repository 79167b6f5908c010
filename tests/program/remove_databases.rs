//! Drops the databases that ended test processes left on the server of `TEST_DATABASE_URL`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Ok(server) = std::env::var(databases::VARIABLE) else { return ExitCode::SUCCESS };
    match databases::postgres::remove_leftovers(&server).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("databases of tests were not removed: {error}");
            ExitCode::FAILURE
        }
    }
}
