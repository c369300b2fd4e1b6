//! The broker goes away and comes back.

use std::path::Path;
use std::time::Duration;

use events::id::{Lane, Position};
use events::log::{Config, Kafka, KafkaTail, RelayError, TopicError};
use events::source::LaneStart;
use testing::kafka::{self, Broker};
use testing::wait;

use super::{LIMIT, Running, all, append, topics_at};
use crate::support::World;

/// Reads the whole topic until it holds `count` facts; returns their positions in order.
async fn positions(kafka: &Kafka, world: &World, count: usize) -> Vec<i64> {
    let mut tail = KafkaTail::new(kafka, "test", world.log.id()).unwrap();
    let starts = Lane::all().map(|lane| LaneStart {
        lane,
        after: Position::START,
        offset: 0,
    });
    let starts: Vec<_> = starts.collect();
    wait::until_true(LIMIT, "the broker answers", async || {
        tail.assign(starts.clone()).await.is_ok()
    })
    .await;
    let mut seen = vec![];
    wait::until_true(LIMIT, "every fact is in the topic", async || {
        let batch = tail
            .next_batch(10_000, Duration::from_millis(100))
            .await
            .unwrap();
        seen.extend(batch.iter().map(|(fact, _)| fact.position.0));
        seen.len() >= count
    })
    .await;
    seen.sort_unstable();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_for_a_while_costs_nothing_but_time() {
    let world = World::new().await;
    let broker = Broker::new();
    let kafka = topics_at(broker.brokers(), kafka::unique_prefix());
    append(&world, "before", 300).await;
    let relay = Running::start(&world, &kafka).await;
    assert_eq!(positions(&kafka, &world, 300).await.len(), 300);
    broker.kill();
    append(&world, "while it is away", 300).await;
    broker.start();
    append(&world, "after", 100).await;
    let count = all(&world).await.len();
    let wanted: Vec<i64> = (1..=700).collect();
    assert_eq!(positions(&kafka, &world, count).await, wanted);
    relay.stop().await;
}

/// Topics at the broker's other door, as a client finds them that trusts `authority` and says `password`.
fn behind_tls(broker: &Broker, authority: &Path, password: &str) -> Kafka {
    let settings = [
        "security.protocol=SASL_SSL",
        "sasl.mechanisms=PLAIN",
        "sasl.username=cinelog",
        &format!("sasl.password={password}"),
        &format!("ssl.ca.location={}", authority.display()),
    ];
    let config = Config {
        kafka_brokers: Some(broker.tls()),
        topic_prefix: kafka::unique_prefix(),
        kafka_replication: 1,
        kafka_config: settings.iter().map(|text| text.parse().unwrap()).collect(),
    };
    Kafka::from_config(&config).unwrap()
}

async fn refused(world: &World, kafka: &Kafka) -> TopicError {
    match Running::start(world, kafka).await.end().await {
        Err(RelayError::Topic(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_a_password_are_settings_and_a_wrong_one_is_told() {
    let (world, broker) = (World::new().await, Broker::with_tls());
    append(&world, "facts", 30).await;
    let (right, password) = (broker.authority(), Broker::PASSWORD);
    let kafka = behind_tls(&broker, &right, password);
    let relay = Running::start(&world, &kafka).await;
    assert_eq!(positions(&kafka, &world, 30).await.len(), 30);
    relay.stop().await;

    let told = refused(&world, &behind_tls(&broker, &right, "wrong")).await;
    assert!(matches!(told, TopicError::Unauthenticated { .. }), "{told}");
    assert!(told.to_string().contains("sasl.password"), "{told}");
    // Another broker's authority.
    let stranger = Broker::with_tls();
    let told = refused(
        &world,
        &behind_tls(&broker, &stranger.authority(), password),
    )
    .await;
    assert!(matches!(told, TopicError::Untrusted { .. }), "{told}");
    assert!(told.to_string().contains("ssl.ca.location"), "{told}");
}
