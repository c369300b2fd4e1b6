//! How many facts a second 32 clients append to a log of ten million facts, and to one under a snapshot that has been open
//! for two minutes, while they appended; what both are compared with is a log of a hundred thousand, in turns. Filling it takes
//! a quarter of an hour.
//!
//! After a checkpoint the first change of a page goes into the WAL as a whole page. A large index has more pages that a
//! command may fall on, so for the first seconds it writes eight times as much: rounds are so long, and come after so
//! much appending, that they have checkpoints within them as often as a log in use has.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/clients.rs"]
mod clients;
#[path = "support/filled.rs"]
mod filled;
#[path = "support/reaction.rs"]
mod reaction;
mod support;

use std::time::Duration;

use events::id::TenantId;
use events::store::Log;
use service::db;
use testing::bench::{Row, publish};

use clients::Clients;
use filled::fill;
use support::World;

const SMALL: i64 = 100_000;
const LARGE: i64 = 9_900_000;
const ROUNDS: u64 = 5;
const ROUND: Duration = Duration::from_secs(15);
const WARM_UP: Duration = Duration::from_secs(45);
const CLIENTS: usize = 32;
const OPEN: Duration = Duration::from_mins(2);

#[tokio::main]
async fn main() {
    let small = log_of(SMALL).await;
    let large = log_of(LARGE).await;
    for log in [&small, &large] {
        uniform(log, ROUNDS).append_for(WARM_UP).await;
    }
    let (mut few, mut many) = (vec![], vec![]);
    for run in 0..ROUNDS {
        few.push(uniform(&small, run).append_for(ROUND).await);
        many.push(uniform(&large, run).append_for(ROUND).await);
    }
    let rows = [
        row("10m facts", many, few),
        under_snapshot("old snapshot", &small, uniform).await,
        under_snapshot("old snapshot zipf", &small, zipf).await,
    ];
    println!("{}", publish("growth", &rows).unwrap());
    for (world, ..) in [small, large] {
        world.shutdown.finish(Duration::from_secs(10)).await;
    }
}

/// Appends to a log under a snapshot, which keeps all versions that its streams have had since.
async fn under_snapshot(case: &str, small: &Filled, load: fn(&Filled, u64) -> Clients<'_>) -> Row {
    let held = log_of(SMALL).await;
    let mut snapshot = db::begin(&held.0.owner, "BEGIN").await.unwrap();
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM log.log")
        .execute(&mut *snapshot)
        .await
        .unwrap();
    load(&held, 2 * ROUNDS).append_for(OPEN).await;
    let (mut few, mut under) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        few.push(load(small, 2 * ROUNDS).append_for(ROUND).await);
        under.push(load(&held, 2 * ROUNDS).append_for(ROUND).await);
    }
    snapshot.rollback().await.unwrap();
    held.0.shutdown.finish(Duration::from_secs(10)).await;
    row(case, under, few)
}

fn row(case: &str, ours: Vec<f64>, small: Vec<f64>) -> Row {
    Row {
        case: case.to_owned(),
        unit: "facts/s",
        ours,
        peer: ("none", None),
        ceiling: ("a log of 100 k facts", Some(small)),
    }
}

type Filled = (World, Log, TenantId);

async fn log_of(facts: i64) -> Filled {
    let world = World::new().await;
    fill(&world.owner, facts).await;
    let log = world.open().await;
    let tenant = log.default_tenant().await.unwrap();
    (world, log, tenant)
}

/// Clients with streams of their own, in each run others.
fn uniform((_, log, tenant): &Filled, run: u64) -> Clients<'_> {
    Clients {
        log,
        tenant: *tenant,
        number: CLIENTS,
        zipf: false,
        run,
    }
}

/// Clients that meet in the same streams.
fn zipf(filled: &Filled, run: u64) -> Clients<'_> {
    Clients {
        zipf: true,
        ..uniform(filled, run)
    }
}
