//! Reads lanes of the topic, each in order, from where a subscription has come to.
//!
//! Partitions are assigned, not balanced by a consumer group: who reads which lane is leased in Postgres. Offsets are
//! hints. What has been taken in is told by positions, and a hint that would leave facts out is noticed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use service::retry::Retry;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Kafka, Readers, RecordError, TopicError, asking, from_record, retry_of, topic};
use crate::envelope::Sealed;
use crate::id::{Lane, Position};
use crate::source::LaneStart;

/// A batch ends once its payloads take this many bytes.
const BATCH_BYTES: usize = 16 << 20;
/// Each time costs the broker a write.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Why a tail gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The topics cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The topic lost its beginning, and with it facts that were not read yet, perhaps.
    #[error(
        "lane {lane} of the facts topic begins at offset {offset} instead of 0: read the log in Postgres instead"
    )]
    Truncated {
        /// The lane.
        lane: Lane,
        /// Where it begins.
        offset: i64,
    },
    /// The topic is another log's.
    #[error(
        "the topic holds facts of log {found} and this is log {expected}: use another TOPIC_PREFIX"
    )]
    ForeignLog {
        /// The log that a record names.
        found: Uuid,
        /// The log that was asked for.
        expected: Uuid,
    },
    /// Something else wrote to the topic.
    #[error("the record at offset {offset} of lane {lane} is not a fact: {reason}")]
    Unreadable {
        /// The lane.
        lane: Lane,
        /// Where in the lane.
        offset: i64,
        /// What is wrong with it.
        reason: RecordError,
    },
    /// Kafka did not answer as it should.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
}

impl TailError {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Topic(error) => error.retry(),
            Self::Kafka(error) => retry_of(error),
            Self::Truncated { .. } | Self::ForeignLog { .. } | Self::Unreadable { .. } => {
                Retry::Never
            }
        }
    }
}

/// A lane that is read.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Facts up to here are known.
    after: Position,
    /// The offset to read next.
    next: i64,
    /// Whether `next` is the caller's word: the fact there, or one after it, must be known already.
    hinted: bool,
}

/// Tails some lanes of the topic.
pub struct KafkaTail {
    kafka: Kafka,
    topic: String,
    log_id: Uuid,
    consumer: Arc<StreamConsumer<Readers>>,
    lanes: BTreeMap<Lane, Place>,
    topics_checked: bool,
    /// When lanes were let go of and others taken, unless something was read since.
    unsettled: Option<std::time::Instant>,
    /// Offsets that lag tools are to be told of, and when they were told.
    untold: BTreeMap<Lane, i64>,
    told: Option<Instant>,
}

/// How long the client gets to stop fetching. It aborts the process if a lane is let go of a second time before it has
/// stopped (librdkafka issue 5573); whatever is read after an assignment shows that it has.
const SETTLE: Duration = Duration::from_millis(500);

impl KafkaTail {
    /// A tail for the subscription `name`, of the log `log_id`.
    pub fn new(kafka: &Kafka, name: &str, log_id: Uuid) -> Result<Self, TailError> {
        let consumer: StreamConsumer<Readers> = kafka
            .reader(name)
            .set("enable.partition.eof", "true")
            // What waits in memory for the reader: per lane, and all lanes together.
            .set("fetch.message.max.bytes", "1048576")
            .set("queued.max.messages.kbytes", "32768")
            .create_with_context(Readers)?;
        Ok(Self {
            kafka: kafka.clone(),
            topic: kafka.facts_topic(),
            log_id,
            consumer: Arc::new(consumer),
            lanes: BTreeMap::new(),
            topics_checked: false,
            unsettled: None,
            untold: BTreeMap::new(),
            told: None,
        })
    }

    /// Reads these lanes from now on, and no others. A start's offset is that of the last known fact, or 0.
    pub async fn assign(&mut self, lanes: Vec<LaneStart>) -> Result<(), TailError> {
        if !self.topics_checked {
            topic::ensure(&self.kafka).await?;
            self.topics_checked = true;
        }
        let places = lanes.into_iter().map(
            |LaneStart {
                 lane,
                 after,
                 offset,
             }| {
                let next = if after == Position::START {
                    0
                } else {
                    offset.max(0)
                };
                (
                    lane,
                    Place {
                        after,
                        next,
                        hinted: next > 0,
                    },
                )
            },
        );
        self.lanes = places.collect();
        self.seek().await
    }

    /// The next facts, each with its offset; none when there were none for `wait`. A lane's facts come in order, each
    /// once. After an error, or when dropped, assign before the next.
    pub async fn next_batch(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(Sealed, i64)>, TailError> {
        self.tell();
        let deadline = Instant::now() + wait;
        let consumer = Arc::clone(&self.consumer);
        let (mut batch, mut bytes) = (vec![], 0);
        while batch.len() < max && bytes < BATCH_BYTES {
            let record = if batch.is_empty() {
                tokio::time::timeout_at(deadline, consumer.recv())
                    .await
                    .ok()
            } else {
                consumer.recv().now_or_never()
            };
            if let Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) = record {
                self.unsettled = None;
            }
            let taken = match record {
                None => break,
                Some(Ok(record)) => self.take(&record),
                Some(Err(KafkaError::PartitionEOF(partition))) => self.end_of(partition),
                Some(Err(error)) => Err(Interrupted::from(error)),
            };
            match taken {
                Ok(Some((fact, offset))) => {
                    bytes += fact.payload.len();
                    batch.push((fact, offset));
                }
                Ok(None) => {}
                // What is in the batch is in order and stays; the seek only changes what comes after it.
                Err(Interrupted::Seek) => self.seek().await?,
                // The client reconnects by itself.
                Err(Interrupted::Passing(error)) => tracing::debug!(%error, "reading the topic"),
                Err(Interrupted::Failed(error)) => return Err(error),
            }
        }
        Ok(batch)
    }

    /// Tells lag tools how far the subscription is, about once a second: the next offset of each lane. Nothing ever depends on it.
    pub fn commit(&mut self, offsets: &[(Lane, i64)]) {
        self.untold.extend(offsets.iter().copied());
        self.tell();
    }

    fn tell(&mut self) {
        if self.untold.is_empty() || self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let offsets = std::mem::take(&mut self.untold);
        let committed = self
            .list(offsets.into_iter())
            .and_then(|list| self.consumer.commit(&list, CommitMode::Async));
        if let Err(error) = committed {
            tracing::debug!(%error, "offsets were not committed");
        }
    }

    /// The fact in a record, unless it is known already.
    fn take(&mut self, record: &BorrowedMessage<'_>) -> Result<Option<(Sealed, i64)>, Interrupted> {
        let offset = record.offset();
        let Some(place) = Lane::new(record.partition()).and_then(|lane| self.lanes.get_mut(&lane))
        else {
            return Ok(None);
        };
        let (log, fact) = from_record(record).map_err(|reason| {
            let lane = Lane::new(record.partition())
                .unwrap_or_else(|| unreachable!("it was found by its lane"));
            TailError::Unreadable {
                lane,
                offset,
                reason,
            }
        })?;
        if log != self.log_id {
            return Err(TailError::ForeignLog {
                found: log,
                expected: self.log_id,
            }
            .into());
        }
        if place.hinted && fact.position > place.after {
            return Err(self.distrust());
        }
        place.hinted = false;
        place.next = offset + 1;
        if fact.position <= place.after {
            return Ok(None);
        }
        place.after = fact.position;
        Ok(Some((fact, offset)))
    }

    /// A lane was read to its end. A hint that led to no record at all was wrong.
    fn end_of(&mut self, partition: i32) -> Result<Option<(Sealed, i64)>, Interrupted> {
        let place = Lane::new(partition).and_then(|lane| self.lanes.get(&lane));
        if place.is_some_and(|place| place.hinted) {
            return Err(self.distrust());
        }
        Ok(None)
    }

    /// One hint was wrong: whatever spoilt it, spoilt the others as well.
    fn distrust(&mut self) -> Interrupted {
        tracing::warn!(
            topic = self.topic,
            "stored offsets are not where their facts are; reading lanes from 0"
        );
        for place in self.lanes.values_mut().filter(|place| place.hinted) {
            *place = Place {
                next: 0,
                hinted: false,
                ..*place
            };
        }
        Interrupted::Seek
    }

    /// Starts fetching every lane at its next offset, at 0 where there is no such offset.
    async fn seek(&mut self) -> Result<(), TailError> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let lanes: Vec<i32> = self.lanes.keys().map(|lane| lane.number().into()).collect();
        let bounds = asking(move || topic::bounds(&*consumer, &topic, lanes.into_iter())).await?;
        for (lane, place) in &mut self.lanes {
            let Some((low, high)) = bounds.get(&i32::from(lane.number())).copied() else {
                continue;
            };
            if low > 0 {
                return Err(TailError::Truncated {
                    lane: *lane,
                    offset: low,
                });
            }
            if place.next > high {
                *place = Place {
                    next: 0,
                    hinted: false,
                    ..*place
                };
            }
        }
        let list = self.list(self.lanes.iter().map(|(lane, place)| (*lane, place.next)))?;
        tokio::time::sleep(self.unsettled_for()).await;
        self.unsettled = Some(std::time::Instant::now());
        Ok(self.consumer.assign(&list)?)
    }

    fn unsettled_for(&self) -> Duration {
        let since = self.unsettled.map(|since| since.elapsed());
        since.map_or(Duration::ZERO, |since| SETTLE.saturating_sub(since))
    }

    fn list(&self, offsets: impl Iterator<Item = (Lane, i64)>) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (lane, offset) in offsets {
            list.add_partition_offset(&self.topic, lane.number().into(), Offset::Offset(offset))?;
        }
        Ok(list)
    }
}

impl Drop for KafkaTail {
    fn drop(&mut self) {
        std::thread::sleep(self.unsettled_for());
    }
}

/// Why a record is not simply the next fact.
enum Interrupted {
    /// A lane must be read from elsewhere.
    Seek,
    /// Nothing to do about it.
    Passing(KafkaError),
    /// The caller must know.
    Failed(TailError),
}

impl From<TailError> for Interrupted {
    fn from(error: TailError) -> Self {
        Self::Failed(error)
    }
}

impl From<KafkaError> for Interrupted {
    fn from(error: KafkaError) -> Self {
        match error {
            // The topic has no such offset: it was made anew, or cut.
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => Self::Seek,
            KafkaError::MessageConsumption(_) => Self::Passing(error),
            error => Self::Failed(error.into()),
        }
    }
}
