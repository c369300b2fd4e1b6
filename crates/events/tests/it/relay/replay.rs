//! Facts once more, into a topic of the reader's choice.

use std::collections::BTreeMap;

use events::id::Position;
use events::log::{Replay, ReplayError, TopicError, ensure};
use testing::kafka;

use super::{all, append, topics};
use crate::support::World;

/// The topic's records by position: each once, in its lane, in order.
async fn positions(topic: &str) -> Vec<i64> {
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    let mut found = vec![];
    for record in kafka::read_committed(topic).await {
        let position = record.header("ce_position").unwrap().parse().unwrap();
        let before = last.insert(record.partition, position);
        assert!(before < Some(position), "{position} after {before:?}");
        found.push(position);
    }
    found.sort_unstable();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_into_a_topic_equals_the_log_and_can_be_gone_on_with() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "facts", 2_000).await;
    let topic = format!("{}.again", kafka.facts_topic());
    let facts = all(&world).await;
    let replay = Replay::open(&kafka, &topic, world.log.id()).await.unwrap();
    replay.send(&facts[..1_234]).await.unwrap();
    drop(replay);
    let replay = Replay::open(&kafka, &topic, world.log.id()).await.unwrap();
    let rest = world.log.read(Position(1_234), 10_000).await.unwrap();
    replay.send(&rest).await.unwrap();
    assert_eq!(positions(&topic).await, (1..=2_000).collect::<Vec<_>>());
    let records = kafka::read_committed(&topic).await;
    let by_id: BTreeMap<_, _> = facts
        .iter()
        .map(|fact| (fact.event_id.to_string(), fact))
        .collect();
    for record in &records {
        let fact = by_id[record.header("ce_id").unwrap()];
        assert_eq!(record.partition, i32::from(fact.lane.number()));
        assert_eq!(record.key.as_deref(), Some(fact.subject.as_bytes()));
        assert_eq!(record.payload, fact.payload.as_bytes());
        assert_eq!(
            record.header("ce_logid"),
            Some(&*world.log.id().to_string())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_stays_out_of_every_relays_topics_and_of_those_of_another_shape() {
    let (world, kafka, others) = (World::new().await, topics(), topics());
    ensure(&others).await.unwrap();
    for topic in [
        kafka.facts_topic(),
        kafka.relay_topic(),
        others.facts_topic(),
    ] {
        let opened = Replay::open(&kafka, &topic, world.log.id()).await;
        assert!(
            matches!(opened, Err(ReplayError::RelaysOwn(_))),
            "{topic} was opened"
        );
    }
    let opened = Replay::open(&kafka, &others.relay_topic(), world.log.id()).await;
    assert!(matches!(
        opened,
        Err(ReplayError::Topic(TopicError::Partitions { found: 1, .. }))
    ));
}
