//! `isomer events`: what happened, and what happens.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::time::sleep;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::client::Client;
use super::print::{line, text};
use super::workspaces::Workspaces;
use super::{ServerArgs, TerminalError};

/// Waits between attempts to connect again: the first and the longest. Each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Characters of an id where there is no name.
const SHORT_ID: usize = 8;

/// Which events, and until when.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Stay, and show what happens
    #[arg(long, short)]
    follow: bool,
    /// Only of this workspace
    #[arg(long, value_name = "NAME|ID")]
    workspace: Option<String>,
    /// Only of this type, such as WORKSPACE_ONLINE
    #[arg(long = "type", value_name = "TYPE")]
    name: Option<String>,
    /// So many that happened, at most 500 [default: 100; with --follow none]
    #[arg(long, value_name = "N", conflicts_with = "since")]
    limit: Option<u16>,
    /// With --follow: begin after the event with this number
    #[arg(long, value_name = "SEQ", requires = "follow")]
    since: Option<i64>,
}

/// Shows events until there are no more, or until Ctrl-C.
///
/// # Errors
/// See [`TerminalError`].
pub async fn run(args: EventsArgs) -> Result<(), TerminalError> {
    let client = args.server.client()?;
    let mut shown = Shown::new(&args, &client).await?;
    if !args.follow || args.limit.is_some() {
        let path = shown.path(args.limit.unwrap_or(100));
        let Value::Array(events) = client.get(&path).await? else { return Ok(()) };
        for event in events.iter().rev() {
            if !shown.event(&client, event).await? {
                return Ok(());
            }
        }
    }
    if !args.follow {
        return Ok(());
    }
    tokio::select! {
        ended = follow(&client, &mut shown) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Follows, and connects again where the connection ends; no event is missed meanwhile.
async fn follow(client: &Client, shown: &mut Shown) -> Result<(), TerminalError> {
    let mut wait = FIRST_WAIT;
    loop {
        match listen(client, shown, &mut wait).await {
            Ok(Ended::ByReader) => return Ok(()),
            Ok(Ended::ByServer) => {}
            // What was refused once is refused again; what isn't there may come.
            Err(error @ TerminalError::Unreachable { .. }) if !shown.connected => return Err(error),
            Err(TerminalError::Unreachable { .. }) => {}
            Err(error) => return Err(error),
        }
        eprintln!("isomer: the connection ended; trying again in {} s", wait.as_secs());
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Why listening ended.
enum Ended {
    ByServer,
    ByReader,
}

async fn listen(client: &Client, shown: &mut Shown, wait: &mut Duration) -> Result<Ended, TerminalError> {
    let mut url = format!("{}/ws", client.server().replacen("http", "ws", 1));
    if let Some(last) = shown.last {
        url.push_str(&format!("?since={last}"));
    }
    let bad = |_| TerminalError::refused(format!("{} is no address of a server", client.server()));
    let mut request = url.into_client_request().map_err(bad)?;
    if let Some(token) = client.token() {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let value =
            value.map_err(|_| TerminalError::refused("the token has characters that no token has"))?;
        request.headers_mut().insert("Authorization", value);
    }
    let mut socket = match connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(SocketError::Http(answer)) => return Err(refusal(&answer)),
        Err(source) => {
            let server = client.server().to_owned();
            return Err(TerminalError::Unreachable { server, source: source.into() });
        }
    };
    *wait = FIRST_WAIT;
    shown.connected = true;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(frame) = message else { continue };
        let Ok(mut event) = serde_json::from_str::<Value>(&frame) else { continue };
        if let Some(fields) = event.as_object_mut() {
            // The list's names for the same things.
            for (from, to) in [("event", "event_type"), ("timestamp", "created_at")] {
                if let Some(value) = fields.remove(from) {
                    fields.insert(to.to_owned(), value);
                }
            }
        }
        if !shown.event(client, &event).await? {
            return Ok(Ended::ByReader);
        }
    }
    Ok(Ended::ByServer)
}

fn refusal(answer: &http::Response<Option<Vec<u8>>>) -> TerminalError {
    let body = answer.body().as_deref().unwrap_or_default();
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let status = answer.status();
    let mut message = json
        .get("error")
        .and_then(Value::as_str)
        .map_or_else(|| format!("the server answered {status}"), str::to_owned);
    if status.as_u16() == 401 {
        message.push_str(": give the server's ADMIN_TOKEN with --token or in the environment");
    }
    TerminalError::Refused { message }
}

/// What is shown, and how far it got.
struct Shown {
    workspace: Option<String>,
    name: Option<String>,
    as_json: bool,
    names: HashMap<String, String>,
    last: Option<i64>,
    connected: bool,
}

impl Shown {
    async fn new(args: &EventsArgs, client: &Client) -> Result<Self, TerminalError> {
        let known = Workspaces::new(client.get("/workspaces").await?);
        let names = known.names().into_iter().map(|(id, name)| (id.to_owned(), name.to_owned())).collect();
        Ok(Self {
            workspace: args.workspace.as_deref().map(|named| known.id(named)).transpose()?,
            name: args.name.clone(),
            as_json: args.server.json,
            names,
            last: args.since,
            connected: false,
        })
    }

    /// Where the newest ones are read.
    fn path(&self, limit: u16) -> String {
        let below = self.workspace.as_ref().map(|id| format!("/{id}")).unwrap_or_default();
        let name = self.name.as_ref().map(|name| format!("&type={name}")).unwrap_or_default();
        format!("/events{below}?limit={limit}{name}")
    }

    /// Shows an event, if it is one of those that are wanted. `false`: nobody reads any more.
    async fn event(&mut self, client: &Client, event: &Value) -> Result<bool, TerminalError> {
        if let Some(seq) = event.get("seq").and_then(Value::as_i64) {
            self.last = Some(seq);
        }
        let of = text(event, "workspace_id").to_owned();
        let wanted = self.workspace.as_ref().is_none_or(|id| *id == of)
            && self.name.as_ref().is_none_or(|name| name == text(event, "event_type"));
        if !wanted {
            return Ok(true);
        }
        if self.as_json {
            return Ok(line(event.to_string()));
        }
        if !self.names.contains_key(&of) {
            // One that is new. A server that doesn't answer is noticed soon enough.
            let list = client.get("/workspaces").await.unwrap_or_default();
            let known = Workspaces::new(list);
            self.names.extend(known.names().into_iter().map(|(id, name)| (id.to_owned(), name.to_owned())));
        }
        Ok(line(self.row(event, &of)))
    }

    fn row(&self, event: &Value, of: &str) -> String {
        let at: String = text(event, "created_at").chars().take(23).collect();
        let seq = event.get("seq").and_then(Value::as_i64).map(|seq| seq.to_string()).unwrap_or_default();
        let short = || of.chars().take(SHORT_ID).collect();
        let name = self.names.get(of).cloned().unwrap_or_else(short);
        let payload = event.get("payload").unwrap_or(&Value::Null);
        format!("{at}  {seq:>6}  {:<28}  {name:<20}  {payload}", text(event, "event_type"))
    }
}
