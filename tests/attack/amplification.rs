//! Small requests that become much in memory: templates that multiply, and answers that many callers want at once.

use reqwest::Method;
use serde_json::{Value, json};
use support::{Database, Server};
use tar::{Builder, Header};

/// What a server may have taken at its worst, with everything else that it holds.
const PEAK_BYTES: u64 = 512 << 20;

/// Callers at the same time.
const CALLERS: usize = 8;

fn nodes(count: usize, node: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..count).map(node).collect()
}

fn named(number: usize) -> Value {
    json!({ "name": format!("N{number}"), "runtime": "claude-code" })
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Name, media type, body, and what the refusal says; `None` where it fits.
type Case = (&'static str, &'static str, Vec<u8>, Option<&'static str>);

fn inline(name: &'static str, template: &Value, refusal: Option<&'static str>) -> Case {
    let body = json!({ "template": template, "dry_run": true }).to_string();
    (name, "application/json", body.into_bytes(), refusal)
}

fn packed(name: &'static str, files: &[(&str, &[u8])], refusal: Option<&'static str>) -> Case {
    (name, "application/x-tar", archive(files), refusal)
}

fn of_defaults(defaults: &Value) -> Value {
    json!({ "name": "T", "defaults": defaults, "workspaces": nodes(2_000, named) })
}

fn cases() -> Vec<Case> {
    let text = "x".repeat(1_000_000);
    let many = |count: usize, value: Value| Value::Array(vec![value; count]);
    let names: Vec<String> = (0..150_000).map(|number| format!("p{number}")).collect();
    let too_large = Some("are allowed");
    let mut variables = String::new();
    (0..100_000).for_each(|number| variables.push_str(&format!("A{number}=1\n")));
    let yaml = |node: &dyn Fn(usize) -> String| {
        let nodes: String =
            (0..2_000).map(|number| format!("- {{name: N{number}, {}}}\n", node(number))).collect();
        format!("name: T\nworkspaces:\n{nodes}")
    };
    let prompts = yaml(&|number| {
        format!("runtime: claude-code, initial_prompt_file: {}p.md", "./".repeat(number % 200))
    });
    let schedules = yaml(&|number| {
        format!(
            "schedules: [{{name: s, cron_expr: '* * * * *', prompt_file: {}p.md}}]",
            "./".repeat(number % 200)
        )
    });
    let plain = yaml(&|_| "runtime: claude-code".to_owned());
    let references = "$A".repeat(500_000);
    let channel = format!(
        "name: T\nworkspaces:\n- name: N\n  channels: [{{type: telegram, config: {{bot_token: \"{references}\"}}}}]\n"
    );
    let long_value = format!("A={text}\n");
    let shared = format!(
        "name: T\na: &a \"{}\"\nworkspaces:\n{}",
        "x".repeat(900_000),
        "- {name: N, role: *a}\n".repeat(1_000)
    );
    vec![
        inline("a prompt", &of_defaults(&json!({ "initial_prompt": text })), None),
        inline(
            "many memories",
            &of_defaults(&json!({ "initial_memories": many(60_000, json!({ "content": "a" })) })),
            too_large,
        ),
        inline("many plugins", &of_defaults(&json!({ "plugins": names })), too_large),
        inline(
            "a configuration",
            &of_defaults(&json!({ "plugins": [{ "source": "p", "config": many(150_000, json!(0)) }] })),
            too_large,
        ),
        inline(
            "a category",
            &of_defaults(&json!({ "category_routing": { "a": many(150_000, json!("b")) } })),
            too_large,
        ),
        inline(
            "many values",
            &json!({ "name": "T", "x": many(1_900_000, json!(0)) }),
            Some("more than 200000 values"),
        ),
        inline(
            "many lists",
            &json!({ "name": "T", "x": many(1_300_000, json!([])) }),
            Some("more than 200000 values"),
        ),
        inline(
            "many requirements",
            &json!({ "name": "T", "required_env": [{ "any_of": names.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>() }] }),
            None,
        ),
        packed("many variables", &[("org.yaml", plain.as_bytes()), (".env", variables.as_bytes())], None),
        packed("a variable", &[("org.yaml", plain.as_bytes()), (".env", long_value.as_bytes())], too_large),
        packed("references", &[("org.yaml", channel.as_bytes()), (".env", long_value.as_bytes())], None),
        packed(
            "one file by many names",
            &[("org.yaml", prompts.as_bytes()), ("p.md", text.as_bytes())],
            None,
        ),
        packed(
            "one file of schedules",
            &[("org.yaml", schedules.as_bytes()), ("p.md", text.as_bytes())],
            None,
        ),
        packed("aliases", &[("org.yaml", shared.as_bytes())], Some("MiB")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_that_multiply_take_no_memory() {
    let server = Server::start(Database::sqlite()).await;
    // The resolver's guest is compiled.
    server.post("/org/import", json!({ "template": { "name": "T" }, "dry_run": true })).await.ok();
    let before = server.peak_memory();
    for (name, media, body, refusal) in cases() {
        let begun = std::time::Instant::now();
        let sent =
            (0..CALLERS).map(|_| server.raw(Method::POST, "/org/import?dry_run=true", media, body.clone()));
        for (status, answer) in futures::future::join_all(sent).await {
            let shown = answer.chars().take(2_000).collect::<String>();
            match refusal {
                None => assert_eq!(status, 200, "{name}: {shown}"),
                Some(refusal) => {
                    assert_eq!(status, 400, "{name}: {shown}");
                    assert!(answer.contains(refusal) && answer.len() < 20_000, "{name}: {shown}");
                }
            }
        }
        let peak = server.peak_memory();
        eprintln!("{name}: {} bytes sent, peak {} MiB, {:?}", body.len(), peak >> 20, begun.elapsed());
        assert!(peak < PEAK_BYTES, "{name}: {} MiB, {} MiB before all", peak >> 20, before >> 20);
    }
    assert!(server.log().len() < 1 << 20, "{}", server.log().len());
}
