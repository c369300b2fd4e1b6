//! The relay, against real Postgres and real Kafka.

mod archive;
mod broker;
mod check;
mod crash;
mod import;
mod replay;
mod restore;
mod tail;
mod verify;

use std::collections::BTreeMap;
use std::time::Duration;

use events::envelope::Sealed;
use events::fact::post::ReactionAdded;
use events::id::{Position, StreamKey};
use events::log::{Config, Kafka, Relay, RelayError, ensure};
use events::store::{Emit, Wake};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use service::clock::Clock;
use service::db::Role;
use service::shutdown::Shutdown;
use testing::{kafka, wait};
use tokio::task::JoinHandle;

use crate::support::{World, post, user};

/// How long a test waits for what it waits for.
const LIMIT: Duration = Duration::from_secs(90);

/// Topics that no other test uses.
fn topics() -> Kafka {
    topics_at(kafka::brokers(), kafka::unique_prefix())
}

fn topics_at(brokers: String, prefix: String) -> Kafka {
    let config = Config {
        kafka_brokers: Some(brokers),
        topic_prefix: prefix,
        kafka_replication: 1,
        kafka_config: vec![],
    };
    Kafka::from_config(&config).unwrap()
}

/// A relay at work in this process.
struct Running {
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), RelayError>>,
}

impl Running {
    async fn start(world: &World, kafka: &Kafka) -> Self {
        let shutdown = Shutdown::new();
        let pool = world.database.pool(Role::Api).await;
        let wake = Wake::start(pool.clone(), &shutdown);
        let relay = Relay::new(pool, wake, kafka.clone(), Clock::System);
        let until = shutdown.clone();
        let ended = shutdown.spawn(async move { relay.run(&until).await });
        Self { shutdown, ended }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.end().await.unwrap();
    }

    /// Waits until it ends by itself.
    async fn end(self) -> Result<(), RelayError> {
        tokio::time::timeout(LIMIT, self.ended)
            .await
            .expect("the relay ends")
            .unwrap()
    }
}

/// Appends `count` facts of `count` posts, three to each post.
pub(crate) async fn append(world: &World, name: &str, count: usize) {
    for chunk in 0..count.div_ceil(500) {
        let command = world.command(user(1), "append", &format!("{name}-{chunk}"));
        let facts = (chunk * 500..count.min((chunk + 1) * 500)).map(|n| {
            let post = post(u128::from_be_bytes(*uuid_of(name, n / 3).as_bytes()));
            let kind = format!("{name} {n}");
            let fact = ReactionAdded {
                post,
                comment: None,
                user: user(1),
                kind,
            };
            Emit {
                stream: StreamKey::post_reaction(post, user(1)),
                fact: fact.into(),
            }
        });
        let facts: Vec<_> = facts.collect();
        let streams: Vec<_> = facts.iter().map(|emit| emit.stream.clone()).collect();
        let accepted = world.log.execute(&command, &streams, |_| Ok(facts.clone()));
        accepted.await.unwrap();
    }
}

fn uuid_of(name: &str, n: usize) -> uuid::Uuid {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("{name} {n}").as_bytes())
}

/// Every fact of the log, as Postgres holds it.
pub(crate) async fn all(world: &World) -> Vec<Sealed> {
    world.log.read(Position::START, 1_000_000).await.unwrap()
}

/// Waits until the topic holds as many records as the log holds facts, then compares them one by one: each fact is
/// there once, in the partition of its lane, in the log's order, as it was.
pub(crate) async fn relayed_exactly(world: &World, kafka: &Kafka) {
    let facts = all(world).await;
    let topic = kafka.facts_topic();
    // The reader does not wait for a topic that is not there yet.
    ensure(kafka).await.unwrap();
    let records = wait::until(LIMIT, "everything is in the topic", async || {
        let records = kafka::read_committed(&topic).await;
        (records.len() >= facts.len()).then_some(records)
    })
    .await;
    let mut wanted: BTreeMap<i32, Vec<&Sealed>> = BTreeMap::new();
    for fact in &facts {
        wanted
            .entry(fact.lane.number().into())
            .or_default()
            .push(fact);
    }
    let wanted: Vec<_> = wanted.into_values().flatten().collect();
    assert_eq!(records.len(), wanted.len(), "no doubles");
    for (record, fact) in records.iter().zip(wanted) {
        assert_eq!(record.partition, i32::from(fact.lane.number()));
        assert_eq!(
            record.header("ce_position"),
            Some(&*fact.position.to_string())
        );
        assert_eq!(record.header("ce_id"), Some(&*fact.event_id.to_string()));
        assert_eq!(record.header("ce_type"), Some(&*fact.fact_type));
        assert_eq!(record.key.as_deref(), Some(fact.subject.as_bytes()));
        assert_eq!(record.payload, fact.payload.as_bytes());
    }
}

/// A producer with the relay's own transactional id: what an earlier relay would be.
fn rival(kafka: &Kafka) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka::brokers())
        .set("transactional.id", kafka.relay_topic())
        .create()
        .unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer
}

fn put(producer: &BaseProducer, topic: &str, partition: i32, value: &str) {
    let record = BaseRecord::to(topic)
        .partition(partition)
        .key("marker")
        .payload(value);
    producer.send(record).map_err(|(error, _)| error).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fact_is_in_the_topic_once_in_its_lane_and_order() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "before", 3_000).await;
    let relay = Running::start(&world, &kafka).await;
    for n in 0..20 {
        append(&world, &format!("live {n}"), 7).await;
    }
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
    append(&world, "between", 10).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_log_is_relayed_once_it_grows() {
    let (world, kafka) = (World::new().await, topics());
    let relay = Running::start(&world, &kafka).await;
    ensure(&kafka).await.unwrap();
    assert_eq!(kafka::read_committed(&kafka.facts_topic()).await, []);
    append(&world, "first", 1).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_settle_and_the_second_takes_over() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "before", 500).await;
    let (one, two) = tokio::join!(
        Running::start(&world, &kafka),
        Running::start(&world, &kafka)
    );
    for n in 0..10 {
        append(&world, &format!("both {n}"), 20).await;
    }
    relayed_exactly(&world, &kafka).await;
    one.stop().await;
    append(&world, "one is gone", 30).await;
    relayed_exactly(&world, &kafka).await;
    two.stop().await;
}
