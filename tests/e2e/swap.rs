//! Swapping a guest while it works.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::harness::{Components, Database, Server, Start, variant};

const CALLERS: usize = 64;
const SWAPS: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_swaps_under_load_fail_no_call() {
    let server = Arc::new(Server::start(Database::sqlite()).await);
    // Instances that wait to be used again would be counted below.
    server.post("/admin/guests/mock/per-call", json!({})).await.ok();
    server.settings("mock", json!({ "replies": ["first"] })).await.ok();
    let first = server.guest("mock").await["release"].as_str().unwrap().to_owned();
    let second = server.push("mock", &Components::get().second_mock, false).await.ok();
    let second = second["digest"].as_str().unwrap().to_owned();

    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (server, over, answered) = (Arc::clone(&server), Arc::clone(&over), Arc::clone(&answered));
            let (first, second) = (first.clone(), second.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let called = server.say("mock", "hello").await.ok();
                    // Each answer is of the release that it says it is.
                    let reply = called["answer"][0].as_str().unwrap().to_owned();
                    match called["release"].as_str().unwrap() {
                        release if release == first => assert_eq!(reply, "first"),
                        release if release == second => assert_eq!(reply, "second"),
                        other => panic!("a release that nobody pushed: {other}"),
                    }
                    answered[usize::from(reply == "second")].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    let warm = || async {
        let target: u64 = answered.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>() + 2_000;
        server
            .until("callers are at work", async |_| {
                tokio::task::yield_now().await;
                answered.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>() >= target
            })
            .await;
    };
    warm().await;
    let before = server.metric("process_resident_memory_bytes").await.unwrap();
    for swap in 0..SWAPS {
        let digest = if swap % 2 == 0 { &second } else { &first };
        server.activate("mock", digest).await.ok();
    }
    warm().await;
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no call failed");
    }

    let [on_first, on_second] = [0, 1].map(|index: usize| answered[index].load(Ordering::Relaxed));
    assert!(on_first > 0 && on_second > 0, "both releases answered: {on_first}, {on_second}");
    let counters = server.guest("mock").await["counters"].clone();
    for kind in ["traps", "timeouts", "memory", "refused", "busy"] {
        assert_eq!(counters[kind], json!(0), "{counters}");
    }
    for series in [
        "isomer_guest_slots_in_use",
        "isomer_guest_instances",
        "isomer_guest_memories",
        "isomer_guest_stacks",
    ] {
        assert_eq!(server.metric(series).await, Some(0.0), "{series}");
    }
    let after = server.metric("process_resident_memory_bytes").await.unwrap();
    assert!(after < before + 32e6, "memory went from {} to {} MB", before / 1e6, after / 1e6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_ends_on_its_release_at_its_deadline() {
    let server = Server::start(Database::sqlite()).await;
    let old = server.push("mine", &Components::get().hostile, true).await.ok();
    let new = server.push("mine", &variant(&Components::get().hostile, 1), false).await.ok();
    let swap = async {
        server
            .until("the hanging call has begun", async |server| {
                server.metric("isomer_guest_slots_in_use").await == Some(1.0)
            })
            .await;
        server.activate("mine", new["digest"].as_str().unwrap()).await.ok();
        server.say("mine", "hello").await.ok()
    };
    let (hung, after): (_, Value) = tokio::join!(server.say("mine", "loop"), swap);
    assert_eq!(after["release"], new["digest"], "callers get the new release at once");
    assert_eq!((hung.status.as_u16(), &hung.json["kind"]), (502, &json!("timeout")));
    assert_eq!(hung.json["release"], old["digest"]);
    assert_eq!(server.metric("isomer_guest_slots_in_use").await, Some(0.0));
}

/// Whoever talks to two hundred agents while the component that answers for them is replaced notices
/// nothing but new words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_swaps_under_messages_fail_none() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/orgs");
    let start = Start::from(Database::sqlite()).env("ORG_TEMPLATES_DIR", fixtures);
    let server = Arc::new(Server::start(start).await);
    server.settings("mock", json!({ "pause_ms": 0, "replies": ["first"] })).await.ok();
    let first = server.guest("mock").await["release"].as_str().unwrap().to_owned();
    let second = server.push("mock", &Components::get().second_mock, false).await.ok();
    let second = second["digest"].as_str().unwrap().to_owned();
    let made = server.post("/org/import", json!({ "dir": "acme" })).await.ok();
    let agents: Vec<String> = made["workspaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(agents.len(), 200);

    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let agents = Arc::new(agents);
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (server, over, answered, agents) =
                (Arc::clone(&server), Arc::clone(&over), Arc::clone(&answered), Arc::clone(&agents));
            tokio::spawn(async move {
                let mut turn = caller;
                while !over.load(Ordering::Relaxed) {
                    let path = format!("/workspaces/{}/a2a", agents[turn % agents.len()]);
                    let reply = server.post(&path, message("hello")).await.ok();
                    let text = reply["result"]["parts"][0]["text"].as_str().unwrap();
                    assert!(["first", "second"].contains(&text), "{reply}");
                    answered[usize::from(text == "second")].fetch_add(1, Ordering::Relaxed);
                    turn += CALLERS;
                }
            })
        })
        .collect();
    let more = async |release: usize| {
        let target = answered[release].load(Ordering::Relaxed) + CALLERS as u64;
        server
            .until("callers hear of the release", async |_| {
                tokio::task::yield_now().await;
                answered[release].load(Ordering::Relaxed) >= target
            })
            .await;
    };
    more(0).await;
    for swap in 0..20 {
        let (digest, release) = if swap % 2 == 0 { (&second, 1) } else { (&first, 0) };
        server.activate("mock", digest).await.ok();
        more(release).await;
    }
    // The last swap brought the first back; the one before that was the second.
    server.post("/admin/guests/mock/rollback", json!({})).await.ok();
    more(1).await;
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no message failed");
    }
    let counters = server.guest("mock").await["counters"].clone();
    for kind in ["traps", "timeouts", "memory", "refused", "busy"] {
        assert_eq!(counters[kind], json!(0), "{counters}");
    }
}

fn message(text: &str) -> Value {
    let parts = json!([{ "kind": "text", "text": text }]);
    json!({ "method": "message/send", "params": { "message": { "role": "user", "parts": parts } } })
}
