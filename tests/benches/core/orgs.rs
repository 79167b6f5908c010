//! Import and removal of organizations, from the request to the answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{median, server::Server};

const ROUNDS: usize = 5;

/// Aims for each size, in milliseconds.
const SIZES: [(usize, Option<u32>); 3] = [(200, Some(60)), (1_000, None), (10_000, Some(3_000))];

pub async fn imports() {
    println!("organizations on SQLite, from the request to the answer, median of {ROUNDS}");
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), &[("ORG_IMPORT_MAX_WORKSPACES", "10000")]);
    let at = |path: &str| format!("http://{}{path}", server.address);
    let client = reqwest::Client::new();
    for (size, aim) in SIZES {
        let (mut imports, mut removals) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let request = client.post(at("/org/import")).json(&template(size));
            let answer = request.send().await.expect("it answers");
            assert_eq!(answer.status(), 201);
            let made: Value = answer.json().await.expect("JSON");
            imports.push(started.elapsed());
            assert_eq!(made["count"], size);
            let root = made["workspaces"][0]["id"].as_str().expect("an id");
            let started = Instant::now();
            let answer = client
                .delete(at(&format!("/workspaces/{root}?confirm=true")))
                .send()
                .await
                .expect("it answers");
            assert_eq!(answer.status(), 200);
            removals.push(started.elapsed());
        }
        print("online", size, median(&mut imports), aim);
        print("removed", size, median(&mut removals), (size == 200).then_some(50));
    }
}

fn print(what: &str, size: usize, took: Duration, aim: Option<u32>) {
    let aim = aim.map(|aim| format!(" (aim {aim} ms)")).unwrap_or_default();
    println!("  {size:>6} {what:<8} {:>8.1} ms{aim}", took.as_secs_f64() * 1e3);
}

/// A tree of agents that need no container, ten below each.
fn template(size: usize) -> Value {
    fn node(number: usize, size: usize) -> Value {
        let children: Vec<Value> = (number * 10 + 1..=number * 10 + 10)
            .filter(|child| *child < size)
            .map(|child| node(child, size))
            .collect();
        json!({ "name": format!("Agent {number}"), "role": "Answers", "runtime": "mock", "children": children })
    }
    json!({ "template": { "name": "Many", "workspaces": [node(0, size)] } })
}
