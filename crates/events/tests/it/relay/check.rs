//! What the relay refuses to start with.

use events::id::{EventId, Position};
use events::log::{Kafka, Refusal, RelayError, TopicError, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::Producer;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use testing::kafka;
use uuid::Uuid;

use super::{LIMIT, Running, all, append, put, relayed_exactly, rival, topics};
use crate::support::World;

/// Relays ten facts, ends, and returns the last one's lane and id.
async fn ten_relayed(world: &World, kafka: &Kafka) -> (i16, EventId) {
    append(world, "ten", 10).await;
    let relay = Running::start(world, kafka).await;
    relayed_exactly(world, kafka).await;
    relay.stop().await;
    let last = all(world).await.pop().unwrap();
    (last.lane.number(), last.event_id)
}

/// Commits one record, as something that is not the relay could.
fn meddle(kafka: &Kafka, topic: &str, lane: i16, value: &str) {
    let producer = rival(kafka);
    producer.begin_transaction().unwrap();
    put(&producer, topic, lane.into(), value);
    producer.commit_transaction(LIMIT).unwrap();
}

fn marker(log: Uuid, position: i64, event: EventId, lane: i16) -> String {
    serde_json::json!({"log_id": log, "position": position, "event_id": event, "lane": lane})
        .to_string()
}

pub(super) async fn refusal(world: &World, kafka: &Kafka) -> Refusal {
    match Running::start(world, kafka).await.end().await {
        Err(RelayError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", kafka::brokers())
        .create()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_logs_topic_is_refused() {
    let (one, other, kafka) = (World::new().await, World::new().await, topics());
    // A copy of a database keeps the log's id; two installations have two.
    sqlx::query("UPDATE log.log SET log_id = gen_random_uuid()")
        .execute(&other.owner().await)
        .await
        .unwrap();
    ten_relayed(&one, &kafka).await;
    let refusal = refusal(&other, &kafka).await;
    assert!(
        matches!(refusal, Refusal::ForeignLog { found, .. } if found == one.log.id()),
        "{refusal}"
    );
    relayed_exactly(&one, &kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_a_marker_are_refused() {
    let (world, kafka) = (World::new().await, topics());
    ensure(&kafka).await.unwrap();
    meddle(&kafka, &kafka.facts_topic(), 17, "{}");
    let refusal = refusal(&world, &kafka).await;
    assert!(
        matches!(refusal, Refusal::NoMarker { lane } if lane.number() == 17),
        "{refusal}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_first_transaction_is_not_mistaken_for_records() {
    let (world, kafka) = (World::new().await, topics());
    ensure(&kafka).await.unwrap();
    let producer = rival(&kafka);
    producer.begin_transaction().unwrap();
    put(&producer, &kafka.facts_topic(), 17, "{}");
    producer.flush(LIMIT).unwrap();
    producer.abort_transaction(LIMIT).unwrap();
    ten_relayed(&world, &kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_refused_and_so_are_two_histories() {
    let (world, kafka) = (World::new().await, topics());
    let (lane, event) = ten_relayed(&world, &kafka).await;
    let id = world.log.id();
    meddle(
        &kafka,
        &kafka.relay_topic(),
        0,
        &marker(id, 11, event, lane),
    );
    assert_eq!(
        refusal(&world, &kafka).await,
        Refusal::PostgresBehind {
            position: Position(11)
        }
    );
    let other = EventId(Uuid::nil());
    meddle(
        &kafka,
        &kafka.relay_topic(),
        0,
        &marker(id, 10, other, lane),
    );
    let histories = Refusal::TwoHistories {
        position: Position(10),
        postgres: event,
        kafka: other,
    };
    assert_eq!(refusal(&world, &kafka).await, histories);
    meddle(&kafka, &kafka.relay_topic(), 0, "{}");
    assert_eq!(refusal(&world, &kafka).await, Refusal::UnreadableMarker);
    // Put right again, it goes on where it was.
    meddle(
        &kafka,
        &kafka.relay_topic(),
        0,
        &marker(id, 10, event, lane),
    );
    append(&world, "after", 5).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_with_a_strangers_record_at_its_end_is_refused() {
    let (world, kafka) = (World::new().await, topics());
    let (lane, _) = ten_relayed(&world, &kafka).await;
    meddle(&kafka, &kafka.facts_topic(), lane, "{}");
    let refusal = refusal(&world, &kafka).await;
    assert!(
        matches!(
            refusal,
            Refusal::OtherTail {
                position: Position(10),
                ..
            }
        ),
        "{refusal}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_lost_its_beginning_is_refused() {
    let (world, kafka) = (World::new().await, topics());
    let (lane, _) = ten_relayed(&world, &kafka).await;
    let mut before = TopicPartitionList::new();
    before
        .add_partition_offset(&kafka.facts_topic(), lane.into(), Offset::Offset(1))
        .unwrap();
    admin()
        .delete_records(&before, &AdminOptions::new())
        .await
        .unwrap();
    let refusal = refusal(&world, &kafka).await;
    assert!(
        matches!(refusal, Refusal::Truncated { offset: 1, .. }),
        "{refusal}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_other_partitions_is_refused() {
    let (world, kafka) = (World::new().await, topics());
    let topic = kafka.facts_topic();
    let wrong = NewTopic::new(&topic, 3, TopicReplication::Fixed(1));
    let made = admin()
        .create_topics([&wrong], &AdminOptions::new())
        .await
        .unwrap();
    assert_eq!(made, [Ok(topic)]);
    let ended = Running::start(&world, &kafka).await.end().await;
    assert!(
        matches!(
            ended,
            Err(RelayError::Topic(TopicError::Partitions {
                found: 3,
                wanted: 64,
                ..
            }))
        ),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_would_lose_facts_is_refused() {
    for (name, value) in [
        ("cleanup.policy", "compact"),
        ("retention.ms", "604800000"),
        ("max.message.bytes", "1048576"),
        ("unclean.leader.election.enable", "true"),
    ] {
        let (world, kafka) = (World::new().await, topics());
        let topic = kafka.facts_topic();
        let settings = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("max.message.bytes", "4194304"),
            ("message.timestamp.after.max.ms", "315360000000"),
            ("unclean.leader.election.enable", "false"),
        ];
        let wrong = NewTopic::new(&topic, 64, TopicReplication::Fixed(1));
        let wrong = settings.iter().fold(wrong, |topic, (other, good)| {
            topic.set(other, if *other == name { value } else { good })
        });
        let made = admin().create_topics([&wrong], &AdminOptions::new()).await;
        assert_eq!(made.unwrap(), [Ok(topic.clone())]);
        let ended = Running::start(&world, &kafka).await.end().await;
        let Err(RelayError::Topic(TopicError::Setting {
            name: told, found, ..
        })) = &ended
        else {
            panic!("{name}: {ended:?}");
        };
        assert_eq!((*told, found.as_str()), (name, value));
    }
}
