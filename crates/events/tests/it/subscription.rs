//! Exactly once, whoever has the lanes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use events::envelope::Recorded;
use events::fact::Fact;
use events::log::Kafka;
use events::source::Source;
use events::store::{Reader, Wake};
use events::subscription::{Options, Runner, Subscriber, lag, reached};
use futures::FutureExt;
use futures::future::BoxFuture;
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgConnection;
use testing::wait;

use crate::support::{World, post, user};

/// Writes every reaction down; a fact applied twice violates the key.
struct Ledger;

impl Subscriber for Ledger {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn handles(&self, fact: &Fact) -> bool {
        matches!(fact, Fact::ReactionAdded(_))
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        let positions: Vec<i64> = batch.iter().map(|fact| fact.position.0).collect();
        async move {
            sqlx::query("INSERT INTO public.ledger SELECT * FROM unnest($1::bigint[])")
                .bind(positions)
                .execute(tx)
                .await?;
            Ok(())
        }
        .boxed()
    }
}

async fn run(world: &World, batch: usize) -> Shutdown {
    run_on(world, None, batch).await
}

/// Runs the ledger over a topic; none: over the log in Postgres.
pub(crate) async fn run_on(world: &World, kafka: Option<&Kafka>, batch: usize) -> Shutdown {
    let pool = world.database.pool(Role::Projector).await;
    run_from(world, kafka, Reader::from(&pool), batch).await
}

/// Runs the ledger over a topic; none: over what `reader` gives.
pub(crate) async fn run_from(
    world: &World,
    kafka: Option<&Kafka>,
    reader: Reader,
    batch: usize,
) -> Shutdown {
    start(world, Arc::new(Ledger), kafka, reader, batch).await
}

/// Runs a subscriber over a topic; none: over what `reader` gives.
pub(crate) async fn start(
    world: &World,
    subscriber: Arc<dyn Subscriber>,
    kafka: Option<&Kafka>,
    reader: Reader,
    batch: usize,
) -> Shutdown {
    let shutdown = world.shutdown.child();
    let pool = world.database.pool(Role::Projector).await;
    let wake = Wake::start(pool.clone(), &shutdown);
    let source = Source::open(kafka, reader, &wake, world.log.id(), subscriber.name()).unwrap();
    let options = Options {
        batch,
        ..Options::default()
    };
    let runner = Runner::new(subscriber, pool, source, world.keys.clone(), options);
    let end = shutdown.clone();
    shutdown.spawn(async move { runner.run(&end).await });
    shutdown
}

pub(crate) async fn world() -> World {
    let world = World::new().await;
    let owner = world.owner().await;
    sqlx::raw_sql("CREATE TABLE public.ledger (position bigint PRIMARY KEY); GRANT ALL ON public.ledger TO cinelog_projector")
        .execute(&owner)
        .await
        .unwrap();
    world
}

pub(crate) async fn applied(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM public.ledger")
        .fetch_one(&world.owner().await)
        .await
        .unwrap()
}

async fn held(world: &World) -> Vec<i64> {
    sqlx::query_scalar(
        "SELECT count(*) FROM subscription.leases l
         JOIN subscription.members m ON m.subscription = l.subscription AND m.member = l.owner AND m.until > now()
         GROUP BY owner ORDER BY 1",
    )
    .fetch_all(&world.owner().await)
    .await
    .unwrap()
}

async fn react(world: &World, from: u128, to: u128) {
    let keys: Vec<_> = (from..to).map(|n| (n.to_string(), n)).collect();
    let all = keys
        .iter()
        .map(|(key, n)| world.react(key, user(*n), post(*n), "like"));
    for outcome in futures::future::join_all(all).await {
        outcome.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_are_shared_taken_over_and_every_fact_applied_once() {
    let world = world().await;
    let limit = Duration::from_secs(30);
    react(&world, 0, 150).await;
    let one = run(&world, 10).await;
    wait::until_true(limit, "the first facts", async || {
        applied(&world).await == 150
    })
    .await;

    let two = run(&world, 10).await;
    wait::until_true(limit, "fair shares", async || {
        held(&world).await == [32, 32]
    })
    .await;
    react(&world, 150, 300).await;
    wait::until_true(limit, "facts shared by two", async || {
        applied(&world).await == 300
    })
    .await;

    assert!(one.finish(limit).await);
    react(&world, 300, 400).await;
    wait::until_true(limit, "facts after the takeover", async || {
        applied(&world).await == 400
    })
    .await;
    wait::until_true(limit, "all lanes at one", async || {
        held(&world).await == [64]
    })
    .await;
    assert!(two.finish(limit).await);
    assert_eq!(
        held(&world).await,
        Vec::<i64>::new(),
        "a drain gives the lanes back"
    );
}

/// One beat of member `n`; the lanes it has then.
async fn beat(connection: &mut PgConnection, n: u128, seconds: f64) -> Vec<i16> {
    sqlx::query_scalar("SELECT subscription.hold('beats', $1, $2 * interval '1 s', false)")
        .bind(uuid::Uuid::from_u128(n))
        .bind(seconds)
        .fetch_one(connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_beat_that_changes_nothing_writes_one_row() {
    let world = World::new().await;
    let mut owner = world.owner().await.acquire().await.unwrap();
    sqlx::query(
        "INSERT INTO subscription.leases (subscription, lane) SELECT 'beats', generate_series(0, 63)",
    )
    .execute(&mut *owner)
    .await
    .unwrap();
    assert_eq!(beat(&mut owner, 1, 60.0).await.len(), 64);
    assert_eq!(beat(&mut owner, 2, 60.0).await.len(), 0, "none is free yet");
    assert_eq!(
        beat(&mut owner, 1, 60.0).await.len(),
        32,
        "half is given back"
    );
    assert_eq!(beat(&mut owner, 2, 60.0).await.len(), 32);
    let rows = "SELECT string_agg(ctid::text, ' ' ORDER BY lane) FROM subscription.leases";
    let before: String = sqlx::query_scalar(rows)
        .fetch_one(&mut *owner)
        .await
        .unwrap();
    let until = "SELECT array_agg(until ORDER BY member) FROM subscription.members";
    let lived: Vec<chrono::DateTime<chrono::Utc>> = sqlx::query_scalar(until)
        .fetch_one(&mut *owner)
        .await
        .unwrap();
    assert_eq!(beat(&mut owner, 1, 60.0).await.len(), 32);
    let after: String = sqlx::query_scalar(rows)
        .fetch_one(&mut *owner)
        .await
        .unwrap();
    let lives: Vec<chrono::DateTime<chrono::Utc>> = sqlx::query_scalar(until)
        .fetch_one(&mut *owner)
        .await
        .unwrap();
    assert_eq!(before, after, "no lease was written");
    assert!(
        lives[0] > lived[0] && lives[1] == lived[1],
        "one member was"
    );
}

#[tokio::test]
async fn the_lanes_of_a_member_that_does_not_live_are_taken_and_it_begins_anew() {
    let world = World::new().await;
    let mut owner = world.owner().await.acquire().await.unwrap();
    sqlx::query(
        "INSERT INTO subscription.leases (subscription, lane) SELECT 'beats', generate_series(0, 63)",
    )
    .execute(&mut *owner)
    .await
    .unwrap();
    assert_eq!(beat(&mut owner, 1, 60.0).await.len(), 64);
    sqlx::query("UPDATE subscription.members SET until = '-infinity'")
        .execute(&mut *owner)
        .await
        .unwrap();
    assert_eq!(beat(&mut owner, 2, 60.0).await.len(), 64, "all at once");
    assert_eq!(beat(&mut owner, 1, 60.0).await.len(), 0, "it lost them");
    assert_eq!(beat(&mut owner, 2, 60.0).await.len(), 32);
    assert_eq!(beat(&mut owner, 1, 60.0).await.len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_checkpoint_stops_a_reader_that_believes_the_lane_is_its_own() {
    let world = world().await;
    let limit = Duration::from_secs(30);
    let runner = run(&world, 1000).await;
    react(&world, 0, 20).await;
    wait::until_true(limit, "the first facts", async || {
        applied(&world).await == 20
    })
    .await;
    // Someone else applied the facts up to here, unseen by the runner: it must not apply them again.
    let mut owner = world.owner().await.acquire().await.unwrap();
    sqlx::query("UPDATE subscription.checkpoints SET position = 1000000")
        .execute(&mut *owner)
        .await
        .unwrap();
    react(&world, 20, 40).await;
    sqlx::query("UPDATE subscription.checkpoints SET position = 40")
        .execute(&mut *owner)
        .await
        .unwrap();
    react(&world, 40, 50).await;
    wait::until_true(limit, "the facts after", async || {
        applied(&world).await >= 30
    })
    .await;
    let between: i64 =
        sqlx::query_scalar("SELECT count(*) FROM public.ledger WHERE position BETWEEN 21 AND 40")
            .fetch_one(&mut *owner)
            .await
            .unwrap();
    assert_eq!(between, 0);
    assert!(runner.finish(limit).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_am_i_counts_facts_not_checkpoints() {
    let world = world().await;
    let limit = Duration::from_secs(30);
    let runner = run(&world, 1000).await;
    react(&world, 0, 5).await;
    wait::until_true(limit, "the facts", async || applied(&world).await == 5).await;
    assert!(runner.finish(limit).await);
    let mut owner = world.owner().await.acquire().await.unwrap();
    let first = world
        .log
        .read(events::id::Position::START, 1)
        .await
        .unwrap()
        .remove(0);
    let head = events::id::Position(5);
    assert!(
        reached(&mut owner, "ledger", &BTreeMap::from([(first.lane, head)]))
            .await
            .unwrap(),
        "no news in the lane: it is reached"
    );
    let idle = &lag(&mut owner).await.unwrap()[0];
    assert_eq!((idle.lanes_behind, idle.behind), (0, Duration::ZERO));

    react(&world, 5, 6).await;
    let last = world.log.read(head, 1).await.unwrap().remove(0);
    assert!(
        !reached(
            &mut owner,
            "ledger",
            &BTreeMap::from([(last.lane, last.position)])
        )
        .await
        .unwrap()
    );
    assert_eq!(lag(&mut owner).await.unwrap()[0].lanes_behind, 1);
}
