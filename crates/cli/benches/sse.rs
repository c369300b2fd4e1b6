//! Streams of `GET /v1/feed/live`, each of a user of its own who follows one author, from an API that is a process of its own
//! beside one with the projectors of feed and notifications.
//!
//! `kB per connection`: by how much the API's resident memory grows with all streams open and idle, over how many there are. What
//! the kernel keeps for a socket is not in it.
//!
//! `deliver p99`: the author posts; how long after the request was sent 99 in 100 of the streams have their event. Each has
//! its user's feed looked into for that.
//!
//! `slow readers`: to how many events a second that comes, for nine tenths of the streams, while the last tenth takes nothing: over
//! HTTP/2, with windows of no bytes, as the kernel's buffers would take what comes of news for long. The ceiling is the same nine tenths
//! while the others read.
//!
//! `BENCH_STREAMS` is how many there are: 20,000, or fewer where no process may open so many files, see `ulimit -Hn`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/client.rs"]
mod client;
#[path = "support/files.rs"]
mod files;
#[path = "support/filling.rs"]
mod filling;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/resident.rs"]
mod resident;
#[path = "support/served.rs"]
mod served;
#[path = "support/streams.rs"]
mod streams;
mod support;

use std::ops::Range;
use std::time::Duration;

use events::id::UserId;
use futures::{StreamExt, stream};
use projectors::config::Config;
use projectors::registry::{self, Generation};
use rustix::process::{Resource, getrlimit};
use testing::bench::{Row, publish};
use testing::db::Database;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use client::{Client, request};
use percentile::percentile;
use resident::resident_kb;
use served::{Served, cinelog};
use streams::{Deaf, Stream};
use support::{World, number};

const ROUNDS: usize = 5;
const STREAMS: u32 = 20_000;
const LIVE: &str = "/v1/feed/live";
/// What is read by who waits for news.
const MODELS: [&str; 4] = ["feed", "notification", "graph", "moderation"];
/// Streams that are being opened at a time, and users who begin to follow.
const AT_ONCE: usize = 16;
/// Posts that are in the feeds before: of so many a stream remembers that they are not new.
const SEEN: usize = 20;
/// Before anything is measured, so many streams have been there.
const FIRST: usize = 16;
/// Until what was closed is gone, and a stream may be told again.
const CALM: Duration = Duration::from_secs(2);
/// How long the last stream may take.
const LIMIT: Duration = Duration::from_mins(2);

/// How many there are, unless somebody says so: a tenth more are open while others close.
fn streams() -> u32 {
    let most = getrlimit(Resource::Nofile).maximum;
    let room = most.map_or(u64::MAX, |most| {
        most.saturating_sub(files::OTHERS) / 11 * 10
    });
    u32::try_from(room).unwrap_or(STREAMS).min(STREAMS)
}

#[tokio::main]
async fn main() {
    let all = number("BENCH_STREAMS", streams()) as usize;
    assert!(all >= 10, "BENCH_STREAMS is at least 10");
    // Those that were closed may still be there when others are opened.
    let most = all + all / 10;
    files::allow(most);
    let world = World::on(Database::migrated().await).await;
    registry::prepare(&world.owner).await.unwrap();
    let served = Served::start(&world, &["--max-live", &most.to_string()]).await;
    let mut stage = Stage::set(served, all);
    for _ in 0..SEEN {
        stage.post().await;
    }
    stage.follow().await;
    fill(&world).await;
    let mut arguments = vec!["projectors"];
    arguments.extend(MODELS);
    let _projectors = cinelog(&world, &arguments);

    let fast = all - all / 10;
    let few = stage.listen(0..FIRST.min(all)).await;
    stage.deliver(few.len()).await;
    drop(few);
    sleep(CALM).await;
    let before = stage.resident();
    let readers = stage.listen(0..fast).await;
    let mut tenth = stage.listen(fast..all).await;
    sleep(CALM).await;
    let opened = stage.resident();
    println!("sse: {before:.0} kB resident, {opened:.0} kB with {all} streams");
    let (mut waits, mut beside_slow, mut beside_readers) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let told = stage.deliver(all).await;
        waits.push(percentile(&times(&told, all), 99));
        beside_readers.push(rate(&times(&told, fast)));
        drop(tenth);
        let deaf = stage.ignore(fast..all).await;
        sleep(CALM).await;
        let told = stage.deliver(fast).await;
        beside_slow.push(rate(&times(&told, fast)));
        drop(deaf);
        tenth = stage.listen(fast..all).await;
        sleep(CALM).await;
    }
    println!("sse: {:.0} kB resident at the end", stage.resident());
    drop((readers, tenth));
    stage.served.stop().await;
    let rows = [
        row(
            "kB per connection",
            "kB",
            vec![(opened - before) / all as f64],
            None,
        ),
        row("deliver p99", "ms", waits, None),
        row(
            "slow readers",
            "events/s",
            beside_slow,
            Some(beside_readers),
        ),
    ];
    println!("{}", publish("sse", &rows).unwrap());
}

fn row(case: &str, unit: &'static str, ours: Vec<f64>, all_read: Option<Vec<f64>>) -> Row {
    Row {
        case: case.to_owned(),
        unit,
        ours,
        peer: ("none", None),
        ceiling: (all_read.as_ref().map_or("none", |_| "all read"), all_read),
    }
}

/// How long the first so many streams took.
fn times(told: &[(usize, Duration)], streams: usize) -> Vec<Duration> {
    let first = told.iter().filter(|(n, _)| *n < streams);
    first.map(|(_, wait)| *wait).collect()
}

/// Events a second, until all but a hundredth are there.
fn rate(waits: &[Duration]) -> f64 {
    waits.len() as f64 * 0.99 / percentile(waits, 99) * 1_000.0
}

/// Brings what is read to where the log is.
async fn fill(world: &World) {
    let live = registry::live(&world.owner).await.unwrap();
    for model in registry::all(&Config::default()) {
        if MODELS.contains(&model.name()) {
            let name = live[model.name()].clone();
            filling::fill(world, &Generation::new(name, model), 1).await;
        }
    }
}

/// An API, an author, and who follows them.
struct Stage {
    served: Served,
    published: Vec<u8>,
    tokens: Vec<String>,
    told: mpsc::Sender<(usize, Instant)>,
    news: mpsc::Receiver<(usize, Instant)>,
}

impl Stage {
    fn set(served: Served, all: usize) -> Self {
        let (told, news) = mpsc::channel(all);
        let tokens = (0..all).map(|n| served.token(&format!("follower {n}")));
        Self {
            published: published(&served.token("author")),
            tokens: tokens.collect(),
            served,
            told,
            news,
        }
    }

    /// Over a connection of its own: one that is kept for as long as streams take to open is idle for too long.
    async fn post(&self) {
        let mut author = Client::connect(self.served.address).await.unwrap();
        assert_eq!(author.ask(&self.published).await.unwrap(), 201);
    }

    /// Everybody begins to follow the author.
    async fn follow(&self) {
        let author = UserId::of(api::auth::ISSUER, "author");
        let path = format!("/v1/users/{author}/follow");
        let mut running = JoinSet::new();
        for tokens in self.tokens.chunks(self.tokens.len().div_ceil(AT_ONCE)) {
            let (address, path, tokens) = (self.served.address, path.clone(), tokens.to_vec());
            running.spawn(async move {
                let mut client = Client::connect(address).await.unwrap();
                for token in tokens {
                    let asked = client.ask(&request("PUT", &path, Some(&token))).await;
                    assert_eq!(asked.unwrap(), 200);
                }
            });
        }
        running.join_all().await;
    }

    /// Streams that tell what comes, as long as they are held.
    async fn listen(&self, which: Range<usize>) -> JoinSet<()> {
        let mut running = JoinSet::new();
        let opening = stream::iter(which).map(|n| async move {
            let request = request("GET", LIVE, Some(&self.tokens[n]));
            (n, Stream::open(self.served.address, &request).await)
        });
        let opened: Vec<_> = opening.buffered(AT_ONCE).collect().await;
        for (n, mut stream) in opened {
            let told = self.told.clone();
            running.spawn(async move {
                while let Some(when) = stream.news().await {
                    told.send((n, when)).await.unwrap();
                }
            });
        }
        running
    }

    /// Streams that take nothing.
    async fn ignore(&self, which: Range<usize>) -> Vec<Deaf> {
        let opening =
            stream::iter(which).map(|n| Deaf::open(self.served.address, LIVE, &self.tokens[n]));
        opening.buffered(AT_ONCE).collect().await
    }

    /// Has something posted, and gives how long it took to each of those who listen.
    async fn deliver(&mut self, listening: usize) -> Vec<(usize, Duration)> {
        let begun = Instant::now();
        self.post().await;
        let mut came = vec![];
        while came.len() < listening {
            let news = timeout_at(begun + LIMIT, self.news.recv()).await;
            let Ok(Some((n, when))) = news else {
                panic!(
                    "{} of {listening} streams were told within {LIMIT:?}",
                    came.len()
                );
            };
            came.push((n, when - begun));
        }
        came
    }

    fn resident(&self) -> f64 {
        resident_kb(self.served.api.id())
    }
}

/// The request by which the author posts.
fn published(token: &str) -> Vec<u8> {
    let body = r#"{"text":"Hoy hemos rodado la última escena de la noche en la playa. #cine"}"#;
    let mut request = request("POST", "/v1/posts", Some(token));
    request.truncate(request.len() - 2);
    let rest = format!(
        "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    request.extend(rest.into_bytes());
    request
}
