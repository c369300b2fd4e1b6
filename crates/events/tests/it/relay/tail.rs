//! Reading the topic by lanes.

use std::collections::BTreeMap;
use std::time::Duration;

use events::envelope::Sealed;
use events::fact::Fact;
use events::id::{Lane, Position};
use events::log::{Kafka, KafkaTail, TailError};
use events::source::{LaneStart, Source};
use events::store::Wake;
use service::db::Role;
use testing::wait;
use uuid::Uuid;

use super::{LIMIT, Running, all, append, relayed_exactly, topics};
use crate::support::World;

fn from_start() -> Vec<LaneStart> {
    Lane::all()
        .map(|lane| LaneStart {
            lane,
            after: Position::START,
            offset: 0,
        })
        .collect()
}

async fn open(world: &World, kafka: &Kafka, starts: Vec<LaneStart>) -> KafkaTail {
    let mut tail = KafkaTail::new(kafka, "test", world.log.id()).unwrap();
    tail.assign(starts).await.unwrap();
    tail
}

/// Reads `count` facts, in batches of `max`.
async fn read(tail: &mut KafkaTail, max: usize, count: usize) -> Vec<(Sealed, i64)> {
    let mut seen = vec![];
    wait::until_true(LIMIT, "so many facts are read", async || {
        let batch = tail
            .next_batch(max, Duration::from_millis(500))
            .await
            .unwrap();
        assert!(batch.len() <= max);
        seen.extend(batch);
        seen.len() >= count
    })
    .await;
    seen
}

fn sorted(seen: &[(Sealed, i64)]) -> Vec<Sealed> {
    let mut facts: Vec<_> = seen.iter().map(|(fact, _)| fact.clone()).collect();
    facts.sort_by_key(|fact| fact.position);
    facts
}

/// Where a subscription that has taken in `seen` goes on.
fn after(seen: &[(Sealed, i64)]) -> Vec<LaneStart> {
    let known: BTreeMap<Lane, (Position, i64)> = seen
        .iter()
        .map(|(fact, offset)| (fact.lane, (fact.position, *offset)))
        .collect();
    let start = |lane| known.get(&lane).copied().unwrap_or_default();
    Lane::all()
        .map(|lane| LaneStart {
            lane,
            after: start(lane).0,
            offset: start(lane).1,
        })
        .collect()
}

async fn relayed(facts: usize) -> (World, Kafka, Running) {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "facts", facts).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    (world, kafka, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_reads_everything_and_goes_on_where_it_was() {
    let (world, kafka, relay) = relayed(1_500).await;
    let mut tail = open(&world, &kafka, from_start()).await;
    let first = read(&mut tail, 100, 1_500).await;
    assert_eq!(
        sorted(&first),
        all(&world).await,
        "every field came through"
    );
    let mut last: BTreeMap<Lane, Position> = BTreeMap::new();
    for (fact, _) in &first {
        assert!(
            last.insert(fact.lane, fact.position) < Some(fact.position),
            "a lane is in order"
        );
    }
    // The same tail sees what comes; a new one goes on at the hints, and sees only that too.
    append(&world, "news", 200).await;
    let live = read(&mut tail, 1_000, 200).await;
    assert_eq!(sorted(&live), all(&world).await[1_500..]);
    let mut resumed = open(&world, &kafka, after(&first)).await;
    assert_eq!(sorted(&read(&mut resumed, 1_000, 200).await), sorted(&live));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_that_are_wrong_lose_and_double_nothing() {
    let (world, kafka, relay) = relayed(900).await;
    let facts = all(&world).await;
    let middle = Position(450);
    for offset in [0, 1, 5, 12, 1_000_000, -1] {
        let starts = Lane::all().map(|lane| LaneStart {
            lane,
            after: middle,
            offset,
        });
        let mut tail = open(&world, &kafka, starts.collect()).await;
        let seen = read(&mut tail, 1_000, 450).await;
        assert_eq!(sorted(&seen), facts[450..], "hint {offset}");
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_reads_only_the_lanes_it_is_given() {
    let (world, kafka, relay) = relayed(600).await;
    let few: Vec<_> = from_start().into_iter().take(9).collect();
    let (mine, others): (Vec<Sealed>, Vec<Sealed>) = all(&world)
        .await
        .into_iter()
        .partition(|fact| fact.lane.number() < 9);
    let mut tail = open(&world, &kafka, few).await;
    assert_eq!(sorted(&read(&mut tail, 1_000, mine.len()).await), mine);
    tail.assign(from_start().into_iter().skip(9).collect())
        .await
        .unwrap();
    assert_eq!(sorted(&read(&mut tail, 1_000, others.len()).await), others);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_logs_facts_are_refused() {
    let (_world, kafka, relay) = relayed(10).await;
    let mut tail = KafkaTail::new(&kafka, "test", Uuid::nil()).unwrap();
    tail.assign(from_start()).await.unwrap();
    let refused = wait::until(LIMIT, "a fact arrives", async || {
        tail.next_batch(10, Duration::from_millis(500)).await.err()
    })
    .await;
    assert!(matches!(refused, TailError::ForeignLog { .. }), "{refused}");
    relay.stop().await;
}

/// The facts of a source, decoded.
async fn facts_of(world: &World, mut source: Source, count: usize) -> Vec<Fact> {
    source.assign(from_start()).await.unwrap();
    let mut seen = vec![];
    wait::until_true(LIMIT, "so many facts are read", async || {
        seen.extend(source.next(10, Duration::from_millis(500)).await.unwrap());
        seen.len() >= count
    })
    .await;
    let stored = sorted(&seen);
    let read = world.log.open_facts(stored).await.unwrap();
    read.into_iter().map(|recorded| recorded.fact).collect()
}

#[tokio::test]
async fn a_fact_of_an_older_version_reads_as_the_newest_from_every_source() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "facts", 2).await;
    // As a release of that time would have left it, past every guard.
    let mut owner = world.owner().await.acquire().await.unwrap();
    for sql in [
        "SET session_replication_role = replica",
        r#"UPDATE log.events SET type = 'asset.probed', schema_version = 1, payload = '{
            "asset": "0192f0c1-0000-7000-8000-000000000001", "job": "0192f0c1-0000-7000-8000-000000000002",
            "media": {"container": "mov,mp4", "frame_rate": 29.97}}' WHERE position = 1"#,
        "RESET session_replication_role",
    ] {
        sqlx::query(sql).execute(&mut *owner).await.unwrap();
    }
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;

    let pool = world.database.pool(Role::Api).await;
    let wake = Wake::start(pool.clone(), &world.shutdown);
    for kafka in [None, Some(&kafka)] {
        let source = Source::open(kafka, &pool, &wake, world.log.id(), "test").unwrap();
        let facts = facts_of(&world, source, 2).await;
        let Fact::AssetProbed(probed) = &facts[0] else {
            panic!("another fact: {facts:?}")
        };
        let rate = probed.media.frame_rate.unwrap();
        assert_eq!((rate.num, rate.den.get()), (30_000, 1001));
        assert!(matches!(facts[1], Fact::ReactionAdded(_)), "{facts:?}");
    }
    // What was stored is still what was stored.
    let stored = world.log.read(Position::START, 1).await.unwrap();
    assert_eq!(stored[0].schema_version, 1);
    assert!(stored[0].payload.contains("29.97"));
    relay.stop().await;
}
