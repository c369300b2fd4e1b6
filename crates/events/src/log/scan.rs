//! Reads lanes of the topic from their first record to their last, once, as they are: for comparing, not for following.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use uuid::Uuid;

use super::check::{Garbled, last_record};
use super::marker::Marker;
use super::{ASK_LIMIT, Kafka, Readers, RecordError, from_record};
use crate::envelope::Sealed;
use crate::id::Lane;

/// A record of the topic: its lane, its offset, and the fact it carries with the log that names itself in it.
pub(crate) struct Found {
    pub(crate) lane: Lane,
    pub(crate) offset: i64,
    pub(crate) fact: Result<(Uuid, Sealed), RecordError>,
}

/// The relay's marker; none when it has not written anything. Blocks.
pub(crate) fn marker(kafka: &Kafka) -> KafkaResult<Option<Result<Marker, Garbled>>> {
    let reader = reader(kafka)?;
    let last = last_record(&reader, &kafka.relay_topic(), 0)?;
    Ok(last.map(|record| Marker::read(&record)))
}

/// Shows `each` every committed record of `lanes` that is there when this begins, each lane's in order, until it breaks
/// off. Blocks.
pub(crate) fn scan(
    kafka: &Kafka,
    lanes: impl Iterator<Item = Lane>,
    mut each: impl FnMut(Found) -> ControlFlow<()>,
) -> KafkaResult<()> {
    let (reader, topic) = (reader(kafka)?, kafka.facts_topic());
    let mut wanted = TopicPartitionList::new();
    // A lane that grows tells its end again and again, and it must count once.
    let mut open = BTreeSet::new();
    for lane in lanes {
        let partition = lane.number().into();
        wanted.add_partition_offset(&topic, partition, Offset::Beginning)?;
        open.insert(partition);
    }
    reader.assign(&wanted)?;
    let mut deadline = Instant::now() + ASK_LIMIT;
    while !open.is_empty() {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                deadline = Instant::now() + ASK_LIMIT;
                let Some(lane) = Lane::new(record.partition()) else {
                    continue;
                };
                let (offset, fact) = (record.offset(), from_record(&record));
                if each(Found { lane, offset, fact }).is_break() {
                    return Ok(());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => return Err(error),
            None if Instant::now() > deadline => {
                let code = RDKafkaErrorCode::OperationTimedOut;
                return Err(KafkaError::MessageConsumption(code));
            }
            None => {}
        }
    }
    Ok(())
}

fn reader(kafka: &Kafka) -> KafkaResult<BaseConsumer<Readers>> {
    kafka
        .reader("verify")
        .set("enable.partition.eof", "true")
        .create_with_context(Readers)
}
