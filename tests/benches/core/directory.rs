//! The workspace index: reads, access checks, loading, memory.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    median,
    rows::{fleet, resident, seed, sqlite},
};

const ROUNDS: usize = 15;
const CALLS: usize = 100_000;

pub async fn reads() {
    let data = tempfile::tempdir().expect("a directory");
    let url = sqlite(data.path());
    let ids = seed(&url, 10_000).await;
    let (fleet, _written) = fleet(&url).await;
    let directory = fleet.workspaces();
    let time = |call: &dyn Fn(usize)| {
        let mut rounds: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let started = Instant::now();
                (0..CALLS).for_each(call);
                started.elapsed() / u32::try_from(CALLS).expect("few")
            })
            .collect();
        median(&mut rounds)
    };
    let (last, count) = (ids[ids.len() - 1], ids.len());
    println!("directory of 10,000 workspaces, five levels deep, median of {ROUNDS} rounds of {CALLS}");
    println!(
        "  read one                       {:>10.1?}",
        time(&|n| {
            black_box(directory.get(ids[n * 7_919 % count]));
        })
    );
    println!(
        "  access check, root and leaf    {:>10.1?}",
        time(&|_| {
            black_box(directory.can_communicate(ids[0], last));
        })
    );
    println!(
        "  access check, any two          {:>10.1?}",
        time(&|n| {
            black_box(directory.can_communicate(ids[n * 7_919 % count], ids[n * 104_729 % count]));
        })
    );
    println!(
        "  bearer without a token        {:>10.1?}",
        time(&|_| {
            black_box(fleet.credentials().authenticate("0123456789012345678901234567890123456789012"));
        })
    );
}

pub async fn load() {
    let data = tempfile::tempdir().expect("a directory");
    let url = sqlite(data.path());
    let started = Instant::now();
    seed(&url, 100_000).await;
    let seeded = started.elapsed();
    let before = resident(std::process::id());
    let started = Instant::now();
    let (fleet, _written) = fleet(&url).await;
    let opened = started.elapsed();
    assert_eq!(fleet.workspaces().len(), 100_000);
    let each = resident(std::process::id()).saturating_sub(before) / 100_000;
    println!("100,000 workspaces on SQLite: written in {seeded:.2?}, loaded in {opened:.2?} (aim 2 s)");
    println!(
        "  {each} bytes of resident memory per idle workspace, what the allocator kept from loading included"
    );
}
