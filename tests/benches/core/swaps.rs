//! A guest swapped a thousand times while 64 callers call it.

use std::{sync::Arc, time::Instant};

use support::{Database, Server, swap_under_load};

const CALLERS: usize = 64;
const SWAPS: usize = 1_000;

pub async fn under_load() {
    let server = Arc::new(Server::start(Database::sqlite()).await);
    let started = Instant::now();
    let swaps = swap_under_load(&server, CALLERS, SWAPS).await;
    let took = started.elapsed();
    let calls: u64 = swaps.answered.iter().sum();
    let [before, after] = swaps.memory.map(|bytes| bytes / 1e6);
    println!("{SWAPS} swaps of a guest under {CALLERS} callers: {took:.1?}, {calls} calls, none failed");
    println!("  resident memory {before:.1} MB before, {after:.1} MB after");
}
