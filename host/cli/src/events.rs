//! `isomer events`: past events, and new ones as they happen.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{Connector, client_async_tls_with_config};
use url::form_urlencoded;

use super::client::{ANSWER_LEVELS, CONNECT_TIMEOUT, Client};
use super::output::reader_is_gone;
use super::print::{json_line, line, note, text};
use super::workspaces::Workspaces;
use super::{CliError, ServerArgs, printable};

/// Delays between attempts to reconnect: the first and the longest. Each is twice the one before.
const MIN_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(30);

/// How long the handshake may take: a server that starts lets it wait for 30 s.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Silence after which the connection counts as lost: the server sends a ping every 30 s.
const SILENCE: Duration = Duration::from_secs(75);

/// How often the names of workspaces are asked for at most: events may be of many that are gone.
const NAMES_EVERY: Duration = Duration::from_secs(5);

/// Characters of an id that stand for a missing name.
const SHORT_ID: usize = 8;

/// Show events.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Show new events as they happen, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only events of this workspace
    #[arg(long, value_name = "NAME|ID")]
    workspace: Option<String>,
    /// Only events of this type, such as WORKSPACE_ONLINE
    #[arg(long = "type", value_name = "TYPE")]
    name: Option<String>,
    /// Number of past events, at most 500 [default: 100; with --follow none]
    #[arg(long, value_name = "N", conflicts_with = "since", value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: Option<u16>,
    /// With --follow: start after the event with this number
    #[arg(long, value_name = "SEQ", requires = "follow")]
    since: Option<i64>,
}

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(args: EventsArgs) -> Result<(), CliError> {
    let client = args.server.client()?;
    let mut view = View::new(&args, &client).await?;
    if !args.follow || args.limit.is_some() {
        let path = view.path(args.limit.unwrap_or(100));
        let Value::Array(events) = client.get(&path).await? else { return Ok(()) };
        for event in events.iter().rev() {
            if !view.event(&client, event).await? {
                return Ok(());
            }
        }
    }
    if !args.follow {
        return Ok(());
    }
    if view.last.is_none() {
        // Where to resume if the connection ends before an event comes.
        let newest = client.get("/events?limit=1").await?;
        view.last = newest.get(0).map_or(Some(0), |event| event.get("seq").and_then(Value::as_i64));
    }
    tokio::select! {
        ended = follow(&client, &mut view) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
        () = reader_is_gone() => Ok(()),
    }
}

/// Reconnects when the connection ends, and resumes after the last event.
async fn follow(client: &Client, view: &mut View) -> Result<(), CliError> {
    let mut wait = MIN_DELAY;
    loop {
        let ended = match subscribe(client, view, &mut wait).await {
            Ok(Ended::ByOutput) => return Ok(()),
            Ok(Ended::ByServer(reason)) => reason,
            // A refusal is final; a server that does not answer may come back.
            Err(error @ CliError::Unreachable { .. }) if !view.connected => return Err(error),
            Err(CliError::Unreachable { source, .. }) => Some(source.to_string()),
            Err(error) => return Err(error),
        };
        let reason = ended.map(|reason| format!(" ({})", printable(&reason))).unwrap_or_default();
        note(format!(
            "isomer: the connection to the server ended{reason}; reconnecting in {} s",
            wait.as_secs()
        ));
        sleep(wait).await;
        wait = (wait * 2).min(MAX_DELAY);
    }
}

/// Which side ended a subscription.
enum Ended {
    /// Why, where that is known.
    ByServer(Option<String>),
    /// The output is closed (`| head`).
    ByOutput,
}

async fn subscribe(client: &Client, view: &mut View, wait: &mut Duration) -> Result<Ended, CliError> {
    let address = client.address();
    let mut url = format!("{}/ws", address.url.replacen("http", "ws", 1));
    if let Some(last) = view.last {
        url.push_str(&format!("?since={last}"));
    }
    let mut request = url.into_client_request().map_err(|source| client.unreachable(source))?;
    request.headers_mut().extend(client.headers().clone());
    let (host, port) = &address.socket;
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port)))
        .await
        .map_err(|source| client.unreachable(source))?
        .map_err(|source| client.unreachable(source))?;
    let connector = address.secure.then(|| Connector::Rustls(Arc::new(client.tls())));
    let connected =
        timeout(HANDSHAKE_TIMEOUT, client_async_tls_with_config(request, stream, None, connector)).await;
    let mut socket = match connected.map_err(|source| client.unreachable(source))? {
        Ok((socket, _)) => socket,
        Err(SocketError::Http(answer)) => return Err(refusal(&answer)),
        Err(SocketError::Io(source)) => return Err(client.unreachable(source)),
        Err(source) => {
            return Err(CliError::refused(format!(
                "what answers at {} doesn't follow the WebSocket protocol as Isomer does: {source}",
                address.url
            )));
        }
    };
    view.connected = true;
    loop {
        let message = match timeout(SILENCE, socket.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return Ok(Ended::ByServer(Some(error.to_string()))),
            Ok(None) => return Ok(Ended::ByServer(None)),
            Err(_) => return Ok(Ended::ByServer(Some(format!("silent for {} s", SILENCE.as_secs())))),
        };
        // Only a connection that works begins the delays anew.
        *wait = MIN_DELAY;
        let Message::Text(frame) = message else { continue };
        let Ok(mut event) = wire_json::from_slice_within::<Value>(frame.as_bytes(), ANSWER_LEVELS) else {
            continue;
        };
        if let Some(fields) = event.as_object_mut() {
            // The names that the list of past events has for these fields.
            for (from, to) in [("event", "event_type"), ("timestamp", "created_at")] {
                if let Some(value) = fields.remove(from) {
                    fields.insert(to.to_owned(), value);
                }
            }
        }
        if !view.event(client, &event).await? {
            return Ok(Ended::ByOutput);
        }
    }
}

fn refusal(answer: &http::Response<Option<Vec<u8>>>) -> CliError {
    let body = answer.body().as_deref().unwrap_or_default();
    let json: Value = wire_json::from_slice(body).unwrap_or_default();
    let status = answer.status();
    let mut message = json
        .get("error")
        .and_then(Value::as_str)
        .map_or_else(|| format!("the server answered {status}"), |error| printable(error).into_owned());
    if status.as_u16() == 401 {
        message.push_str(". Give the server's ADMIN_TOKEN with --token or in the environment");
    }
    CliError::Refused { message }
}

/// The filter, the names of workspaces, and the last event view.
struct View {
    workspace: Option<String>,
    name: Option<String>,
    as_json: bool,
    names: HashMap<String, String>,
    /// When they were asked for.
    named_at: Option<Instant>,
    last: Option<i64>,
    connected: bool,
}

impl View {
    async fn new(args: &EventsArgs, client: &Client) -> Result<Self, CliError> {
        let known = Workspaces::new(client.get("/workspaces").await?);
        let names = known.names().into_iter().map(|(id, name)| (id.to_owned(), name.to_owned())).collect();
        Ok(Self {
            workspace: args.workspace.as_deref().map(|named| known.id(named)).transpose()?,
            name: args.name.clone(),
            as_json: args.server.json,
            names,
            named_at: None,
            last: args.since,
            connected: false,
        })
    }

    /// Path of the newest events.
    fn path(&self, limit: u16) -> String {
        let below = self.workspace.as_ref().map(|id| format!("/{id}")).unwrap_or_default();
        let encoded = |name: &String| form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
        let name = self.name.as_ref().map(|name| format!("&type={}", encoded(name))).unwrap_or_default();
        format!("/events{below}?limit={limit}{name}")
    }

    /// Prints an event that matches the filter. `false`: the output is closed.
    async fn event(&mut self, client: &Client, event: &Value) -> Result<bool, CliError> {
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
            return Ok(json_line(event));
        }
        let is_due = || self.connected && self.named_at.is_none_or(|at| at.elapsed() >= NAMES_EVERY);
        if let Some(name) = event.pointer("/payload/name").and_then(Value::as_str) {
            self.names.insert(of.clone(), name.to_owned());
        } else if !self.names.contains_key(&of) && is_due() {
            // If the server doesn't answer, the subscription ends anyway.
            self.named_at = Some(Instant::now());
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
