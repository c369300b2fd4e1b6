//! The API over a made-up history, a process of its own, asked by four clients that keep their connections and do little.
//!
//! `feed`: how many first pages of a feed a second they get: token, limits, row level security, JSON. The ceiling is pgbench with
//! four clients, which sends the very statements that such a page was seen to send, in a transaction of the viewer's, and looks at
//! no answer.
//!
//! `cached post`: how many times a second they get one public post, each time for another viewer. The peer is the same with
//! another post each time, which no cache has kept: a ratio of 1 is no cache.
//!
//! `command p99`: how long a like may take, 99 in 100 of them, each on another post. The ceiling is a bare group commit: one
//! connection that inserts rows of 300 bytes, whatever four clients have waiting in each commit.
//!
//! Printed besides: what the parts of a request take, see `support/parts.rs`.
//!
//! `BENCH_USERS` (10,000) and `BENCH_POSTS` (100,000) are the size of the history, `BENCH_SECONDS` (5) that of a round.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/client.rs"]
mod client;
#[path = "support/commit.rs"]
mod commit;
#[path = "support/filling.rs"]
mod filling;
#[path = "support/live.rs"]
mod live;
#[path = "support/load.rs"]
mod load;
#[path = "support/pages.rs"]
mod pages;
#[path = "support/parts.rs"]
mod parts;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/pgbench.rs"]
mod pgbench;
#[path = "support/seeded.rs"]
mod seeded;
#[path = "support/served.rs"]
mod served;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use events::id::UserId;
use futures::{StreamExt, stream};
use projectors::engagement::query::counts;
use projectors::graph::query::names;
use projectors::page::Viewer;
use service::db::{self, Role};
use sqlx::PgPool;
use tempfile::TempPath;
use testing::bench::{Row, publish};
use uuid::Uuid;

use client::{Client, request};
use load::{Requests, closed, rate};
use pages::{begin, first, viewers};
use percentile::percentile;
use pgbench::{Statement, script, sent};
use served::Served;
use support::{World, number};

const CLIENTS: usize = 4;
const ROUNDS: usize = 5;
const FEED: &str = "/v1/feed?limit=20";
/// What a page of the feed is read from.
const MODELS: [&str; 5] = ["feed", "engagement", "graph", "media", "moderation"];
/// Who looks at posts and likes them; a prime, so that everybody comes to every post.
const PEOPLE: usize = 251;

/// What is asked, and by whom.
struct Stage {
    served: Served,
    world: World,
    /// Those whose feeds are read, and their tokens.
    readers: Vec<(Viewer, String)>,
    /// What their pages send to Postgres.
    scripts: Vec<TempPath>,
    /// Tokens of others.
    people: Vec<String>,
    /// Public posts, in no order.
    posts: Vec<Uuid>,
    seconds: u32,
}

#[tokio::main]
async fn main() {
    let stage = Stage::set().await;
    let rows = [stage.feed().await, stage.post().await, stage.like().await];
    parts::tell(&stage).await;
    stage.served.stop().await;
    println!("{}", publish("http", &rows).unwrap());
}

/// Rates that nobody reaches, so that everybody is counted.
fn rates() -> String {
    let rates = [
        "address",
        "user-read",
        "user-write",
        "tenant-read",
        "tenant-write",
    ];
    rates
        .map(|rate| format!("{rate}=4000000000/4000000000"))
        .join(",")
}

impl Stage {
    async fn set() -> Self {
        let (world, history) = seeded::seeded().await;
        live::fill(&world, &MODELS).await;
        let served = Served::limited(&world, &rates(), &[]).await;
        let pool = db::connect(world.database.url(), Role::Api, 1)
            .await
            .unwrap();
        let viewers = viewers(&pool, &history).await;
        let readers = viewers.iter();
        let readers = readers.map(|(n, viewer)| (*viewer, served.token(&history.account(*n))));
        let posts = sqlx::query_scalar(
            "SELECT post FROM feed.post WHERE visibility = 'public' ORDER BY md5(post::text)",
        );
        let people = (0..PEOPLE).map(|n| served.token(&format!("bench {n}")));
        Self {
            readers: readers.collect(),
            scripts: scripts(&world, &viewers).await,
            people: people.collect(),
            posts: posts.fetch_all(&world.owner).await.unwrap(),
            seconds: number("BENCH_SECONDS", 5),
            served,
            world,
        }
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// Has requests answered, again and again.
    async fn ask(&self, requests: &Requests, status: u16) -> Vec<Duration> {
        let load = (CLIENTS, self.time());
        closed(self.served.address, load, requests, status).await
    }

    async fn feed(&self) -> Row {
        let tokens = self.readers.iter();
        let asked: Vec<_> = tokens
            .map(|(_, token)| request("GET", FEED, Some(token)))
            .collect();
        let next = AtomicUsize::new(0);
        let requests: Requests =
            Arc::new(move || asked[next.fetch_add(1, Ordering::Relaxed) % asked.len()].clone());
        let load = (u32::try_from(CLIENTS).unwrap(), self.seconds);
        let (mut ours, mut bare) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            ours.push(rate(&self.ask(&requests, 200).await, self.time()));
            bare.push(pgbench::rate(&self.world, "cinelog_api", &self.scripts, load).await);
        }
        Row {
            case: "feed".to_owned(),
            unit: "requests/s",
            ours,
            peer: ("none", None),
            ceiling: ("pgbench", Some(bare)),
        }
    }

    async fn post(&self) -> Row {
        let (hot, others) = self.posts.split_first().unwrap();
        let hot = self.by_people("GET", vec![format!("/v1/posts/{hot}")]);
        let posts = others.iter().map(|post| format!("/v1/posts/{post}"));
        let others = self.by_people("GET", posts.collect());
        let (mut ours, mut uncached, mut asked) = (vec![], vec![], 0);
        for _ in 0..ROUNDS {
            ours.push(rate(&self.ask(&hot, 200).await, self.time()));
            let waits = self.ask(&others, 200).await;
            asked += waits.len();
            uncached.push(rate(&waits, self.time()));
        }
        if asked >= self.posts.len() {
            println!(
                "http: the {} posts were not enough: some were read twice",
                self.posts.len()
            );
        }
        Row {
            case: "cached post".to_owned(),
            unit: "requests/s",
            ours,
            peer: ("uncached", Some(uncached)),
            ceiling: ("none", None),
        }
    }

    async fn like(&self) -> Row {
        self.register().await;
        commit::make_table(&self.world.owner).await;
        let posts = self.posts.iter();
        let posts = posts.map(|post| format!("/v1/posts/{post}/reactions/like"));
        let likes = self.by_people("PUT", posts.collect());
        let (mut ours, mut bare) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            let waits = self.ask(&likes, 204).await;
            let commits = commit::grouped(&self.world.owner, CLIENTS, self.time()).await;
            for (whose, waits) in [("likes", &waits), ("bare commits", &commits)] {
                println!(
                    "http: {whose}: {:.0} a second, p50 {:.1} ms, p99 {:.1}, most {:.1}",
                    rate(waits, self.time()),
                    percentile(waits, 50),
                    percentile(waits, 99),
                    percentile(waits, 100)
                );
            }
            ours.push(percentile(&waits, 99));
            bare.push(percentile(&commits, 99));
        }
        Row {
            case: "command p99".to_owned(),
            unit: "ms",
            ours,
            peer: ("none", None),
            ceiling: ("bare group commit", Some(bare)),
        }
    }

    /// The first command of everybody registers them: it is not counted.
    async fn register(&self) {
        let mut client = Client::connect(self.served.address).await.unwrap();
        let path = format!("/v1/posts/{}/reactions/wow", self.posts[0]);
        for token in &self.people {
            let asked = client.ask(&request("PUT", &path, Some(token))).await;
            assert_eq!(asked.unwrap(), 204);
        }
    }

    /// Each time another path, by another of the people.
    fn by_people(&self, method: &'static str, paths: Vec<String>) -> Requests {
        let (people, next) = (self.people.clone(), AtomicUsize::new(0));
        Arc::new(move || {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let who = &people[(n + n / paths.len()) % people.len()];
            request(method, &paths[n % paths.len()], Some(who))
        })
    }
}

/// A page of the feed with what goes with its posts, as the API reads it; what was looked up on the way.
async fn shown(pool: &PgPool, viewer: Viewer) -> (String, String) {
    let mut tx = begin(pool, viewer).await;
    let page = first(&mut tx, viewer).await;
    let authors: Vec<UserId> = page.items.iter().map(|post| post.author).collect();
    let posts: Vec<Uuid> = page.items.iter().map(|post| post.post.0).collect();
    names(&mut tx, viewer, &authors).await.unwrap();
    counts(&mut tx, viewer, &posts).await.unwrap();
    let authors: Vec<Uuid> = authors.iter().map(|author| author.0).collect();
    (listed(&authors), listed(&posts))
}

/// As Postgres writes a list.
fn listed(ids: &[Uuid]) -> String {
    let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    format!("{{{}}}", ids.join(","))
}

/// A file for each viewer with what a first page sends, as a fresh connection shows it.
async fn scripts(world: &World, viewers: &[(u64, Viewer)]) -> Vec<TempPath> {
    let pool = db::connect(world.database.url(), Role::Api, 1)
        .await
        .unwrap();
    shown(&pool, viewers[0].1).await;
    let statements = sent(&pool).await;
    let about_people = |one: &Statement| one.0.contains("graph.profile WHERE");
    let scripts = stream::iter(viewers).then(|(_, viewer)| {
        let (pool, statements) = (&pool, &statements);
        async move {
            let (authors, posts) = shown(pool, *viewer).await;
            let ids = |one| if about_people(one) { &authors } else { &posts };
            let statements = statements.iter();
            let statements: Vec<_> = statements
                .map(|one| (one.clone(), ids(one).clone()))
                .collect();
            script(*viewer, &statements)
        }
    });
    scripts.collect().await
}
