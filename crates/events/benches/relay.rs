//! `drain`: how many facts a second the relay brings into real Kafka when it is a million behind. The ceiling is a bare
//! idempotent producer with such records over the same 64 partitions, that reads nothing and commits nothing. The peer is
//! Debezium's connector in Kafka Connect, from the order to capture the same table until the last record can be consumed.
//!
//! `steady p99`: at 1,000 appends a second, from the call of `append` until a consumer has the fact. The ceiling is a
//! bare transactional producer and a consumer that do the same without a log; Debezium takes the facts from the write-ahead
//! log.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/debezium.rs"]
mod debezium;
#[path = "support/filled.rs"]
mod filled;
#[path = "support/paced.rs"]
mod paced;
mod support;

use std::time::{Duration, Instant};

use events::envelope::Sealed;
use events::id::{Lane, Position};
use events::log::{Config, Kafka, Relay, ensure, to_headers};
use events::source::{LaneStart, Source};
use events::store::{Log, Wake};
use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use service::clock::Clock;
use service::db::Role;
use service::shutdown::Shutdown;
use testing::bare;
use testing::bench::{Row, publish};
use testing::debezium::Connect;
use testing::kafka;
use tokio::task::JoinHandle;
use uuid::Uuid;

use filled::fill;
use paced::{APART, APPENDS, Paced, p99};
use support::World;

const FACTS: i64 = 1_000_000;
const DRAINS: usize = 2;
const STEADY: usize = 3;
const LIMIT: Duration = Duration::from_mins(2);

#[tokio::main]
async fn main() {
    let connect = Connect::start().await.unwrap();
    let connect = connect.as_ref();
    let rows = [drains(connect).await, steadies(connect).await];
    println!("{}", publish("relay", &rows).unwrap());
}

async fn drains(connect: Option<&Connect>) -> Row {
    let world = World::new().await;
    fill(&world.owner, FACTS).await;
    let log = world.open().await;
    let (mut ours, mut peer, mut bare) = (vec![drain(&world).await], vec![], vec![]);
    let peak = peak_mb().unwrap_or_default();
    println!("relay: {peak} MB resident at the most in the first drain");
    let sample = log.read(Position::START, 16_384).await.unwrap();
    for round in 0..DRAINS {
        if round > 0 {
            ours.push(drain(&world).await);
        }
        if let Some(connect) = connect {
            peer.push(debezium::drain(connect, &world, FACTS).await);
        }
        bare.push(drain_bare(sample.clone(), log.id()).await);
    }
    world.shutdown.finish(Duration::from_secs(10)).await;
    Row {
        case: "drain".to_owned(),
        unit: "facts/s",
        ours,
        peer: ("debezium", connect.map(|_| peer)),
        ceiling: ("bare idempotent producer", Some(bare)),
    }
}

async fn steadies(connect: Option<&Connect>) -> Row {
    let world = World::new().await;
    let log = world.open().await;
    let (mut ours, mut peer, mut bare) = (vec![], vec![], vec![]);
    // Not counted: JVMs, the broker's among them, compile in their first rounds.
    steady(&world, &log).await;
    steady_bare().await;
    if let Some(connect) = connect {
        debezium::steady(connect, &world, &log).await;
    }
    for _ in 0..STEADY {
        ours.push(steady(&world, &log).await);
        if let Some(connect) = connect {
            peer.push(debezium::steady(connect, &world, &log).await);
        }
        bare.push(steady_bare().await);
    }
    world.shutdown.finish(Duration::from_secs(10)).await;
    Row {
        case: "steady p99".to_owned(),
        unit: "ms",
        ours,
        peer: ("debezium", connect.map(|_| peer)),
        ceiling: ("bare transactional produce and consume", Some(bare)),
    }
}

async fn topics() -> Kafka {
    let config = Config {
        kafka_brokers: Some(kafka::brokers()),
        topic_prefix: kafka::unique_prefix(),
        kafka_replication: 1,
        kafka_config: vec![],
    };
    let kafka = Kafka::from_config(&config).unwrap();
    ensure(&kafka).await.unwrap();
    kafka
}

/// A relay at work until the shutdown that comes with it.
async fn relaying(world: &World, kafka: &Kafka) -> (Shutdown, JoinHandle<()>) {
    let pool = world.database.pool(Role::Api).await;
    let shutdown = Shutdown::new();
    let wake = Wake::start(pool.clone(), &shutdown);
    let relay = Relay::new(pool, wake, kafka.clone(), Clock::System);
    let until = shutdown.clone();
    let ended = shutdown.spawn(async move { relay.run(&until).await.unwrap() });
    (shutdown, ended)
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka::brokers());
    config
}

fn consumer<C: Consumer + FromClientConfig>(topic: &str, partitions: i32, from: Offset) -> C {
    let consumer: C = client()
        .set("group.id", kafka::unique_prefix())
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "5")
        .create()
        .unwrap();
    let mut wanted = TopicPartitionList::new();
    for partition in 0..partitions {
        wanted.add_partition_offset(topic, partition, from).unwrap();
    }
    consumer.assign(&wanted).unwrap();
    consumer
}

async fn drain(world: &World) -> f64 {
    let kafka = topics().await;
    let markers: BaseConsumer = consumer(&kafka.relay_topic(), 1, Offset::Beginning);
    let begun = Instant::now();
    let (shutdown, ended) = relaying(world, &kafka).await;
    let last = tokio::task::spawn_blocking(move || {
        let mut at = 0;
        while at < FACTS {
            assert!(begun.elapsed() < LIMIT, "relayed up to {at} in {LIMIT:?}");
            let Some(message) = markers.poll(Duration::from_millis(50)) else {
                continue;
            };
            let marker: serde_json::Value =
                serde_json::from_slice(message.unwrap().payload().unwrap()).unwrap();
            at = marker["position"].as_i64().unwrap();
        }
        begun.elapsed()
    });
    let took = last.await.unwrap();
    shutdown.cancel();
    ended.await.unwrap();
    FACTS as f64 / took.as_secs_f64()
}

async fn drain_bare(sample: Vec<Sealed>, log_id: Uuid) -> f64 {
    let topic = topics().await.facts_topic();
    let send = move || {
        let producer: BaseProducer = client()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "100000")
            .create()
            .unwrap();
        let begun = Instant::now();
        for fact in sample.iter().cycle().take(usize::try_from(FACTS).unwrap()) {
            let mut record = BaseRecord::to(&topic)
                .partition(fact.lane.number().into())
                .key(&fact.subject)
                .payload(&fact.payload)
                .timestamp(fact.recorded_at.timestamp_millis())
                .headers(to_headers(fact, log_id));
            while let Err((error, again)) = producer.send(record) {
                assert_eq!(
                    error,
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
                );
                producer.poll(Duration::from_millis(5));
                record = again;
            }
        }
        producer.flush(LIMIT).unwrap();
        FACTS as f64 / begun.elapsed().as_secs_f64()
    };
    tokio::task::spawn_blocking(send).await.unwrap()
}

async fn steady(world: &World, log: &Log) -> f64 {
    let kafka = topics().await;
    let (shutdown, ended) = relaying(world, &kafka).await;
    let wake = Wake::start(world.owner.clone(), &shutdown);
    let mut source = Source::open(Some(&kafka), &world.owner, &wake, log.id(), "bench").unwrap();
    let lanes = (0..64).filter_map(Lane::new).map(|lane| LaneStart {
        lane,
        after: Position::START,
        offset: 0,
    });
    source.assign(lanes.collect()).await.unwrap();
    // Everything is warm once the first fact has come through.
    let paced = Paced::new(log).await;
    paced.append(APPENDS).await;
    let numbered = |facts: Vec<(Sealed, i64)>| {
        let facts = facts.iter();
        let numbers = facts.filter_map(|(fact, _)| paced.number(&fact.payload));
        numbers.collect::<Vec<u32>>()
    };
    while numbered(source.next(1_000, Duration::from_secs(1)).await.unwrap()).is_empty() {}
    let (begun, appends) = paced.start(&shutdown);
    let mut waits = vec![];
    while waits.len() < APPENDS as usize {
        assert!(
            begun.elapsed() < LIMIT,
            "{} facts came through in {LIMIT:?}",
            waits.len()
        );
        let came = numbered(source.next(1_000, Duration::from_secs(1)).await.unwrap());
        waits.extend(came.iter().map(|n| Paced::wait(begun, *n)));
    }
    appends.await.unwrap();
    shutdown.cancel();
    ended.await.unwrap();
    p99("ours", waits)
}

/// Whatever is due goes into one transaction, a thousand records a second over all partitions.
async fn steady_bare() -> f64 {
    let topic = topics().await.facts_topic();
    let bare = move || bare::produce_and_consume(&topic, APPENDS, APART);
    p99("bare", tokio::task::spawn_blocking(bare).await.unwrap())
}

/// This process's resident memory at its highest, in MB.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kb: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kb / 1024)
}
