//! What the running server says of itself.

use std::collections::HashSet;
use std::path::Path;

use api::settings::Secret;
use cli::{CliError, Client, Target};
use httpd::settings::is_loopback;
use serde_json::Value;

use super::finding::Finding;
use crate::settings::Settings;

/// From this tier on, containers have the rights of root on their machine.
const PRIVILEGED_TIER: i64 = 3;

/// The hosting of runtimes whose agents run in containers.
const CONTAINER: &str = "container";

/// Names in one finding at most.
const NAMES: usize = 5;

/// Which server to ask.
pub(super) struct Asked<'a> {
    pub(super) url: Option<&'a str>,
    pub(super) authority: Option<&'a Path>,
}

pub(super) async fn findings(settings: &Settings, asked: &Asked<'_>) -> Result<Vec<Finding>, CliError> {
    let url = asked.url.map_or_else(|| own_url(settings), str::to_owned);
    let token = settings.access.admin_token.as_ref().map(Secret::expose);
    let target = Target { server: &url, authority: asked.authority, token, org_id: settings.http.org_id() };
    let server = Client::new(target)?;
    let guests = match server.get("/admin/guests").await {
        Ok(guests) => guests,
        Err(error @ CliError::Refused { .. }) => {
            let text = format!("{url} does not accept this ADMIN_TOKEN, or is no Isomer server: {error}");
            return Ok(vec![Finding::open("server", text)]);
        }
        Err(error) => {
            let text = format!("was not asked about its guests, tokens and workspaces: {error}");
            return Ok(vec![Finding::note("server", text)]);
        }
    };
    if guests.get("guests").is_none_or(|list| !list.is_array()) {
        return Ok(vec![Finding::open(
            "server",
            format!("{url} does not answer as Isomer does: name the server with --server"),
        )]);
    }
    let mut found = Vec::new();
    if token.is_some() {
        let stranger = Client::new(Target { token: None, ..target })?;
        if stranger.get("/org/tokens").await.is_ok() {
            found.push(Finding::open(
                "server",
                format!("{url} needs no ADMIN_TOKEN: it runs with other settings than these. Start it again with them"),
            ));
        }
    }
    found.extend(of_guests(&guests));
    let uncontained = uncontained_runtimes(&server, &guests).await;
    let answers = [
        of_tokens(server.get("/org/tokens").await.as_ref()),
        of_workspaces(server.get("/workspaces").await.as_ref(), &uncontained),
    ];
    found.extend(answers.into_iter().flatten());
    Ok(found)
}

/// Names of the runtimes whose adapters say that their agents run in no container of this server.
async fn uncontained_runtimes(server: &Client, guests: &Value) -> HashSet<String> {
    let mut runtimes = HashSet::new();
    for name in all(guests).iter().filter_map(|guest| text(guest, "name")) {
        if let Ok(guest) = server.get(&format!("/admin/guests/{name}")).await {
            runtimes.extend(uncontained(&guest));
        }
    }
    runtimes
}

fn uncontained(guest: &Value) -> Vec<String> {
    let Some(description) = guest.get("description").filter(|it| text(it, "hosting").is_some()) else {
        return Vec::new();
    };
    if text(description, "hosting") == Some(CONTAINER) {
        return Vec::new();
    }
    let aliases = description.get("aliases").and_then(Value::as_array).into_iter().flatten();
    text(description, "name")
        .into_iter()
        .chain(aliases.filter_map(Value::as_str))
        .map(str::to_owned)
        .collect()
}

fn all(guests: &Value) -> &[Value] {
    guests.get("guests").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The address of this machine at which a server with these settings listens.
fn own_url(settings: &Settings) -> String {
    let hosts = settings.http.listen_hosts(settings.access.dev_mode());
    let named = hosts.first().copied().filter(|host| !is_loopback(host) && !["::", "0.0.0.0"].contains(host));
    let host = named.unwrap_or("127.0.0.1");
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("http://{host}:{}", settings.http.port)
}

fn is_foreign(guest: &Value) -> bool {
    text(guest, "source").is_some_and(|source| source != "embedded")
}

fn of_guests(answer: &Value) -> Vec<Finding> {
    let guests = all(answer);
    let names = |is: fn(&Value) -> bool| -> Vec<&str> {
        guests.iter().filter(|guest| is(guest)).filter_map(|guest| text(guest, "name")).collect()
    };
    let foreign = names(is_foreign);
    let trusted = names(|guest| is_foreign(guest) && guest.get("trusted") == Some(&Value::Bool(true)));
    let mut found = Vec::new();
    if !foreign.is_empty() {
        found.push(Finding::note(
            "guests",
            format!(
                "of others than Isomer decide what workspaces run and read their messages: {}",
                list(&foreign)
            ),
        ));
    }
    if !trusted.is_empty() {
        found.push(Finding::note(
            "guests",
            format!("trusted ones may ask for hosting other than a container: {}", list(&trusted)),
        ));
    }
    if found.is_empty() {
        found.push(Finding::ok("guests", "all are Isomer's own"));
    }
    found
}

fn of_tokens(answer: Result<&Value, &CliError>) -> Option<Finding> {
    let tokens = answer.ok()?.get("tokens")?.as_array()?;
    let names: Vec<&str> =
        tokens.iter().filter_map(|token| text(token, "name").or_else(|| text(token, "prefix"))).collect();
    Some(match names.is_empty() {
        true => Finding::ok("tokens", "no token of the organization exists"),
        false => Finding::note(
            "tokens",
            format!(
                "{} of the organization, each with an administrator's rights: {}",
                names.len(),
                list(&names)
            ),
        ),
    })
}

fn of_workspaces(answer: Result<&Value, &CliError>, uncontained: &HashSet<String>) -> Option<Finding> {
    let workspaces = answer.ok()?.as_array()?;
    let is_privileged = |workspace: &&Value| {
        !text(workspace, "runtime").is_some_and(|runtime| uncontained.contains(runtime))
            && workspace.get("tier").and_then(Value::as_i64).is_some_and(|tier| tier >= PRIVILEGED_TIER)
    };
    let names: Vec<&str> =
        workspaces.iter().filter(is_privileged).filter_map(|workspace| text(workspace, "name")).collect();
    Some(match names.is_empty() {
        true => Finding::ok("tiers", "no workspace has tier 3 or 4, whose containers have root's rights"),
        false => Finding::note(
            "tiers",
            format!("containers of tier 3 and 4 have root's rights on their machine: {}", list(&names)),
        ),
    })
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

fn list(names: &[&str]) -> String {
    let shown = names.get(..NAMES).unwrap_or(names).join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn the_server_is_asked_where_its_settings_say() {
        for (flags, url) in [
            (&[][..], "http://127.0.0.1:8080"),
            (&["--port", "81", "--bind-addr", "0.0.0.0"], "http://127.0.0.1:81"),
            (&["--bind-addr", "[fd00::1]"], "http://[fd00::1]:8080"),
            (&["--bind-addr", "10.0.0.1"], "http://10.0.0.1:8080"),
            (&["--bind-addr", "localhost"], "http://127.0.0.1:8080"),
        ] {
            assert_eq!(own_url(&Settings::from_flags(flags.iter().copied()).expect("valid")), url);
        }
    }

    #[test]
    fn guests_tokens_and_tiers_are_named() {
        let guests = json!({ "guests": [
            { "name": "mock", "source": "embedded", "trusted": true },
            { "name": "mine", "source": "upload", "trusted": true },
            { "name": "empty", "source": null, "trusted": false },
        ] });
        let texts: Vec<String> = of_guests(&guests).into_iter().map(|finding| finding.text).collect();
        assert!(texts.first().is_some_and(|text| text.ends_with(": mine")), "{texts:?}");
        assert!(texts.get(1).is_some_and(|text| text.ends_with(": mine")), "{texts:?}");
        let adapter = |hosting: &str| json!({ "description": { "name": "mine", "aliases": ["own"], "hosting": hosting } });
        assert_eq!(uncontained(&adapter("container")), [""; 0]);
        let uncontained: HashSet<String> = uncontained(&adapter("synthetic")).into_iter().collect();
        assert!(uncontained.contains("mine") && uncontained.contains("own"));
        let many: Vec<Value> = (0..7).map(|n| json!({ "name": format!("w{n}"), "tier": n, "runtime": if n == 3 { "own" } else { "x" } })).collect();
        let tiers = of_workspaces(Ok(&json!(many)), &uncontained).expect("a finding");
        assert!(tiers.level == Level::Note && tiers.text.ends_with(": w4, w5, w6"), "{}", tiers.text);
        let tokens: Vec<Value> = (0..7).map(|n| json!({ "prefix": format!("p{n}") })).collect();
        let tokens = of_tokens(Ok(&json!({ "tokens": tokens }))).expect("a finding");
        assert!(tokens.text.ends_with(": p0, p1, p2, p3, p4 and 2 more"), "{}", tokens.text);
    }
}
