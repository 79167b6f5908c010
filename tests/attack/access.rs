//! Every route, called by every kind of caller in every mode. What is expected is in the tables.

use std::fmt::Write as _;

use reqwest::Method;
use serde_json::{Value, json};
use support::{Answer, Database, Server, Start, on_both_databases};
use uuid::Uuid;

use crate::{
    raw,
    table::{Classes, Expected, Row, rows},
};

const ADMIN: &str = "attack-admin-token-0123456789";
const WRONG: &str = "wrong-0123456789-0123456789-0123456789-0123";
const ORG: &str = "org-attacked";

/// 32 bytes in base64, as production requires them.
const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// What anonymous callers may never read: where an agent is reached.
const AGENT_URL: &str = "http://localhost:9/private-agent-path";

const CALLERS: [&str; 10] =
    ["none", "wrong", "own", "other", "org", "revoked", "admin", "forged", "claims", "page"];

/// A mode of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Fresh,
    Dev,
    Open,
    Admin,
    Tenant,
    Member,
}

impl Mode {
    /// As the table names it.
    fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Dev => "dev",
            Self::Open => "open",
            Self::Admin => "admin",
            Self::Tenant => "tenant",
            Self::Member => "member",
        }
    }

    fn start(self, database: Database) -> Start {
        let start = Start::from(database).env("RATE_LIMIT", "100000").env("SECRETS_ENCRYPTION_KEY", KEY);
        match self {
            Self::Dev => start,
            Self::Fresh | Self::Open => start.env("MOLECULE_ENV", "production"),
            Self::Admin => start.env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", ADMIN),
            Self::Tenant | Self::Member => {
                let start = start.env("MOLECULE_ENV", "production").env("ADMIN_TOKEN", ADMIN);
                start.env("MOLECULE_ORG_ID", ORG)
            }
        }
    }

    fn has_admin_token(self) -> bool {
        matches!(self, Self::Admin | Self::Tenant | Self::Member)
    }
}

/// A server with workspaces and tokens.
struct World {
    server: Server,
    mode: Mode,
    /// What an operator shows, if anything.
    operator: Option<String>,
    own: String,
    other: String,
    tokens: Tokens,
}

#[derive(Default)]
struct Tokens {
    own: String,
    other: String,
    org: String,
    revoked: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

impl World {
    async fn new(mode: Mode, database: Database) -> Self {
        let server = Server::start(mode.start(database)).await;
        let operator = mode.has_admin_token().then(|| ADMIN.to_owned());
        let (own, other, tokens) = (String::new(), String::new(), Tokens::default());
        let mut world = Self { server, mode, operator, own, other, tokens };
        if mode == Mode::Fresh {
            // Workspaces of this kind have no token.
            world.own = text(&world.create(json!({ "name": "Own", "runtime": "mock" })).await["id"]);
            world.other = text(&world.create(json!({ "name": "Other", "runtime": "mock" })).await["id"]);
            return world;
        }
        let external = |name: &str| json!({ "name": name, "external": true, "delivery_mode": "poll" });
        let own = world.create(external("Own")).await;
        world.own = text(&own["id"]);
        world.operator.get_or_insert_with(|| text(&own["connection"]["auth_token"]));
        let other = world.create(external("Other")).await;
        world.other = text(&other["id"]);
        world.tokens.other = text(&other["connection"]["auth_token"]);
        let tokens = format!("/workspaces/{}/tokens", world.own);
        if !mode.has_admin_token() {
            world.operator = Some(world.tokens.other.clone());
        }
        let org = world.operate(Method::POST, "/org/tokens", Some(json!({ "name": "attack" }))).await.ok();
        world.tokens.org = text(&org["auth_token"]);
        world.operator = Some(world.tokens.org.clone());
        // Tokens of this kind outlive a restart of the workspace.
        let minted = world.operate(Method::POST, &tokens, None).await.ok();
        world.tokens.own = text(&minted["auth_token"]);
        let revoked = world.operate(Method::POST, &tokens, None).await.ok();
        world.tokens.revoked = text(&revoked["auth_token"]);
        let card = json!({ "name": "x", "url": AGENT_URL });
        let card = json!({ "workspace_id": world.own, "agent_card": card });
        world.operate(Method::POST, "/registry/update-card", Some(card)).await.ok();
        let listed = world.operate(Method::GET, &tokens, None).await.ok();
        let prefix = &world.tokens.revoked[..8];
        let listed = listed["tokens"].as_array().expect("a list");
        let id = listed.iter().find(|token| token["prefix"] == prefix).expect("it is live");
        world.operate(Method::DELETE, &format!("{tokens}/{}", text(&id["id"])), None).await.ok();
        world
    }

    /// What an operator does to prepare the attack.
    async fn operate(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let bearer = self.operator.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("X-Molecule-Org-Id", ORG)];
        headers.extend(bearer.as_ref().map(|bearer| ("Authorization", bearer.as_str())));
        self.server.with(&headers, method, path, body).await
    }

    async fn create(&self, body: Value) -> Value {
        self.operate(Method::POST, "/workspaces", Some(body)).await.ok()
    }

    /// A workspace for which no token was ever made.
    async fn bare(&self) -> String {
        let made = self.create(json!({ "name": format!("Bare {}", Uuid::new_v4()) })).await;
        text(&made["id"])
    }

    fn token(&self, caller: &str) -> Option<&str> {
        match caller {
            "wrong" => Some(WRONG),
            "own" => Some(&self.tokens.own),
            "other" => Some(&self.tokens.other),
            "org" => Some(&self.tokens.org),
            "revoked" => Some(&self.tokens.revoked),
            "admin" => Some(ADMIN),
            _ => None,
        }
    }

    /// The header lines by which a caller is known.
    fn headers(&self, caller: &str) -> Vec<String> {
        let mut headers = Vec::new();
        headers.extend(self.token(caller).map(|token| format!("Authorization: Bearer {token}")));
        if self.mode == Mode::Member {
            headers.push(format!("X-Molecule-Org-Id: {ORG}"));
        }
        match caller {
            "forged" => headers.extend([
                "Origin: http://localhost:3000".to_owned(),
                format!("Referer: http://{}/canvas", self.server.address()),
                "Cookie: session=0123456789abcdef; isomer=1".to_owned(),
            ]),
            "claims" => headers.push(format!("X-Workspace-ID: {}", self.other)),
            "page" => headers.push("Origin: https://attacker.example".to_owned()),
            _ => {}
        }
        headers
    }

    async fn fill(&self, text: &str) -> String {
        let mut text = text.replace("{own}", &self.own).replace("{agent}", AGENT_URL);
        text = text.replace("{long}", &"x".repeat(200));
        if text.contains("{unknown}") {
            text = text.replace("{unknown}", &Uuid::new_v4().to_string());
        }
        if text.contains("{bare}") {
            text = text.replace("{bare}", &self.bare().await);
        }
        text
    }

    async fn request(&self, row: &Row, caller: &str) -> String {
        let (target, body) = (self.fill(&row.target).await, self.fill(&row.body).await);
        let mut request = format!("{} {target} HTTP/1.1\r\nHost: {}\r\n", row.method, self.server.address());
        let mut headers = self.headers(caller);
        for header in &row.headers {
            headers.push(self.fill(header).await);
        }
        if row.statuses.contains(&101) {
            headers.extend(
                [
                    "Connection: Upgrade",
                    "Upgrade: websocket",
                    "Sec-WebSocket-Version: 13",
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                ]
                .map(str::to_owned),
            );
        }
        for header in headers {
            let _ = write!(request, "{header}\r\n");
        }
        let _ = write!(request, "Content-Length: {}\r\n\r\n{body}", body.len());
        request
    }

    /// What no refused caller may read.
    fn secrets(&self) -> Vec<&str> {
        let tokens = [&self.tokens.own, &self.tokens.other, &self.tokens.org, &self.tokens.revoked];
        let tokens = tokens.into_iter().map(String::as_str).filter(|token| !token.is_empty());
        let data = self.server.data.path().to_str().expect("a path is text");
        tokens.chain([ADMIN, AGENT_URL, data, "platform_inbound_secret", "auth_token\""]).collect()
    }
}

/// Asks every cell of a mode, and collects what deviates.
async fn attack(mode: Mode, database: Database) {
    let (world, classes) = (World::new(mode, database).await, Classes::read());
    let (mut asked, mut deviations) = (0, String::new());
    for row in rows() {
        for caller in CALLERS {
            let expected = classes.expected(&row.class, mode.name(), caller);
            if *expected == Expected::Skipped {
                continue;
            }
            let request = world.request(&row, caller).await;
            let answer = raw::ask(world.server.address(), request.as_bytes()).await;
            asked += 1;
            let judged = judge(&world, &row, expected, &answer);
            let shows_agent = is_anonymous(mode, caller) && answer.body.contains(AGENT_URL);
            let judged = if shows_agent { Err("the agent's URL is told".to_owned()) } else { judged };
            if let Err(problem) = judged {
                let _ = writeln!(
                    deviations,
                    "{} {} ({}) by `{caller}`: {problem}\n    {}",
                    row.method, row.pattern, row.class, answer.body
                );
            }
        }
    }
    assert!(deviations.is_empty(), "mode {}, {asked} requests:\n{deviations}", mode.name());
    assert!(asked > 100, "{asked} requests");
}

/// Whether the caller proves nothing, where that matters.
fn is_anonymous(mode: Mode, caller: &str) -> bool {
    mode != Mode::Dev && ["none", "wrong", "revoked", "forged", "claims", "page"].contains(&caller)
}

fn judge(world: &World, row: &Row, expected: &Expected, answer: &raw::Answer) -> Result<(), String> {
    let status = answer.status;
    if status >= 500 {
        return Err(format!("{status}"));
    }
    match expected {
        Expected::Skipped => Ok(()),
        Expected::Admitted if row.statuses.contains(&status) => Ok(()),
        Expected::Admitted => Err(format!("{status} instead of {:?}", row.statuses)),
        Expected::Refused(refusal, _) if status != *refusal => Err(format!("{status} instead of {refusal}")),
        Expected::Refused(_, text) if answer.error() != *text => {
            Err(format!("`{}` instead of `{text}`", answer.error()))
        }
        Expected::Refused(..) => {
            let told = world.secrets().into_iter().find(|secret| answer.body.contains(secret));
            let origin = answer.header("access-control-allow-origin").unwrap_or_default();
            match told {
                Some(secret) => Err(format!("the answer has `{secret}`")),
                None if origin.contains("attacker") || origin == "*" => Err("CORS opens it".to_owned()),
                None => Ok(()),
            }
        }
    }
}

on_both_databases! {
    async fn a_server_without_any_token_is_as_the_tables_say(database: Database) {
        attack(Mode::Fresh, database).await;
    }

    async fn development_is_as_the_tables_say(database: Database) {
        attack(Mode::Dev, database).await;
    }

    async fn a_server_without_admin_token_is_as_the_tables_say(database: Database) {
        attack(Mode::Open, database).await;
    }

    async fn a_server_with_admin_token_is_as_the_tables_say(database: Database) {
        attack(Mode::Admin, database).await;
    }

    async fn a_tenant_is_as_the_tables_say_to_strangers(database: Database) {
        attack(Mode::Tenant, database).await;
    }

    async fn a_tenant_is_as_the_tables_say_to_its_members(database: Database) {
        attack(Mode::Member, database).await;
    }
}
