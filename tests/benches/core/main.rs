//! `make bench`: what the core costs. The directory and the writer by themselves; the server over HTTP
//! and sockets, where CPU is that of the server's process alone and the load comes from this one.

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod a2a;
mod commits;
mod directory;
mod fanout;
mod http;
mod rows;
mod server;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        directory::load().await;
        directory::reads().await;
        commits::throughput().await;
        http::reads().await;
        a2a::messages().await;
        fanout::sockets().await;
    });
}

/// The middle one.
pub fn median<T: PartialOrd + Copy>(values: &mut [T]) -> T {
    values.sort_unstable_by(|a, b| a.partial_cmp(b).expect("ordered"));
    values[values.len() / 2]
}
