//! How many first pages of a feed a second four clients get, 20 posts each, of a made-up history: `feed::query::page` over a
//! pool of four connections, each page in a transaction of its viewer's. The ceiling is pgbench with four clients, which sends
//! the very statements that such a page was seen to send, and looks at no answer.
//!
//! `BENCH_USERS` (10,000) and `BENCH_POSTS` (100,000) are the size of the history, `BENCH_SECONDS` (5) that of a round.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/filling.rs"]
mod filling;
#[path = "support/live.rs"]
mod live;
#[path = "support/pages.rs"]
mod pages;
#[path = "support/pgbench.rs"]
mod pgbench;
#[path = "support/seeded.rs"]
mod seeded;
mod support;

use std::time::{Duration, Instant};

use projectors::page::Viewer;
use service::db::{self, Role};
use sqlx::PgPool;
use tempfile::TempPath;
use testing::bench::{Row, publish};
use tokio::task::JoinSet;

use pages::{begin, first, viewers};
use support::{World, number};

const CLIENTS: u32 = 4;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let (world, history) = seeded::seeded().await;
    live::fill(&world, &["feed"]).await;
    let seconds = number("BENCH_SECONDS", 5);
    let pool = db::connect(world.database.url(), Role::Api, CLIENTS)
        .await
        .unwrap();
    let viewers = viewers(&pool, &history).await;
    let viewers: Vec<Viewer> = viewers.into_iter().map(|(_, viewer)| viewer).collect();
    let scripts = scripts(&world, &viewers).await;
    let (mut ours, mut bare) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        ours.push(pages(&pool, &viewers, Duration::from_secs(seconds.into())).await);
        bare.push(pgbench::rate(&world, "cinelog_api", &scripts, (CLIENTS, seconds)).await);
    }
    let row = Row {
        case: "first page".to_owned(),
        unit: "requests/s",
        ours,
        peer: ("none", None),
        ceiling: ("pgbench", Some(bare)),
    };
    println!("{}", publish("feed", &[row]).unwrap());
}

async fn pages(pool: &PgPool, viewers: &[Viewer], time: Duration) -> f64 {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS as usize {
        let (pool, viewers) = (pool.clone(), viewers.to_vec());
        clients.spawn(async move {
            let mut pages = 0;
            while begun.elapsed() < time {
                let viewer = viewers[(client + pages * 7) % viewers.len()];
                let mut tx = begin(&pool, viewer).await;
                assert!(first(&mut tx, viewer).await.next.is_some());
                pages += 1;
            }
            pages
        });
    }
    let pages: usize = clients.join_all().await.into_iter().sum();
    pages as f64 / begun.elapsed().as_secs_f64()
}

/// A file for each viewer with what a first page sends, as a fresh connection shows it.
async fn scripts(world: &World, viewers: &[Viewer]) -> Vec<TempPath> {
    let pool = db::connect(world.database.url(), Role::Api, 1)
        .await
        .unwrap();
    first(&mut begin(&pool, viewers[0]).await, viewers[0]).await;
    let statements = pgbench::sent(&pool).await;
    let statements: Vec<_> = statements
        .into_iter()
        .map(|one| (one, String::new()))
        .collect();
    let scripts = viewers.iter();
    scripts
        .map(|viewer| pgbench::script(*viewer, &statements))
        .collect()
}
