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

use super::{ASK_LIMIT, Kafka, RecordError, TopicError, asking, from_record, retry_of, topic};
use crate::envelope::Sealed;
use crate::id::{Lane, Position};
use crate::source::LaneStart;

/// A batch ends once its payloads take this many bytes.
const BATCH_BYTES: usize = 16 << 20;

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
    /// Whether the first record will tell if the hint was too far on.
    hinted: bool,
}

/// Tails some lanes of the topic.
pub struct KafkaTail {
    kafka: Kafka,
    topic: String,
    log_id: Uuid,
    consumer: Arc<StreamConsumer>,
    lanes: BTreeMap<Lane, Place>,
    topics_checked: bool,
}

impl KafkaTail {
    /// A tail for the subscription `name`, of the log `log_id`.
    pub fn new(kafka: &Kafka, name: &str, log_id: Uuid) -> Result<Self, TailError> {
        let consumer: StreamConsumer = kafka
            .reader(name)
            // What waits in memory for the reader: per lane, and all lanes together.
            .set("fetch.message.max.bytes", "1048576")
            .set("queued.max.messages.kbytes", "32768")
            .create()?;
        Ok(Self {
            kafka: kafka.clone(),
            topic: kafka.facts_topic(),
            log_id,
            consumer: Arc::new(consumer),
            lanes: BTreeMap::new(),
            topics_checked: false,
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
    /// once. Dropping the future loses nothing.
    pub async fn next_batch(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(Sealed, i64)>, TailError> {
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
            let taken = match record {
                None => break,
                Some(Ok(record)) => self.take(&record),
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

    /// Tells lag tools how far the subscription is: the next offset of each lane. Nothing ever depends on it.
    pub fn commit(&self, offsets: &[(Lane, i64)]) {
        let committed = self
            .list(offsets.iter().copied())
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
        if std::mem::take(&mut place.hinted) && fact.position > place.after {
            tracing::warn!(lane = %fact.lane, offset, "the stored offset is not where its fact is; reading from 0");
            place.next = 0;
            return Err(Interrupted::Seek);
        }
        place.next = offset + 1;
        if fact.position <= place.after {
            return Ok(None);
        }
        place.after = fact.position;
        Ok(Some((fact, offset)))
    }

    /// Starts fetching every lane at its next offset, at 0 where there is no such offset.
    async fn seek(&mut self) -> Result<(), TailError> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let lanes: Vec<Lane> = self.lanes.keys().copied().collect();
        let bounds = asking(move || {
            let bounds =
                |lane: Lane| consumer.fetch_watermarks(&topic, lane.number().into(), ASK_LIMIT);
            lanes
                .into_iter()
                .map(|lane| Ok((lane, bounds(lane)?)))
                .collect::<KafkaResult<Vec<_>>>()
        })
        .await?;
        for (lane, (low, high)) in bounds {
            if low > 0 {
                return Err(TailError::Truncated { lane, offset: low });
            }
            if let Some(place) = self.lanes.get_mut(&lane).filter(|place| place.next > high) {
                *place = Place {
                    next: 0,
                    hinted: false,
                    ..*place
                };
            }
        }
        let list = self.list(self.lanes.iter().map(|(lane, place)| (*lane, place.next)))?;
        Ok(self.consumer.assign(&list)?)
    }

    fn list(&self, offsets: impl Iterator<Item = (Lane, i64)>) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (lane, offset) in offsets {
            list.add_partition_offset(&self.topic, lane.number().into(), Offset::Offset(offset))?;
        }
        Ok(list)
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
