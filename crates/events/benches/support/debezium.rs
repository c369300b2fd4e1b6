//! The relay's peer: Debezium's connector copies the same log into a topic of the same shape.

use std::time::{Duration, Instant};

use events::store::Log;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use service::shutdown::Shutdown;
use testing::debezium::{Capture, Connect};
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::paced::{APPENDS, Paced, p99};
use crate::support::World;
use crate::{client, consumer, topics};

/// It is slower than we are.
const LIMIT: Duration = Duration::from_mins(8);
/// How often the end of the topic is asked for, and what one answer may take.
const EVERY: Duration = Duration::from_millis(20);
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Records whose keys are looked at.
const SAMPLE: usize = 20_000;
const PARTITIONS: i32 = 64;

/// Facts a second, from the order to capture, which a worker gets that is up, until the last one can be consumed.
pub(crate) async fn drain(connect: &Connect, world: &World, facts: i64) -> f64 {
    let topic = topics().await.facts_topic();
    let begun = Instant::now();
    let capture = connect.capture(&world.database, &topic).await.unwrap();
    let (first, all) = unless_failed(&capture, count(&topic, facts, begun)).await;
    println!(
        "debezium: the first record came after {:.1} s, the last after {:.1} s",
        first.as_secs_f64(),
        all.as_secs_f64()
    );
    check_keys(&topic).await;
    capture.end().await.unwrap();
    facts as f64 / all.as_secs_f64()
}

/// How long the first record and all took.
async fn count(topic: &str, facts: i64, begun: Instant) -> (Duration, Duration) {
    // Only the ends are asked for, so that counting takes no time from what is counted.
    let asking: BaseConsumer = client().set("group.id", "bench").create().unwrap();
    let mut ends = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        ends.add_partition_offset(topic, partition, Offset::End)
            .unwrap();
    }
    let mut first = None;
    loop {
        let found = block_in_place(|| asking.offsets_for_times(ends.clone(), ASK_LIMIT));
        let found = found.unwrap();
        let came: i64 = found
            .elements()
            .iter()
            .filter_map(|partition| partition.offset().to_raw())
            .sum();
        let took = begun.elapsed();
        if came > 0 {
            first.get_or_insert(took);
        }
        if came >= facts {
            assert_eq!(came, facts, "each fact has one record");
            return (first.unwrap_or(took), took);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// It is a peer only if it, too, keeps the order of each subject's facts: the key is the subject, and decides the
/// partition.
async fn check_keys(topic: &str) {
    let records: StreamConsumer = consumer(topic, PARTITIONS, Offset::Beginning);
    for _ in 0..SAMPLE {
        let record = timeout(ASK_LIMIT, records.recv()).await.unwrap().unwrap();
        let payload: Value = serde_json::from_slice(record.payload().unwrap()).unwrap();
        let subject = format!("post-{}", payload["post"].as_str().unwrap());
        assert_eq!(record.key(), Some(subject.as_bytes()));
    }
}

/// At a thousand appends a second, the 99th percentile from the call until a consumer has the record, in ms.
pub(crate) async fn steady(connect: &Connect, world: &World, log: &Log) -> f64 {
    let topic = topics().await.facts_topic();
    let capture = connect.capture(&world.database, &topic).await.unwrap();
    let records: StreamConsumer = consumer(&topic, PARTITIONS, Offset::Beginning);
    let paced = Paced::new(log).await;
    // The first may be found in the table; the second, appended once that came, comes out of the write-ahead log.
    for extra in [APPENDS, APPENDS + 1] {
        paced.append(extra).await;
        let came = async { while next(&records, &paced).await != Some(extra) {} };
        unless_failed(&capture, came).await;
    }
    let shutdown = Shutdown::new();
    let (begun, appends) = paced.start(&shutdown);
    let mut waits = vec![];
    let all_came = async {
        while waits.len() < APPENDS as usize {
            let number = next(&records, &paced).await;
            waits.extend(number.map(|n| Paced::wait(begun, n)));
        }
    };
    unless_failed(&capture, all_came).await;
    appends.await.unwrap();
    capture.end().await.unwrap();
    p99("debezium", waits)
}

/// The number in the next record, if it is of these appends.
async fn next(records: &StreamConsumer, paced: &Paced) -> Option<u32> {
    let record = records.recv().await.unwrap();
    paced.number(std::str::from_utf8(record.payload()?).unwrap())
}

/// What `work` gives; the connector's own words where that fails first.
async fn unless_failed<T>(capture: &Capture<'_>, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = timeout(LIMIT, work) => done.expect("Debezium is done in time"),
        error = capture.failure() => panic!("{error:#}"),
    }
}
