//! How long a post takes from the call of `append` until a reader finds it in the feed, at a steady 500 posts a second of 64
//! authors whom the reader follows: read from the log in Postgres, and by way of the relay and Kafka. The reader asks for the
//! feed about every millisecond and takes what is new.
//!
//! The ceilings are a bare row that is inserted, notified of and read by whoever listens; and a bare transactional producer,
//! with whatever is due in one transaction over 64 partitions, and a consumer. Both at the same pace, in turns with ours.
//!
//! `BENCH_SECONDS` (10) is the length of a round.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/running.rs"]
mod running;
mod support;
#[path = "support/watch.rs"]
mod watch;

use std::time::Duration;

use events::log::{Config as KafkaConfig, Kafka, Relay, ensure};
use events::store::{Log, Wake};
use projectors::config::Config;
use projectors::registry;
use service::clock::Clock;
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use testing::bare;
use testing::bench::{Row, publish};
use testing::db::Database;
use testing::kafka;
use tokio::task::JoinSet;
use tokio::time::Instant;

use percentile::percentile;
use support::{World, keys, number};
use watch::Watch;

const APART: Duration = Duration::from_millis(2);
const ROUNDS: usize = 3;

/// A place whose feed is kept true in one of two ways.
struct Side {
    watch: Watch,
    world: World,
}

#[tokio::main]
async fn main() {
    let posts = number("BENCH_SECONDS", 10) * 500;
    let shutdown = Shutdown::new();
    let topics = topics().await;
    let (postgres, by_kafka) = (
        side(None, &shutdown).await,
        side(Some(&topics), &shutdown).await,
    );
    bare_table(&postgres.world.owner).await;
    // Not counted: plans are made, and the broker's machine code too.
    for side in [&postgres, &by_kafka] {
        side.watch.watch(posts.min(1_000), APART).await;
    }
    let mut waits: [Vec<Vec<Duration>>; 4] = Default::default();
    for _ in 0..ROUNDS {
        waits[0].push(postgres.watch.watch(posts, APART).await);
        waits[1].push(notified(&postgres.world.owner, posts).await);
        waits[2].push(by_kafka.watch.watch(posts, APART).await);
        waits[3].push(consumed(posts).await);
    }
    shutdown.finish(Duration::from_secs(10)).await;
    let [ours, notified, ours_by_kafka, consumed] = &waits;
    let mut rows = vec![];
    for (source, ours, ceiling, bare) in [
        ("postgres", ours, "bare commit, notify and read", notified),
        (
            "kafka",
            ours_by_kafka,
            "bare transactional produce and consume",
            consumed,
        ),
    ] {
        for hundredths in [50, 99] {
            let of = |waits: &[Vec<Duration>]| {
                waits
                    .iter()
                    .map(|waits| percentile(waits, hundredths))
                    .collect()
            };
            rows.push(Row {
                case: format!("p{hundredths} {source}"),
                unit: "ms",
                ours: of(ours),
                peer: ("none", None),
                ceiling: (ceiling, Some(of(bare))),
            });
        }
    }
    println!("{}", publish("visible", &rows).unwrap());
}

async fn side(kafka: Option<&Kafka>, shutdown: &Shutdown) -> Side {
    let world = World::on(Database::migrated().await).await;
    registry::prepare(&world.owner).await.unwrap();
    let api = world.database.pool(Role::Api).await;
    let log = Log::open(api.clone(), keys(), shutdown).await.unwrap();
    if let Some(kafka) = kafka {
        let wake = Wake::start(api.clone(), shutdown);
        let relay = Relay::new(api.clone(), wake, kafka.clone(), Clock::System);
        let until = shutdown.clone();
        shutdown.spawn(async move { relay.run(&until).await.unwrap() });
    }
    running::keep(&world, &Config::default(), kafka, shutdown).await;
    // What looks has connections of its own.
    let watch = Watch::new(&log, &world.database.pool(Role::Api).await).await;
    Side { watch, world }
}

async fn topics() -> Kafka {
    let config = KafkaConfig {
        kafka_brokers: Some(kafka::brokers()),
        topic_prefix: kafka::unique_prefix(),
        kafka_replication: 1,
        kafka_config: vec![],
    };
    let kafka = Kafka::from_config(&config).unwrap();
    ensure(&kafka).await.unwrap();
    kafka
}

async fn bare_table(owner: &PgPool) {
    sqlx::query("CREATE TABLE public.bare (n integer PRIMARY KEY, payload text NOT NULL)")
        .execute(owner)
        .await
        .unwrap();
}

/// Rows inserted at the pace, and read once they are notified of.
async fn notified(owner: &PgPool, rows: u32) -> Vec<Duration> {
    sqlx::query("TRUNCATE public.bare")
        .execute(owner)
        .await
        .unwrap();
    let mut listener = PgListener::connect_with(owner).await.unwrap();
    listener.listen("bare").await.unwrap();
    let begun = Instant::now() + APART * 10;
    let (pool, shutdown) = (owner.clone(), Shutdown::new());
    shutdown.spawn(async move {
        let mut running = JoinSet::new();
        for n in 0..rows {
            tokio::time::sleep_until(begun + APART * n).await;
            let pool = pool.clone();
            running.spawn(async move {
                let insert = "WITH i AS (INSERT INTO public.bare VALUES ($1, $2)) SELECT pg_notify('bare', $1::text)";
                let insert = sqlx::query(insert).bind(n.cast_signed()).bind("x".repeat(300));
                insert.execute(&pool).await.unwrap();
            });
        }
        running.join_all().await;
    });
    let mut waits = vec![];
    while waits.len() < rows as usize {
        let told = listener.recv().await.unwrap();
        let n: u32 = told.payload().parse().unwrap();
        let payload: String = sqlx::query_scalar("SELECT payload FROM public.bare WHERE n = $1")
            .bind(n.cast_signed())
            .fetch_one(owner)
            .await
            .unwrap();
        assert_eq!(payload.len(), 300);
        waits.push((begun + APART * n).elapsed());
    }
    shutdown.finish(Duration::from_secs(10)).await;
    waits
}

async fn consumed(records: u32) -> Vec<Duration> {
    let topic = topics().await.facts_topic();
    let bare = move || bare::produce_and_consume(&topic, records, APART);
    tokio::task::spawn_blocking(bare).await.unwrap()
}
