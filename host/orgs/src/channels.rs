//! Chat channels of a template: their values with variables, and which of them can be set up.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    shown::shown,
    template::Channel,
    variables::{self, ServerVariables},
};

/// Beginnings of the webhook URLs of Lark.
const LARK_WEBHOOKS: [&str; 2] =
    ["https://open.feishu.cn/open-apis/bot/v2/hook/", "https://open.larksuite.com/open-apis/bot/v2/hook/"];

/// A channel that can't be set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedChannel {
    /// Why it is skipped; clients compare this text.
    pub reason: String,
    /// Type of the channel.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of the channel's workspace.
    pub workspace: String,
}

/// A channel that can be set up, as it is stored.
#[derive(Debug, Serialize)]
pub(crate) struct UsableChannel<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
    /// With every variable replaced.
    config: BTreeMap<&'a str, String>,
    allowed_users: &'a [String],
    enabled: bool,
}

/// The channel with variables replaced.
///
/// # Errors
/// Why it can't be set up.
pub(crate) fn usable<'a>(
    channel: &'a Channel,
    env: &BTreeMap<String, String>,
    server: &ServerVariables,
) -> Result<UsableChannel<'a>, String> {
    let kind = channel.kind.as_str();
    if kind.is_empty() {
        return Err("empty type".to_owned());
    }
    if !["telegram", "slack", "discord", "lark"].contains(&kind) {
        return Err("unknown adapter".to_owned());
    }
    let mut missing = Vec::new();
    let mut config = BTreeMap::new();
    for (key, value) in &channel.config {
        let expanded = variables::expand(value, env, server);
        if expanded.is_missing {
            missing.push(shown(value));
        }
        config.insert(key.as_str(), expanded.text);
    }
    if !missing.is_empty() {
        return Err(format!("missing env: [{}]", missing.join(" ")));
    }
    check(kind, &config)?;
    let Channel { allowed_users, enabled, .. } = channel;
    Ok(UsableChannel { kind, config, allowed_users, enabled: *enabled })
}

/// The rules of each adapter for its configuration.
fn check(kind: &str, config: &BTreeMap<&str, String>) -> Result<(), String> {
    let given = |key: &str| config.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
    let required = |key: &str| given(key).ok_or_else(|| format!("missing required field: {key}"));
    let webhook = |url: &str, beginnings: &[&str]| {
        let fits = beginnings.iter().any(|beginning| url.starts_with(beginning));
        let expected = || format!("invalid webhook_url: it must start with {}", beginnings.join(" or "));
        if fits { Ok(()) } else { Err(expected()) }
    };
    match kind {
        "telegram" => {
            let token = required("bot_token")?;
            required("chat_id")?;
            if is_telegram_token(token) { Ok(()) } else { Err("invalid bot_token format".to_owned()) }
        }
        "slack" => match (given("bot_token"), given("webhook_url")) {
            (None, None) => Err("missing required field: bot_token or webhook_url".to_owned()),
            (Some(_), _) if given("channel_id").is_none() => {
                Err("missing required field: channel_id".to_owned())
            }
            (_, Some(url)) => webhook(url, &["https://hooks.slack.com/"]),
            (Some(_), None) => Ok(()),
        },
        "discord" => webhook(required("webhook_url")?, &["https://discord.com/api/webhooks/"]),
        _ => webhook(required("webhook_url")?, &LARK_WEBHOOKS),
    }
}

/// `^\d+:[A-Za-z0-9_-]{30,}$`
fn is_telegram_token(token: &str) -> bool {
    token.split_once(':').is_some_and(|(bot, secret)| {
        !bot.is_empty()
            && bot.bytes().all(|byte| byte.is_ascii_digit())
            && secret.len() >= 30
            && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "12345:abcdefghijklmnopqrstuvwxyz_-1234";

    fn reason(kind: &str, config: &[(&str, &str)]) -> Option<String> {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let channel = Channel { kind: kind.to_owned(), config, allowed_users: Vec::new(), enabled: true };
        let env = [("TOKEN".to_owned(), TOKEN.to_owned())].into();
        usable(&channel, &env, &ServerVariables::default()).err()
    }

    #[test]
    fn channels_are_checked_by_the_rules_of_their_adapter() {
        let hook = "https://hooks.slack.com/services/x";
        for (kind, config, expected) in [
            ("", &[][..], Some("empty type")),
            ("pigeon", &[], Some("unknown adapter")),
            ("telegram", &[("bot_token", TOKEN), ("chat_id", "1")], None),
            ("telegram", &[("bot_token", "${TOKEN}"), ("chat_id", "1")], None),
            ("telegram", &[("chat_id", "1")], Some("missing required field: bot_token")),
            ("telegram", &[("bot_token", TOKEN)], Some("missing required field: chat_id")),
            ("telegram", &[("bot_token", TOKEN), ("chat_id", " ")], Some("missing required field: chat_id")),
            ("telegram", &[("bot_token", "12:short"), ("chat_id", "1")], Some("invalid bot_token format")),
            ("slack", &[("bot_token", "x"), ("channel_id", "C1")], None),
            ("slack", &[("webhook_url", hook)], None),
            ("slack", &[], Some("missing required field: bot_token or webhook_url")),
            ("slack", &[("bot_token", "x")], Some("missing required field: channel_id")),
            (
                "slack",
                &[("webhook_url", "http://hooks.slack.com/x")],
                Some("invalid webhook_url: it must start with https://hooks.slack.com/"),
            ),
            ("discord", &[("webhook_url", "https://discord.com/api/webhooks/1/x")], None),
            ("discord", &[], Some("missing required field: webhook_url")),
            ("lark", &[("webhook_url", "https://open.feishu.cn/open-apis/bot/v2/hook/x")], None),
            ("lark", &[], Some("missing required field: webhook_url")),
            (
                "slack",
                &[("z", "$ISOMER_UNSET_1"), ("a", "x/${ISOMER_UNSET_2}"), ("bot_token", "${TOKEN}")],
                Some("missing env: [x/${ISOMER_UNSET_2} $ISOMER_UNSET_1]"),
            ),
        ] {
            assert_eq!(reason(kind, config).as_deref(), expected, "{kind} {config:?}");
        }
    }
}
