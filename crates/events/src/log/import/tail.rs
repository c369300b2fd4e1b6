//! The end of the topic, in the order of the log.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Message, Offset, TopicPartitionList};
use uuid::Uuid;

use super::ImportError;
use super::merge::Merge;
use crate::envelope::Sealed;
use crate::id::{Lane, Position};
use crate::log::{ASK_LIMIT, Kafka, Readers, from_record};

/// Facts that are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) log_id: Uuid,
    pub(super) first: Position,
    pub(super) last: Position,
    /// No fact from `first` on was recorded before this, in milliseconds; none: read from the beginning.
    pub(super) since: Option<i64>,
}

/// Shows `each` every fact of `stretch` in order, until it breaks off. Blocks. Fails where one is missing.
pub(super) fn read(
    kafka: &Kafka,
    stretch: Stretch,
    mut each: impl FnMut(Sealed) -> ControlFlow<()>,
) -> Result<(), ImportError> {
    let reader: BaseConsumer<Readers> = kafka
        .reader("import")
        .set("enable.partition.eof", "true")
        // What the client holds in memory: per lane, and of all lanes together.
        .set("fetch.message.max.bytes", "1048576")
        .set("queued.max.messages.kbytes", "32768")
        .create_with_context(Readers)?;
    let topic = kafka.facts_topic();
    let begin = begin(&reader, &topic, stretch.since)?;
    reader.assign(&begin)?;
    let mut merge = Merge::new(stretch.first, Lane::all());
    let mut held = BTreeSet::new();
    let mut deadline = Instant::now() + ASK_LIMIT;
    loop {
        while let Some(fact) = merge.pop() {
            if each(fact).is_break() || merge.next() > stretch.last {
                return Ok(());
            }
        }
        if merge.starved() {
            let missing = merge.next();
            return Err(ImportError::Gap { missing });
        }
        resume(&reader, &topic, &mut held, &merge)?;
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                deadline = Instant::now() + ASK_LIMIT;
                let lane = take(&record, stretch.log_id, &mut merge)?;
                if merge.full(lane) && held.insert(lane) {
                    reader.pause(&list(&topic, [lane]))?;
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                if let Some(lane) = Lane::new(partition) {
                    merge.end(lane);
                }
            }
            Some(Err(error)) => return Err(error.into()),
            None if Instant::now() > deadline => {
                let code = RDKafkaErrorCode::OperationTimedOut;
                return Err(KafkaError::MessageConsumption(code).into());
            }
            None => {}
        }
    }
}

/// Where each lane is read from. A record's time is its fact's, and along a lane times never go back.
fn begin(
    reader: &BaseConsumer<Readers>,
    topic: &str,
    since: Option<i64>,
) -> KafkaResult<TopicPartitionList> {
    let mut begin = TopicPartitionList::new();
    for lane in Lane::all() {
        let offset = since.map_or(Offset::Beginning, Offset::Offset);
        begin.add_partition_offset(topic, lane.number().into(), offset)?;
    }
    if since.is_none() {
        return Ok(begin);
    }
    let found = reader.offsets_for_times(begin, ASK_LIMIT)?;
    found
        .elements()
        .iter()
        .try_for_each(TopicPartitionListElem::error)?;
    Ok(found)
}

fn take(
    record: &BorrowedMessage<'_>,
    log_id: Uuid,
    merge: &mut Merge,
) -> Result<Lane, ImportError> {
    let (partition, offset) = (record.partition(), record.offset());
    let strange = |reason: String| ImportError::Strange {
        partition,
        offset,
        reason,
    };
    let (log, fact) = from_record(record).map_err(|reason| strange(reason.to_string()))?;
    if log != log_id {
        return Err(strange(format!("it is a fact of log {log}")));
    }
    let (lane, position) = (fact.lane, fact.position);
    if Lane::of(fact.tenant, &fact.subject) != lane {
        return Err(strange("its subject is of another lane".to_owned()));
    }
    if !merge.push(fact) {
        return Err(strange(format!("position {position} comes too late")));
    }
    Ok(lane)
}

/// Lets lanes go on of which little is waiting.
fn resume(
    reader: &BaseConsumer<Readers>,
    topic: &str,
    held: &mut BTreeSet<Lane>,
    merge: &Merge,
) -> KafkaResult<()> {
    let free: Vec<Lane> = held.iter().copied().filter(|l| merge.low(*l)).collect();
    if free.is_empty() {
        return Ok(());
    }
    held.retain(|lane| !free.contains(lane));
    reader.resume(&list(topic, free))
}

fn list(topic: &str, lanes: impl IntoIterator<Item = Lane>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for lane in lanes {
        list.add_partition(topic, lane.number().into());
    }
    list
}
