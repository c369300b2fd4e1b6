//! What nothing through Kafka can be faster than: a bare transactional producer and a consumer.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::{brokers, unique_prefix};

const PARTITIONS: u32 = 64;
/// How long any of it may take.
const LIMIT: Duration = Duration::from_mins(2);

/// Sends so many records of 300 bytes `apart` from each other over 64 partitions, whatever is due in one transaction, and gives
/// how long after it was due each was consumed. Blocks.
///
/// # Panics
///
/// When Kafka does not do it in time.
pub fn produce_and_consume(topic: &str, records: u32, apart: Duration) -> Vec<Duration> {
    let consumer = consumer(topic);
    let producer: BaseProducer = client()
        .set("transactional.id", unique_prefix())
        .set("linger.ms", "0")
        .create()
        .expect("make a producer");
    producer
        .init_transactions(LIMIT)
        .expect("begin as the only producer");
    // Everything is warm once the first record has come through.
    transact(&producer, topic, records..records + 1);
    let begun = Instant::now() + apart * 10;
    let topic = topic.to_owned();
    let sending = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < records {
            let due = begun.elapsed().as_micros() / apart.as_micros() + 1;
            let due = u32::try_from(due).unwrap_or(records).min(records);
            if begun > Instant::now() || due == sent {
                std::thread::sleep(apart.min(Duration::from_millis(1)) / 2);
                continue;
            }
            transact(&producer, &topic, sent..due);
            sent = due;
        }
    });
    let mut waits = vec![];
    while waits.len() < records as usize {
        let came = waits.len();
        assert!(begun.elapsed() < LIMIT, "{came} records came in {LIMIT:?}");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.expect("consume a record");
        let number = message.payload().and_then(|payload| payload.get(..8));
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        let number: u32 = number.expect("its number is in it");
        if number < records {
            waits.push((begun + apart * number).elapsed());
        }
    }
    sending.join().expect("all was sent");
    waits
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    config
}

fn consumer(topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = client()
        .set("group.id", unique_prefix())
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "5")
        .create()
        .expect("make a consumer");
    let mut wanted = TopicPartitionList::new();
    for partition in 0..PARTITIONS.cast_signed() {
        wanted
            .add_partition_offset(topic, partition, Offset::Beginning)
            .expect("an offset that can be asked for");
    }
    consumer.assign(&wanted).expect("assign partitions");
    consumer
}

fn transact(producer: &BaseProducer, topic: &str, numbers: std::ops::Range<u32>) {
    producer.begin_transaction().expect("begin a transaction");
    for n in numbers {
        let payload = format!("{n:08}{}", "x".repeat(292));
        let record = BaseRecord::<(), str>::to(topic)
            .partition((n % PARTITIONS).cast_signed())
            .payload(&payload);
        let sent = producer.send(record).map_err(|(error, _)| error);
        sent.expect("send a record");
    }
    let begun = Instant::now();
    while producer.in_flight_count() > 0 {
        assert!(begun.elapsed() < LIMIT, "Kafka does not take the records");
        // Not for longer: a poll takes all of its time, the last millisecond of it without sleeping.
        producer.poll(Duration::ZERO);
        std::thread::sleep(Duration::from_micros(200));
    }
    producer
        .commit_transaction(LIMIT)
        .expect("commit a transaction");
}
