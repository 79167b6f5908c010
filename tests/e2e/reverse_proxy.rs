//! Agents behind a reverse proxy: they send the public URL of the platform as `Origin`, while the proxy may rewrite
//! `Host`.

/// Tests that start nginx; the runner leaves them out where it isn't installed.
mod own_nginx {
    use serde_json::{Value, json};
    use support::{Database, Nginx, Server, Start, assert_output, free_port, program};

    /// The answer to a heartbeat that comes with this `Origin`.
    async fn beat(url: &str, origin: &str, workspace: &str) -> (u16, String) {
        let request = reqwest::Client::new().post(format!("{url}/registry/heartbeat"));
        let request = request.header("Origin", origin).json(&json!({ "workspace_id": workspace }));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs an installed nginx"]
    async fn agents_get_through_a_proxy_that_rewrites_the_host() {
        for variable in ["PLATFORM_URL", "EXTERNAL_PLATFORM_URL"] {
            let start = Start::from(Database::sqlite()).env(variable, "https://Isomer.example/");
            let server = Server::start(start).await;
            let nginx = Nginx::plain(&server.url);
            let workspace = server.workspace(json!({ "name": "Agent", "external": true })).await;
            for origin in ["https://isomer.example", "https://ISOMER.example:443"] {
                let (status, body) = beat(&nginx.url(), origin, &workspace).await;
                assert_ne!(status, 403, "{variable} {origin}: {body}");
                assert!(serde_json::from_str::<Value>(&body).is_ok(), "{body}");
            }
            let (status, body) = beat(&nginx.url(), "https://evil.example", &workspace).await;
            assert_eq!((status, body.as_str()), (403, ""));
            server.until_logged("refused by CORS").await;
            server.until_logged("https://evil.example").await;
            server.until_logged("EXTERNAL_PLATFORM_URL").await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs an installed nginx"]
    async fn commands_reach_a_server_below_a_path() {
        let server = Server::start(Database::sqlite()).await;
        let locations = format!(
            "location /isomer/ {{ proxy_pass {}/; }} location /moved/ {{ return 308 http://elsewhere.example/; }}",
            server.url
        );
        let nginx = Nginx::start(free_port(), &locations);
        let run = |path: &str, arguments: &[&str]| {
            program().args(arguments).env("ISOMER_URL", nginx.url() + path).output().unwrap()
        };
        let create = ["ws", "create", "Below", "--runtime", "mock"];
        assert_output(&run("/isomer/", &create), true, &["Below is online"]);
        assert_output(&run("/isomer", &["ws", "list"]), true, &["Below"]);
        assert_output(
            &run("/moved", &["ws", "list"]),
            false,
            &["sends requests on to http://elsewhere.example/", "--server"],
        );
    }
}
