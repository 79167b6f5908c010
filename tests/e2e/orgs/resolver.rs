//! The guest that resolves templates gives no answer.

use serde_json::json;
use support::{Components, Database, Server, on_both_databases};

use super::{archive, upload};

on_both_databases! {
    async fn a_resolver_that_gives_no_answer_is_named_with_what_to_do(database: Database) {
        let server = Server::start(database).await;
        let org = |text: &str| archive(&[("org.yaml", text.as_bytes())]);
        let fine = org("name: Org\nworkspaces:\n  - name: Lead\n    runtime: mock\n");
        server.post("/admin/guests/include/disable", json!({})).await.ok();
        let url = format!("{}/org/import", server.url);
        let request = reqwest::Client::new().post(url).header("Content-Type", "application/x-tar");
        let refused = request.body(fine.clone()).send().await.unwrap();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        let body: serde_json::Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
        assert_eq!(body["error"], "org template expansion failed");
        assert_eq!(body["detail"], "guest include is disabled: isomer guest enable include");

        server.post("/admin/guests/include/enable", json!({})).await.ok();
        upload(&server, "", fine).await.ok();
        // What fails may be the template's doing.
        server.push("include", &Components::get().hostile_resolver, true).await.ok();
        for (text, why) in [
            ("loop", "guest include failed: the guest gave no answer within 2s. Try again"),
            ("cyclic", "guest include failed: the guest's answer is refused"),
        ] {
            let refused = upload(&server, "", org(text)).await;
            assert_eq!(refused.error(400), "org template expansion failed");
            let detail = refused.json["detail"].as_str().unwrap();
            assert!(detail.starts_with(why) && detail.contains("isomer guest rollback include"), "{detail}");
        }
    }
}
