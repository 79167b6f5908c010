//! `make bench`: the cost of the core. The workspace index and the writer are measured alone, then the server over
//! HTTP and sockets, with load from this process, whose CPU is not counted.

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod bare;
mod commits;
mod directory;
mod fanout;
mod http;
mod orgs;
mod rows;
mod server;
mod swaps;

/// Measures all parts, or the named ones: `cargo bench --bench core -- http orgs`.
fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if std::env::args().any(|argument| argument == bare::ARGUMENT) {
        return runtime.block_on(bare::serve());
    }
    support::use_ring();
    runtime.block_on(async {
        let asked = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
        if asked("directory") {
            directory::load().await;
            directory::reads().await;
        }
        if asked("commits") {
            commits::throughput().await;
        }
        if asked("http") {
            http::requests().await;
        }
        if asked("fanout") {
            fanout::sockets().await;
        }
        if asked("orgs") {
            orgs::imports().await;
        }
        if asked("swaps") {
            swaps::under_load().await;
        }
    });
}

pub fn median<T: PartialOrd + Copy>(values: &mut [T]) -> T {
    values.sort_unstable_by(|a, b| a.partial_cmp(b).expect("ordered"));
    values[values.len() / 2]
}
