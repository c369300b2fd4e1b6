//! How much an API still gets done that is asked for three times as much as it can do: a process of its own over a made-up history,
//! asked for first pages of feeds.
//!
//! `goodput 3x`: answers of status 2xx a second, while requests come at three times the peak's rate, whether or not earlier ones
//! were answered. The ceiling is the peak: what clients get who ask again as soon as they are answered, in turns with ours, of
//! 4, 16 or 64 clients those that get most. A request is sent when it is due, on one of 2,048 connections, or as soon as one of
//! them is free. Neither what is answered in the first two seconds counts nor what is answered after the end. How long good answers took,
//! what became of the others, and the memory of the API are printed.
//!
//! `BENCH_USERS` (10,000) and `BENCH_POSTS` (100,000) are the size of the history, `BENCH_SECONDS` (10) that of a round.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/client.rs"]
mod client;
#[path = "support/files.rs"]
mod files;
#[path = "support/filling.rs"]
mod filling;
#[path = "support/live.rs"]
mod live;
#[path = "support/load.rs"]
mod load;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/pages.rs"]
mod pages;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/resident.rs"]
mod resident;
#[path = "support/seeded.rs"]
mod seeded;
#[path = "support/served.rs"]
mod served;
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use service::db::{self, Role};
use testing::bench::{Row, publish};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use client::{Client, request};
use load::{Requests, closed, rate};
use memory::peak_mb;
use pages::{LIMIT, begin, first, viewers};
use percentile::percentile;
use resident::resident_kb;
use served::Served;
use support::{World, number};

const ROUNDS: usize = 3;
/// What a page of the feed is read from.
const MODELS: [&str; 5] = ["feed", "engagement", "graph", "media", "moderation"];
/// How many clients may get the most, and how long each number is tried.
const CLIENTS: [usize; 3] = [4, 16, 64];
const TRIED: Duration = Duration::from_secs(2);
/// How many times the peak is asked for.
const TIMES: f64 = 3.0;
/// More than the API has in progress at once, so that it is the API that refuses.
const CONNECTIONS: usize = 2_048;
/// What is answered before does not count: until then what waits grows.
const RAMP: Duration = Duration::from_secs(2);
/// Between rounds, so that the last of one is gone before the next.
const CALM: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() {
    files::allow(CONNECTIONS);
    let (world, history) = seeded::seeded().await;
    live::fill(&world, &MODELS).await;
    let served = Served::start(&world, &[]).await;
    let requests = requests(&world, &history, &served).await;
    let time = Duration::from_secs(number("BENCH_SECONDS", 10).into());
    let address = served.address;
    let clients = most(address, &requests).await;
    let resident = || resident_kb(served.api.id()) / 1024.0;
    println!("limits: {:.0} MB resident before", resident());
    let (mut ours, mut peaks) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let peak = rate(
            &closed(address, (clients, time), &requests, 200).await,
            time,
        );
        let told = open(address, &requests, (peak * TIMES, time)).await;
        told.tell(time);
        println!("limits: {:.0} MB resident", resident());
        ours.push(rate(&told.good, time));
        peaks.push(peak);
        sleep(CALM).await;
    }
    println!(
        "limits: {:.0} MB resident after, {} at the most",
        resident(),
        peak_mb(served.api.id())
    );
    served.stop().await;
    let row = Row {
        case: "goodput 3x".to_owned(),
        unit: "requests/s",
        ours,
        peer: ("none", None),
        ceiling: ("peak", Some(peaks)),
    };
    println!("{}", publish("limits", &[row]).unwrap());
}

/// First pages of feeds, of one reader after another.
async fn requests(world: &World, history: &cli::bench::History, served: &Served) -> Requests {
    let pool = db::connect(world.database.url(), Role::Api, 1)
        .await
        .unwrap();
    let mut asked = vec![];
    for (n, viewer) in viewers(&pool, history).await {
        let page = first(&mut begin(&pool, viewer).await, viewer).await;
        let path = format!("/v1/feed?limit={LIMIT}");
        assert_eq!(page.items.len(), LIMIT as usize);
        let token = served.token(&history.account(n));
        asked.push(request("GET", &path, Some(&token)));
    }
    let next = AtomicUsize::new(0);
    Arc::new(move || asked[next.fetch_add(1, Ordering::Relaxed) % asked.len()].clone())
}

/// How many clients get the most.
async fn most(address: SocketAddr, requests: &Requests) -> usize {
    let mut best = (0, 0.0);
    for clients in CLIENTS {
        let rate = rate(
            &closed(address, (clients, TRIED), requests, 200).await,
            TRIED,
        );
        println!("limits: {clients} clients get {rate:.0} answers a second");
        if rate > best.1 {
            best = (clients, rate);
        }
    }
    best.0
}

/// What became of requests that came whether or not earlier ones were answered.
#[derive(Default)]
struct Told {
    /// What came.
    asked: usize,
    /// How long after they were due the good answers came.
    good: Vec<Duration>,
    /// Other answers, by status.
    others: BTreeMap<u16, usize>,
    /// What was answered after the end.
    late: usize,
    /// What no connection was free for until the end.
    unsent: usize,
    /// What was not answered at all.
    failed: usize,
}

/// Asks at a rate for some time.
async fn open(
    address: SocketAddr,
    requests: &Requests,
    (per_second, time): (f64, Duration),
) -> Told {
    let mut connections = vec![];
    for _ in 0..CONNECTIONS {
        connections.push(Client::connect(address).await.unwrap());
    }
    let (begun, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let counted = begun + RAMP..begun + RAMP + time;
    let mut running = JoinSet::new();
    for mut client in connections {
        let (requests, next, counted) = (requests.clone(), next.clone(), counted.clone());
        running.spawn(async move {
            let mut told = Told::default();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let due = begun + Duration::from_secs_f64(n as f64 / per_second);
                if due >= counted.end {
                    return told;
                }
                told.asked += usize::from(due >= counted.start);
                sleep_until(due).await;
                if Instant::now() >= counted.end {
                    told.unsent += 1;
                    continue;
                }
                let answer = client.ask(&requests()).await;
                told.add(&answer, due, &counted);
                if answer.is_err() {
                    client = Client::connect(address).await.unwrap();
                }
            }
        });
    }
    let mut all = Told::default();
    for told in running.join_all().await {
        all.merge(told);
    }
    all
}

impl Told {
    fn add(&mut self, answer: &std::io::Result<u16>, due: Instant, counted: &Range<Instant>) {
        let now = Instant::now();
        match answer {
            Err(_) => self.failed += 1,
            Ok(_) if now >= counted.end => self.late += 1,
            Ok(_) if now < counted.start => {}
            Ok(200..300) => self.good.push(due.elapsed()),
            Ok(status) => *self.others.entry(*status).or_default() += 1,
        }
    }

    fn merge(&mut self, other: Self) {
        self.asked += other.asked;
        self.good.extend(other.good);
        for (status, times) in other.others {
            *self.others.entry(status).or_default() += times;
        }
        self.late += other.late;
        self.unsent += other.unsent;
        self.failed += other.failed;
    }

    fn tell(&self, time: Duration) {
        assert!(
            !self.good.is_empty(),
            "nothing of {} was answered well",
            self.asked
        );
        println!(
            "limits: of {:.0} a second {} were answered well, p50 {:.0} ms, p99 {:.0} ms after they were due; others by status \
             {:?}; {} late, {} not sent, {} failed",
            self.asked as f64 / time.as_secs_f64(),
            self.good.len(),
            percentile(&self.good, 50),
            percentile(&self.good, 99),
            self.others,
            self.late,
            self.unsent,
            self.failed
        );
    }
}
