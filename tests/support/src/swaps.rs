//! Swaps of a guest's component under load, with few callers for `make test` and many for `make bench`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::json;

use crate::{Components, Server};

/// Calls of each caller before and after the swaps.
const CALLS_AROUND: u64 = 50;

/// What callers got while the releases were swapped.
#[derive(Debug)]
pub struct Swaps {
    /// Calls that the first and the second release answered.
    pub answered: [u64; 2],
    /// Resident memory of the server before and after the swaps, in bytes.
    pub memory: [f64; 2],
}

/// Swaps two releases of `mock` so many times, while so many callers call it without a pause.
///
/// # Panics
/// When a call fails, or is answered by a release other than the one that the answer names.
pub async fn swap_under_load(server: &Arc<Server>, callers: usize, swaps: usize) -> Swaps {
    server.settings("mock", json!({ "replies": ["first"] })).await.ok();
    let first = server.guest("mock").await["release"].as_str().unwrap().to_owned();
    let second = server.push("mock", &Components::get().second_mock, false).await.ok();
    let second = second["digest"].as_str().unwrap().to_owned();

    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (server, over, answered) = (Arc::clone(server), Arc::clone(&over), Arc::clone(&answered));
            let (first, second) = (first.clone(), second.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let called = server.send_text("mock", "hello").await.ok();
                    let reply = called["answer"][0].as_str().unwrap().to_owned();
                    match called["release"].as_str().unwrap() {
                        release if release == first => assert_eq!(reply, "first"),
                        release if release == second => assert_eq!(reply, "second"),
                        other => panic!("a release that was not pushed: {other}"),
                    }
                    answered[usize::from(reply == "second")].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    let total = || answered.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    let warm = async || {
        let target = total() + callers as u64 * CALLS_AROUND;
        server.until("callers are at work", async |_| total() >= target).await;
    };
    warm().await;
    let before = server.metric("process_resident_memory_bytes").await.unwrap();
    for swap in 0..swaps {
        let digest = if swap % 2 == 0 { &second } else { &first };
        server.activate("mock", digest).await.ok();
    }
    warm().await;
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no call failed");
    }
    let after = server.metric("process_resident_memory_bytes").await.unwrap();
    let answered = [0, 1].map(|release: usize| answered[release].load(Ordering::Relaxed));
    Swaps { answered, memory: [before, after] }
}
