//! The runtime `mock`: the adapter itself replies, without a container. For demonstrations, and for tests of
//! everything around an agent.
#![deny(unsafe_code)]

use isomer_sdk::{Adapter, Description, Hosting, Message, Problem};
use serde::Deserialize;
use sha1::{Digest as _, Sha1};

/// Replies where the settings have none.
const REPLIES: [&str; 10] = [
    "On it.",
    "Got it, starting now.",
    "Sure, I'll take care of that.",
    "Understood. Working on it.",
    "Will do, I'll report back when it's done.",
    "Picked it up; more soon.",
    "Okay, looking into it right away.",
    "Thanks, that's next on my list.",
    "Noted. I'll have something for you shortly.",
    "Right, leave it with me.",
];

const MAX_REPLIES: usize = 100;
const MAX_REPLY_BYTES: usize = 1_000;
const MAX_PAUSE_MS: u32 = 60_000;

/// Settings of a row of this guest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Milliseconds before the host sends a reply.
    pause_ms: u32,
    /// Replies to choose from instead of the built-in ones.
    replies: Option<Vec<String>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pause_ms: 80, replies: None }
    }
}

/// The guest.
pub struct Mock;

isomer_sdk::export_adapter!(Mock);

impl Adapter for Mock {
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), Problem> {
        if settings.pause_ms > MAX_PAUSE_MS {
            return Err(Problem::at("/pause_ms", format!("at most {MAX_PAUSE_MS} milliseconds are allowed")));
        }
        let Some(replies) = &settings.replies else { return Ok(()) };
        if replies.is_empty() || replies.len() > MAX_REPLIES {
            return Err(Problem::at(
                "/replies",
                format!("give 1 to {MAX_REPLIES} replies, or leave the field out"),
            ));
        }
        match replies.iter().position(|reply| reply.len() > MAX_REPLY_BYTES) {
            Some(long) => Err(Problem::at(
                format!("/replies/{long}"),
                format!("a reply has at most {MAX_REPLY_BYTES} bytes"),
            )),
            None => Ok(()),
        }
    }

    fn describe(settings: &Settings) -> Description {
        Description {
            reply_pause_ms: settings.pause_ms,
            ..Description::without_container("mock", "Mock", Hosting::Synthetic)
        }
    }

    fn synthetic_reply(settings: &Settings, message: &Message) -> Result<Vec<String>, Problem> {
        let own = settings.replies.as_deref().unwrap_or_default();
        let count = if own.is_empty() { REPLIES.len() } else { own.len() };
        let choice = choice(&message.workspace_id, &message.request_id, count);
        let reply = own.get(choice).map(String::as_str).or_else(|| REPLIES.get(choice).copied());
        Ok(vec![reply.unwrap_or_default().to_owned()])
    }
}

/// Index of a request's reply among `count`. The same request always gets the same reply, so that a repeated
/// request makes no difference.
fn choice(workspace_id: &str, request_id: &str, count: usize) -> usize {
    if workspace_id.is_empty() && request_id.is_empty() {
        return 0;
    }
    let mut hash = Sha1::new();
    hash.update(workspace_id);
    hash.update(":");
    hash.update(request_id);
    let number = hash.finalize().iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    // A pool is never empty and never near 2^32.
    u32::try_from(count).ok().and_then(|count| number.checked_rem(count)).unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use isomer_sdk::{Surfaces, parse_settings};

    use super::*;

    fn settings(json: &str) -> Settings {
        parse_settings(json).unwrap()
    }

    fn reply(settings: &Settings, workspace_id: &str, request_id: &str) -> String {
        let message = Message {
            workspace_id: workspace_id.into(),
            request_id: request_id.into(),
            text: "hello".into(),
        };
        Mock::synthetic_reply(settings, &message).unwrap().concat()
    }

    #[test]
    fn the_hash_of_a_request_chooses_its_reply() {
        // printf '%s' W:R | sha1sum; the first eight hex digits modulo ten.
        for (workspace, request, expected) in [("", "", 0), ("ws-1", "1", 0), ("ws-1", "2", 4), ("", "x", 4)]
        {
            assert_eq!(choice(workspace, request, 10), expected, "{workspace}:{request}");
            assert_eq!(reply(&Settings::default(), workspace, request), REPLIES[expected]);
        }
    }

    #[test]
    fn replies_of_the_settings_replace_the_built_in_ones() {
        let own = settings(r#"{"replies": ["one"]}"#);
        assert_eq!(reply(&own, "ws-1", "1"), "one");
        let own = settings(r#"{"replies": ["one", "two", "three"]}"#);
        assert_eq!(reply(&own, "", ""), "one");
        assert!(["one", "two", "three"].contains(&reply(&own, "ws-1", "9").as_str()));
    }

    #[test]
    fn described_as_a_runtime_without_container() {
        let about = Mock::describe(&settings("{}"));
        assert_eq!(
            (about.name.as_str(), about.hosting, about.reply_pause_ms),
            ("mock", Hosting::Synthetic, 80)
        );
        assert_eq!((about.image_base, about.surfaces), (None, Surfaces::empty()));
        assert_eq!(Mock::describe(&settings(r#"{"pause_ms": 0}"#)).reply_pause_ms, 0);
    }

    #[test]
    fn settings_have_limits() {
        let many = format!(r#"{{"replies": {:?}}}"#, vec!["x"; 101]);
        let long = format!(r#"{{"replies": ["x", {:?}]}}"#, "x".repeat(1_001));
        for (json, at) in [
            (r#"{"pause_ms": 60001}"#, "/pause_ms"),
            (r#"{"replies": []}"#, "/replies"),
            (many.as_str(), "/replies"),
            (long.as_str(), "/replies/1"),
        ] {
            assert_eq!(Mock::check(&settings(json)).unwrap_err().at.as_deref(), Some(at), "{json}");
        }
        assert_eq!(parse_settings::<Settings>(r#"{"pause": 1}"#).unwrap_err().at.as_deref(), Some("/pause"));
        Mock::check(&settings(r#"{"pause_ms": 60000, "replies": ["x"]}"#)).unwrap();
    }
}
