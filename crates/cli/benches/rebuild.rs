//! How many facts a second a read model is filled with from the log's beginning.
//!
//! `20k rows`: a million facts fold into 20,000 rows, by [`events::subscription::fill`], as `cinelog rebuild` does it. The
//! ceiling is one `INSERT … SELECT … GROUP BY` over the log, which knows nothing of facts, lanes or checkpoints. The peers
//! do the same over a fiftieth of events and rows, because they are slower; their rates count.
//!
//! `full feed`: the feed of a made-up history. The ceiling is one `INSERT … SELECT` of its rows into the same tables,
//! already folded. Where time goes, what the feed takes on disk and what its projector takes in memory is printed.
//!
//! `BENCH_FACTS` (1,000,000) and `BENCH_ROWS` (20,000) are the sizes of the first, `BENCH_USERS` (10,000) and `BENCH_POSTS` (100,000)
//! of the second; a large place has 100,000 and 1,000,000, which takes half an hour.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/filled.rs"]
mod filled;
#[path = "support/filling.rs"]
mod filling;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/seeded.rs"]
mod seeded;
#[path = "support/spent.rs"]
mod spent;
mod support;
#[path = "support/tally.rs"]
mod tally;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use events::store::bounds;
use events::subscription;
use projectors::config::Config;
use projectors::generation::{complete, drop_unread, fresh_generation};
use projectors::registry::{self, Generation, Projection};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use testing::bench::{Row, publish};
use testing::db::Database;
use testing::peer::{DISINTEGRATE, EMMETT, Peers};
use testing::process::Child;
use testing::wait::until_true;

use filling::fill;
use seeded::{projection, seeded};
use spent::{Statements, Timed};
use support::{MASTER, World, number};
use tally::Tally;

const ROUNDS: usize = 3;
/// Peers get one in so many.
const PEER_SHARE: u32 = 50;
const LIMIT: Duration = Duration::from_hours(1);

#[tokio::main]
async fn main() {
    tracing::subscriber::set_global_default(Statements).unwrap();
    let rows = [rows().await, feed().await];
    println!("{}", publish("rebuild", &rows).unwrap());
}

async fn rows() -> Row {
    let (facts, posts) = (
        number("BENCH_FACTS", 1_000_000),
        number("BENCH_ROWS", 20_000),
    );
    let world = World::on(Database::migrated().await).await;
    filled::fill(&world.owner, facts.into(), posts.into()).await;
    Tally::make_table(&world.owner).await;
    let mut peers = Peers::start(&[EMMETT, DISINTEGRATE]).await.unwrap();
    let (mut filled, mut theirs) = (peers.sides(), peers.sides());
    let few = json!({"facts": facts / PEER_SHARE, "rows": posts / PEER_SHARE});
    let to = |what: &str| json!({"do": what, "facts": few["facts"], "rows": few["rows"]});
    peers.ask(&to("fill"), &mut filled).await.unwrap();
    let (mut ours, mut bare) = (vec![], vec![]);
    for round in 0..ROUNDS {
        let tally = Tally::new(&format!("tally_{round}"), Duration::ZERO);
        Tally::empty_table(&world.owner).await;
        ours.push(fill(&world, &tally, 2).await);
        assert_eq!(Tally::sum(&world.owner).await, (posts.into(), facts.into()));
        bare.push(grouped(&world.owner, facts).await);
        peers.ask(&to("rebuild"), &mut theirs).await.unwrap();
    }
    println!("20k rows: {}", peers.table(&theirs));
    Row {
        case: "20k rows".to_owned(),
        unit: "facts/s",
        ours,
        peer: peers.best(&theirs),
        ceiling: ("INSERT … SELECT … GROUP BY", Some(bare)),
    }
}

async fn grouped(owner: &PgPool, facts: u32) -> f64 {
    Tally::empty_table(owner).await;
    let begun = Instant::now();
    sqlx::query(
        "INSERT INTO public.tally SELECT (payload->>'post')::uuid, count(*), max(position) FROM log.events GROUP BY 1",
    )
    .execute(owner)
    .await
    .unwrap();
    f64::from(facts) / begun.elapsed().as_secs_f64()
}

async fn feed() -> Row {
    let (world, history) = seeded().await;
    let config = Config::default();
    let feed = projection("feed", &config);
    let (mut ours, mut bare) = (vec![], vec![]);
    for round in 0..ROUNDS {
        let name = fresh_generation(&world.owner, feed.as_ref()).await.unwrap();
        ours.push(built(&world, &feed, &name).await);
        let copy = fresh_generation(&world.owner, feed.as_ref()).await.unwrap();
        bare.push(copied(&world.owner, &name, &copy).await);
        if round + 1 == ROUNDS {
            tell_storage(&world.owner, &name, history.size().users).await;
        }
        drop_unread(&world.owner, |_| {}).await.unwrap();
    }
    let name = fresh_generation(&world.owner, feed.as_ref()).await.unwrap();
    let generation = Generation::new(name.clone(), feed.clone());
    generation.leave_out(&world.projector).await.unwrap();
    let timed = Timed::new(generation);
    let begun = Instant::now();
    fill(&world, &timed, 1).await;
    let all = begun.elapsed();
    let begun = Instant::now();
    complete(&world.owner, feed.as_ref(), &name).await.unwrap();
    let indexes = begun.elapsed();
    let begun = Instant::now();
    timed.subscriber.make_ready(&world.projector).await.unwrap();
    let ready = begun.elapsed();
    println!(
        "full feed, one writer: {:.1} s, {:.1} s for indexes, and {:.1} s to make every reader's ready",
        all.as_secs_f64(),
        indexes.as_secs_f64(),
        ready.as_secs_f64()
    );
    println!("{}", timed.told(all + indexes + ready));
    projector_alone(&world).await;
    Row {
        case: "full feed".to_owned(),
        unit: "facts/s",
        ours,
        peer: ("none", None),
        ceiling: ("INSERT … SELECT of its rows", Some(bare)),
    }
}

/// Fills a build as a rebuild does: indexes and entries at its end. Facts a second.
async fn built(world: &World, projection: &Arc<dyn Projection>, name: &str) -> f64 {
    let generation = Generation::new(name.to_owned(), Arc::clone(projection));
    let head = bounds(&world.owner).await.unwrap().head;
    let begun = Instant::now();
    generation.leave_out(&world.projector).await.unwrap();
    fill(world, &generation, 2).await;
    complete(&world.owner, projection.as_ref(), name)
        .await
        .unwrap();
    generation.make_ready(&world.projector).await.unwrap();
    head.0 as f64 / begun.elapsed().as_secs_f64()
}

/// Puts the rows of one build into the empty tables of another; facts a second.
async fn copied(owner: &PgPool, from: &str, to: &str) -> f64 {
    let tables = tables(owner, from).await;
    let head = bounds(owner).await.unwrap().head;
    let begun = Instant::now();
    for table in tables {
        let sql = format!("INSERT INTO {to}.{table} SELECT * FROM {from}.{table}");
        sqlx::query(AssertSqlSafe(sql))
            .execute(owner)
            .await
            .unwrap();
    }
    head.0 as f64 / begun.elapsed().as_secs_f64()
}

async fn tables(owner: &PgPool, schema: &str) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r' ORDER BY 1",
    )
    .bind(schema)
    .fetch_all(owner)
    .await
    .unwrap()
}

/// What the feed takes on disk, with its indexes.
async fn tell_storage(owner: &PgPool, schema: &str, users: u32) {
    let mut all = 0;
    for table in tables(owner, schema).await {
        let name = format!("{schema}.{table}");
        let sql = format!("SELECT count(*), pg_total_relation_size('{name}') FROM {name}");
        let (rows, bytes): (i64, i64) = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_one(owner)
            .await
            .unwrap();
        all += bytes;
        if rows > 0 {
            println!(
                "feed: {table:<10} {rows:>10} rows, {:>5.0} bytes each",
                bytes as f64 / rows as f64
            );
        }
    }
    let each = all as f64 / f64::from(users);
    println!("feed: {:.2} GB for a million such users", each * 1e6 / 1e9);
}

/// A projector process that takes in everything, as it does after a first start: how fast, and its memory.
async fn projector_alone(world: &World) {
    let name = &registry::live(&world.owner).await.unwrap()["feed"];
    let environment = [
        ("DATABASE_URL", world.database.url().expose()),
        ("MASTER_KEY", &*BASE64.encode(MASTER)),
    ];
    let head = bounds(&world.owner).await.unwrap().head;
    let begun = Instant::now();
    let projector = Child::start(
        env!("CARGO_BIN_EXE_cinelog"),
        &["projectors", "feed"],
        &environment,
    );
    until_true(LIMIT, "the projector is level", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let lag = subscription::lag(&mut world.owner.acquire().await.unwrap())
            .await
            .unwrap();
        lag.iter()
            .any(|one| one.subscription == *name && one.lanes_behind == 0)
    })
    .await;
    let rate = head.0 as f64 / begun.elapsed().as_secs_f64();
    let peak = memory::peak_mb(projector.id());
    println!(
        "`cinelog projectors feed`, from nothing: {rate:.0} facts a second, {peak} MB resident at the most"
    );
}
