//! Swapping the release of a guest while it is called.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::{Value, json};

use support::{Components, Database, Server, Start, swap_under_load, variant};

const CALLERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_fail_no_call_and_leak_nothing() {
    let server = Arc::new(Server::start(Database::sqlite()).await);
    // Instances in a pool would be counted below.
    server.post("/admin/guests/mock/per-call", json!({})).await.ok();
    // `make bench` runs the same with 64 callers and a thousand swaps.
    let swaps = swap_under_load(&server, 8, 200).await;
    let [on_first, on_second] = swaps.answered;
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
    let [before, after] = swaps.memory;
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
        server.send_text("mine", "hello").await.ok()
    };
    let (hung, after): (_, Value) = tokio::join!(server.send_text("mine", "loop"), swap);
    assert_eq!(after["release"], new["digest"], "callers get the new release at once");
    assert_eq!((hung.status.as_u16(), &hung.json["kind"]), (502, &json!("timeout")));
    assert_eq!(hung.json["release"], old["digest"]);
    assert_eq!(server.metric("isomer_guest_slots_in_use").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_messages_to_two_hundred_agents_fail_none() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/orgs");
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
            .until("callers get the release", async |_| answered[release].load(Ordering::Relaxed) >= target)
            .await;
    };
    more(0).await;
    for swap in 0..20 {
        let (digest, release) = if swap % 2 == 0 { (&second, 1) } else { (&first, 0) };
        server.activate("mock", digest).await.ok();
        more(release).await;
    }
    // The last swap activated the first release, so the rollback returns to the second.
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
