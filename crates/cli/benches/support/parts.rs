//! What the parts of a feed request take, each as the difference of two medians over one connection, in turns. From the bottom:
//!
//! - `HTTP`: a route that there is not (404). Sockets, requests in progress, the request's id, its log line, figures and a problem
//!   as answer.
//! - `routing`: the feed in an order that there is not, without a token (401), less the above. The route, time,
//!   and the layers that tag and compress, which have nothing to do here.
//! - `auth`: the same with a token (422), less the above. The token is proven; then the order is refused, before Postgres.
//! - `limits`: the same of an API that counts how often an address, a user and a tenant ask, and tells the rest, less the same of one
//!   that does not, as that of all other figures.
//! - `row level security`: the statements of a page by pgbench with the rights of the API, less the same with those of projectors,
//!   which no policy concerns.
//! - `other SQL, and its driver`: the same statements over the API's own driver in a transaction of the viewer's, less row level security.
//! - `JSON`: the whole request less all of these but `limits`. Rows become JSON, that is hashed for its tag, the next cursor is signed, and 10 kB
//!   more are written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service::db::{self, Role};

use crate::client::request;
use crate::load::closed;
use crate::percentile::percentile;
use crate::pgbench;
use crate::served::Served;
use crate::{FEED, Stage, shown};

const SECONDS: u32 = 1;
const ROUNDS: usize = 3;

/// Tells them.
pub(crate) async fn tell(stage: &Stage) {
    let free = Served::start(&stage.world, &[]).await;
    let token = &*stage.readers[0].1;
    let order = "/v1/feed?order=none";
    let mut rounds: [Vec<f64>; 8] = Default::default();
    let limited = &stage.served;
    for _ in 0..ROUNDS {
        let took = [
            asked(&free, request("GET", "/v1/nowhere", Some(token)), 404).await,
            asked(&free, request("GET", order, None), 401).await,
            asked(&free, request("GET", order, Some(token)), 422).await,
            asked(limited, request("GET", order, Some(token)), 422).await,
            asked(limited, request("GET", FEED, Some(token)), 200).await,
            by_driver(stage).await,
            by_pgbench(stage, "cinelog_api").await,
            by_pgbench(stage, "cinelog_projector").await,
        ];
        rounds
            .iter_mut()
            .zip(took)
            .for_each(|(all, one)| all.push(one));
    }
    free.stop().await;
    let [nowhere, nobody, refused, counted, whole, sql, fenced, open] = rounds.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[ROUNDS / 2]
    });
    let policies = fenced - open;
    let parts = [
        ("HTTP", nowhere),
        ("routing", nobody - nowhere),
        ("auth", refused - nobody),
        ("limits", counted - refused),
        ("row level security", policies),
        ("other SQL, and its driver", sql - policies),
        ("JSON", whole - counted - sql),
    ];
    println!("http: a page of the feed takes one client {whole:.0} µs:");
    for (part, micros) in parts {
        println!("  {micros:>6.0} µs {part}");
    }
}

/// What it takes to be answered, µs.
async fn asked(served: &Served, request: Vec<u8>, status: u16) -> f64 {
    let time = Duration::from_secs(SECONDS.into());
    let requests = Arc::new(move || request.clone()) as _;
    let waits = closed(served.address, (1, time), &requests, status).await;
    percentile(&waits, 50) * 1_000.0
}

/// What the first reader's page takes pgbench, µs.
async fn by_pgbench(stage: &Stage, role: &str) -> f64 {
    let first = &stage.scripts[..1];
    1e6 / pgbench::rate(&stage.world, role, first, (1, SECONDS)).await
}

/// What the first reader's page takes without HTTP, µs.
async fn by_driver(stage: &Stage) -> f64 {
    let pool = db::connect(stage.world.database.url(), Role::Api, 1)
        .await
        .unwrap();
    let begun = Instant::now();
    let mut waits = vec![];
    while begun.elapsed() < Duration::from_secs(SECONDS.into()) {
        let begun = Instant::now();
        shown(&pool, stage.readers[0].0).await;
        waits.push(begun.elapsed());
    }
    percentile(&waits, 50) * 1_000.0
}
