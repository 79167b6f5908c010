//! Components that are hostile to the compiler, or to what looks at them before it.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use support::{Components, Database, Server, Start, bombs, variant};

/// What a server may need more than before, whatever is pushed.
const GROWTH: u64 = 160 << 20;

/// How long the answer to a push may take: the limit of a compilation, and a loaded machine.
const PUSH_TIMEOUT: Duration = Duration::from_secs(20);

async fn start(database: Database) -> Server {
    let start = Start::from(database).own_cache();
    // Limits of the compiler that end the test soon.
    let server = Server::start(start.env("GUEST_COMPILE_SECONDS", "1").env("GUEST_COMPILE_MIB", "256")).await;
    server.until("its guests are compiled", async |server| server.children().is_empty()).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn components_of_unusual_shapes_are_refused_and_cost_the_server_nothing() {
    let server = start(Database::sqlite()).await;
    let (before, mut deviations) = (server.peak_memory(), String::new());
    for (name, component) in bombs::shapes() {
        let started = Instant::now();
        let answer = server.push("bomb", &component, true).await;
        let (took, grown) = (started.elapsed(), server.peak_memory() - before);
        let refused = [413, 422, 503].contains(&answer.status.as_u16());
        if !refused || took > PUSH_TIMEOUT || grown > GROWTH {
            let _ =
                writeln!(deviations, "{name}: {} in {took:?}, {grown} bytes: {}", answer.status, answer.json);
        }
        let text = answer.json.to_string();
        assert!(text.len() < 16_000, "{name}: a refusal of {} bytes", text.len());
        assert!(!text.contains("/tmp/") && !text.contains(".rs:"), "{name}: {text}");
        server.get("/health").await.ok();
    }
    assert!(deviations.is_empty(), "{deviations}");
    // The server is what it was: it compiles and answers, and no compilation goes on.
    let second = variant(&Components::get().second_mock, 900);
    server.push("mock", &second, true).await.ok();
    assert_eq!(server.reply("mock").await, "second");
    assert!(server.children().is_empty());
}

/// Bytes of a real guest, changed at places that differ each time: never an error of the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_with_other_bytes_is_refused_or_works() {
    let server = start(Database::sqlite()).await;
    let guest = &Components::get().second_mock;
    let (before, mut random) = (server.peak_memory(), Random(0x9e37_79b9_7f4a_7c15));
    for round in 0..60 {
        let mut bytes = guest.clone();
        for _ in 0..=random.below(4) {
            let (at, with) = (
                random.below(bytes.len().min(if round % 2 == 0 { 4_000 } else { usize::MAX })),
                random.below(256),
            );
            bytes[at] = u8::try_from(with).unwrap();
        }
        if round % 5 == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        let answer = server.push("bomb", &bytes, round % 3 == 0).await;
        let allowed = answer.status.is_success() || [400, 422, 503].contains(&answer.status.as_u16());
        assert!(allowed, "round {round}: {} {}", answer.status, answer.json);
    }
    let grown = server.peak_memory() - before;
    assert!(grown < GROWTH, "the peak of resident memory grew by {grown} bytes");
    server.get("/health").await.ok();
}

/// Left in the watched directory, they delay no start.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_with_hostile_components_in_its_watched_directory() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (component, _)) in bombs::refused_ahead().into_iter().enumerate() {
        fs::write(folder.path().join(format!("bomb-{number}.wasm")), component).unwrap();
    }
    let start = Start::from(Database::sqlite()).env("GUESTS_DIR", folder.path().to_str().unwrap());
    let mut server = Server::start(start).await;
    for _ in 0..2 {
        server.get("/health").await.ok();
        server.reply("mock").await;
        server.until_logged("not taken from GUESTS_DIR").await;
        let peak = server.peak_memory();
        assert!(peak < 512 << 20, "{peak} bytes");
        server = server.restart().await;
    }
}

/// Numbers that are the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}
