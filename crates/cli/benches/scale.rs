//! How many facts a second two and four processes take in that share the lanes of one read model, each of which waits 5 ms in
//! every batch of 100 facts for something that is not this machine: the wait is what more processes can share, however few
//! cores there are. The ceiling is so many times what one process takes in, in the same round. Each round begins anew, and is
//! measured from when lanes are shared fairly until nearly all is done.
//!
//! Printed besides: how long lanes stand still when a process joins, and when one is killed.
//!
//! `BENCH_FACTS` (600,000) is how many facts there are.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/filled.rs"]
mod filled;
mod support;
#[path = "support/tally.rs"]
mod tally;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use events::id::{Lane, Position};
use events::source::Source;
use events::store::Wake;
use events::subscription::{self, Options, Runner};
use service::db::{self, Role};
use service::secret::Secret;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::bench::{Row, publish};
use testing::db::Database;
use testing::environment;
use testing::process::Child;
use testing::wait::until_true;

use support::{World, keys, number};
use tally::Tally;

const POSTS: u32 = 20_000;
const PAUSE: Duration = Duration::from_millis(5);
const BATCH: usize = 100;
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_mins(5);
/// What makes this program a process of the subscription that it names.
const WORKER: &str = "BENCH_WORKER";

#[tokio::main]
async fn main() {
    match environment::optional(WORKER) {
        Some(name) => work(&name).await,
        None => measure().await,
    }
}

/// Takes facts in until a signal comes.
async fn work(name: &str) {
    let url = Secret::new(environment::required("DATABASE_URL"));
    let pool = db::connect(&url, Role::Projector, 4).await.unwrap();
    let shutdown = Shutdown::new();
    shutdown.on_signal().unwrap();
    let source = Source::postgres(&pool, Wake::start(pool.clone(), &shutdown));
    let options = Options {
        batch: BATCH,
        ..Options::default()
    };
    let tally = Arc::new(Tally::new(name, PAUSE));
    Runner::new(tally, pool, source, keys(), options)
        .run(&shutdown)
        .await;
    shutdown.finish(Duration::from_secs(10)).await;
}

async fn measure() {
    let facts = i64::from(number("BENCH_FACTS", 600_000));
    let world = World::on(Database::migrated().await).await;
    filled::fill(&world.owner, facts, POSTS.into()).await;
    Tally::make_table(&world.owner).await;
    let mut rates = BTreeMap::<usize, Vec<f64>>::new();
    for round in 0..ROUNDS {
        for processes in [1, 2, 4] {
            let name = format!("scale_{round}_{processes}");
            let rate = together(&world, &name, processes, facts).await;
            rates.entry(processes).or_default().push(rate);
        }
    }
    pauses(&world).await;
    let rows = [2_u32, 4].map(|processes| Row {
        case: format!("{processes} processes"),
        unit: "facts/s",
        ours: rates[&(processes as usize)].clone(),
        peer: ("none", None),
        ceiling: (
            "n × 1 process",
            Some(
                rates[&1]
                    .iter()
                    .map(|one| one * f64::from(processes))
                    .collect(),
            ),
        ),
    });
    println!("{}", publish("scale", &rows).unwrap());
}

fn start(world: &World, name: &str) -> Child {
    let program: PathBuf = std::env::current_exe().unwrap();
    let url = world.database.url().expose();
    Child::start(program, &[], &[(WORKER, name), ("DATABASE_URL", url)])
}

/// Facts a second that `processes` take in, once lanes are shared.
async fn together(world: &World, name: &str, processes: usize, facts: i64) -> f64 {
    Tally::empty_table(&world.owner).await;
    let workers: Vec<Child> = (0..processes).map(|_| start(world, name)).collect();
    shared(&world.owner, name, processes).await;
    let (begun, before) = (Instant::now(), Tally::sum(&world.owner).await.1);
    let nearly = facts - facts / 20;
    assert!(before < facts / 2, "too few facts: set BENCH_FACTS higher");
    let mut taken = before;
    while taken < nearly {
        assert!(
            begun.elapsed() < LIMIT,
            "{taken} of {facts} facts were taken in"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        taken = Tally::sum(&world.owner).await.1;
    }
    let rate = (taken - before) as f64 / begun.elapsed().as_secs_f64();
    until_true(LIMIT, "all is taken in, once", async || {
        Tally::sum(&world.owner).await == (POSTS.into(), facts)
    })
    .await;
    for worker in &workers {
        worker.signal(rustix::process::Signal::TERM);
    }
    for worker in workers {
        worker.finish(LIMIT).await;
    }
    rate
}

/// Waits until so many processes have each its share of the lanes.
async fn shared(owner: &PgPool, name: &str, processes: usize) {
    until_true(LIMIT, "lanes are shared", async || {
        let shares: Vec<i64> = sqlx::query_scalar(
            "SELECT count(*) FROM subscription.leases l JOIN subscription.members m ON m.member = l.owner
             WHERE l.subscription = $1 AND m.subscription = $1 AND m.until > clock_timestamp() GROUP BY l.owner",
        )
        .bind(name)
        .fetch_all(owner)
        .await
        .unwrap();
        shares.len() == processes && shares.iter().sum::<i64>() == 64
    })
    .await;
}

/// How long lanes stand still when a third process joins two, and when it is killed.
async fn pauses(world: &World) {
    Tally::empty_table(&world.owner).await;
    let name = "scale_pauses";
    let _two = [start(world, name), start(world, name)];
    shared(&world.owner, name, 2).await;
    let mut third = None;
    let joins = || third = Some(start(world, name));
    let joined = longest_pauses(world, name, joins, 3).await;
    let killed = longest_pauses(world, name, || third.take().iter().for_each(Child::kill), 2).await;
    for (when, mut pauses) in [("joins", joined), ("is killed", killed)] {
        pauses.sort_unstable();
        println!(
            "when a process {when}: of 64 lanes, half stand still for {:.0} ms at the most, the last for {:.0} ms",
            pauses[pauses.len() / 2].as_secs_f64() * 1_000.0,
            pauses[pauses.len() - 1].as_secs_f64() * 1_000.0
        );
    }
}

/// The longest time that each lane stood still from when `change` is made until so many `processes` share the lanes again, and
/// each has gone on.
async fn longest_pauses(
    world: &World,
    name: &str,
    change: impl FnOnce(),
    processes: usize,
) -> Vec<Duration> {
    let mut lanes: BTreeMap<Lane, (Position, Instant, Duration)> = BTreeMap::new();
    change();
    let changed = Instant::now();
    let again = shared(&world.owner, name, processes);
    tokio::pin!(again);
    let mut settled = None;
    loop {
        let mut connection = world.projector.acquire().await.unwrap();
        let now = subscription::positions(&mut connection, name)
            .await
            .unwrap();
        drop(connection);
        for (lane, position) in now {
            let (at, since, longest) =
                lanes
                    .entry(lane)
                    .or_insert((position, changed, Duration::ZERO));
            if *at < position {
                *longest = since.elapsed().max(*longest);
                (*at, *since) = (position, Instant::now());
            }
        }
        let went_on = |since: Instant| lanes.values().all(|(_, last, _)| *last > since);
        if settled.is_some_and(went_on) {
            return lanes.into_values().map(|(.., longest)| longest).collect();
        }
        assert!(changed.elapsed() < LIMIT, "some lanes do not go on");
        tokio::select! {
            () = &mut again, if settled.is_none() => settled = Some(Instant::now()),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}
