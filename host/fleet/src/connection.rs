//! What an operator needs to connect an own agent to a workspace: addresses, the token, and
//! ready-made texts for common agents.
//!
//! The texts carry a placeholder for the token instead of the token, each in the spelling that the
//! canvas looks for and replaces.

use std::fmt::Write as _;

use serde::Serialize;
use types::WorkspaceId;

const CLAUDE_CODE_CHANNEL: &str = include_str!("connection/claude_code_channel.txt");
const CODEX: &str = include_str!("connection/codex.txt");
const CURL_REGISTER: &str = include_str!("connection/curl_register.txt");
const HERMES_CHANNEL: &str = include_str!("connection/hermes_channel.txt");
const OPENCLAW: &str = include_str!("connection/openclaw.txt");
const PYTHON: &str = include_str!("connection/python.txt");
const UNIVERSAL_MCP: &str = include_str!("connection/universal_mcp.txt");

/// How to connect an agent to a workspace. Fields are in the order of their keys.
#[derive(Clone, Serialize)]
pub struct Connection {
    auth_token: String,
    claude_code_channel_snippet: String,
    codex_snippet: String,
    curl_register_template: String,
    heartbeat_endpoint: String,
    hermes_channel_snippet: String,
    openclaw_snippet: String,
    platform_url: String,
    python_snippet: String,
    registry_endpoint: String,
    universal_mcp_snippet: String,
    workspace_id: String,
}

impl Connection {
    /// How to connect to `workspace_id` through the platform at `platform_url`. The token is empty
    /// unless it was made just now: it is never shown again.
    #[must_use]
    pub fn new(platform_url: &str, workspace_id: WorkspaceId, auth_token: &str) -> Self {
        let platform_url = harmless(platform_url.trim_end_matches('/'));
        let workspace_id = workspace_id.to_string();
        let filled = |text: &str| {
            text.replace("{platform_url}", &platform_url).replace("{workspace_id}", &workspace_id)
        };
        Self {
            auth_token: auth_token.to_owned(),
            claude_code_channel_snippet: filled(CLAUDE_CODE_CHANNEL),
            codex_snippet: filled(CODEX),
            curl_register_template: filled(CURL_REGISTER),
            heartbeat_endpoint: format!("{platform_url}/registry/heartbeat"),
            hermes_channel_snippet: filled(HERMES_CHANNEL),
            openclaw_snippet: filled(OPENCLAW),
            python_snippet: filled(PYTHON),
            registry_endpoint: format!("{platform_url}/registry/register"),
            universal_mcp_snippet: filled(UNIVERSAL_MCP),
            platform_url,
            workspace_id,
        }
    }
}

/// The URL with everything escaped that could mean something to a shell, Python, YAML or TOML: it may
/// come from a request's headers, and people paste the texts into terminals.
fn harmless(url: &str) -> String {
    let mut safe = String::with_capacity(url.len());
    for byte in url.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/[]@%".contains(&byte) {
            safe.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(safe, "%{byte:02X}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ID: WorkspaceId = WorkspaceId(Uuid::from_u128(0x6f1c_7a52_0b7e_4a1e_9a53_0d1f_6f0f_2f11));
    const TOKEN: &str = "token-made-just-now";

    fn connection() -> Connection {
        Connection::new("https://isomer.example/", ID, TOKEN)
    }

    /// Every text, with the placeholder that the canvas replaces in it.
    fn texts(connection: &Connection) -> [(&str, &str); 7] {
        [
            (&connection.python_snippet, "AUTH_TOKEN    = \"<paste from create response>\""),
            (&connection.curl_register_template, "WORKSPACE_AUTH_TOKEN=\"<paste from create response>\""),
            (
                &connection.claude_code_channel_snippet,
                "MOLECULE_WORKSPACE_TOKENS=<paste auth_token from create response>",
            ),
            (&connection.universal_mcp_snippet, "MOLECULE_WORKSPACE_TOKEN=\"<paste from create response>\""),
            (&connection.hermes_channel_snippet, "MOLECULE_WORKSPACE_TOKEN=\"<paste from create response>\""),
            (&connection.codex_snippet, "MOLECULE_WORKSPACE_TOKEN = \"<paste from create response>\""),
            (&connection.openclaw_snippet, "WORKSPACE_TOKEN=\"<paste from create response>\""),
        ]
    }

    #[test]
    fn each_text_has_its_placeholder_once() {
        for (text, placeholder) in texts(&connection()) {
            assert_eq!(text.matches(placeholder).count(), 1, "{placeholder} in\n{text}");
            assert_eq!(text.matches("<paste").count(), 1, "{text}");
        }
    }

    #[test]
    fn texts_are_filled_in() {
        let connection = connection();
        for (text, _) in texts(&connection) {
            assert!(text.contains("https://isomer.example"), "{text}");
            assert!(!text.contains("isomer.example//"), "{text}");
            assert!(text.contains("6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11"), "{text}");
            for absent in ["{platform_url}", "{workspace_id}", "MOLECULE_ORG_ID", TOKEN] {
                assert!(!text.contains(absent), "{absent} in\n{text}");
            }
        }
    }

    #[test]
    fn tools_are_served_by_the_known_program() {
        let connection = connection();
        for text in [
            &connection.claude_code_channel_snippet,
            &connection.universal_mcp_snippet,
            &connection.hermes_channel_snippet,
            &connection.codex_snippet,
            &connection.openclaw_snippet,
        ] {
            assert!(text.contains("molecule-mcp"), "{text}");
        }
    }

    #[test]
    fn all_values_are_texts_in_order_of_their_keys() {
        let json = serde_json::to_string(&connection()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let object = value.as_object().unwrap();
        assert!(object.values().all(serde_json::Value::is_string));
        let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "auth_token",
                "claude_code_channel_snippet",
                "codex_snippet",
                "curl_register_template",
                "heartbeat_endpoint",
                "hermes_channel_snippet",
                "openclaw_snippet",
                "platform_url",
                "python_snippet",
                "registry_endpoint",
                "universal_mcp_snippet",
                "workspace_id",
            ]
        );
        let places: Vec<_> = keys.iter().map(|key| json.find(&format!("\"{key}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{json}");
    }

    #[test]
    fn addresses_are_below_the_platform() {
        for url in ["https://isomer.example", "https://isomer.example//"] {
            let connection = Connection::new(url, ID, "");
            assert_eq!(connection.platform_url, "https://isomer.example");
            assert_eq!(connection.registry_endpoint, "https://isomer.example/registry/register");
            assert_eq!(connection.heartbeat_endpoint, "https://isomer.example/registry/heartbeat");
            assert_eq!(connection.workspace_id, "6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11");
            assert_eq!(connection.auth_token, "");
        }
        assert_eq!(Connection::new(url_with_port(), ID, TOKEN).platform_url, url_with_port());
        assert_eq!(connection().auth_token, TOKEN);
    }

    const fn url_with_port() -> &'static str {
        "http://[::1]:8080/below/a%20path"
    }

    #[test]
    fn a_forged_host_means_nothing_to_a_shell() {
        let connection = Connection::new("http://x\"$(id)`id`'\\;\n{workspace_id}", ID, "");
        assert_eq!(connection.platform_url, "http://x%22%24%28id%29%60id%60%27%5C%3B%0A%7Bworkspace_id%7D");
        for (text, _) in texts(&connection) {
            assert!(!text.contains("$(id)") && !text.contains("`id`"), "{text}");
        }
    }
}
