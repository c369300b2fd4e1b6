//! The topics: made once, with settings that keep the log whole; never used with another number of partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use service::retry::{Backoff, Retry};

use super::{ASK_LIMIT, Kafka, MAX_RECORD_BYTES, Readers, asking, retry_of};
use crate::id::LANES;

/// Why the topics cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// Someone made the topic with another number of partitions, so that facts would lie in other places than readers
    /// look.
    #[error(
        "topic {topic} has {found} partitions and must have {wanted}: delete it while it is empty, or use another TOPIC_PREFIX"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// Partitions it has.
        found: usize,
        /// Partitions it must have.
        wanted: usize,
    },
    /// The brokers refuse to make the topic.
    #[error(
        "topic {topic} cannot be made ({code}): make it by hand with {partitions} partitions, or grant the right"
    )]
    Refused {
        /// The topic.
        topic: String,
        /// What the brokers say.
        code: RDKafkaErrorCode,
        /// Partitions it must have.
        partitions: usize,
    },
    /// Kafka did not answer as it should.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
}

impl TopicError {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Partitions { .. } | Self::Refused { .. } => Retry::Never,
            Self::Kafka(error) => retry_of(error),
        }
    }
}

/// A topic as it must be.
struct Wanted {
    name: String,
    partitions: usize,
    settings: Vec<(&'static str, &'static str)>,
}

impl Wanted {
    fn both(kafka: &Kafka) -> [Self; 2] {
        let facts = vec![
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("max.message.bytes", MAX_RECORD_BYTES),
            ("message.timestamp.type", "CreateTime"),
            // A clock that is ahead must not stop the relay for good.
            ("message.timestamp.after.max.ms", "9223372036854775807"),
        ];
        let relay = vec![
            ("cleanup.policy", "compact"),
            // Small segments are compacted soon: the relay reads this topic whenever it starts.
            ("segment.bytes", "1048576"),
        ];
        [
            Self {
                name: kafka.facts_topic(),
                partitions: LANES.into(),
                settings: facts,
            },
            Self {
                name: kafka.relay_topic(),
                partitions: 1,
                settings: relay,
            },
        ]
    }

    fn new_topic(&self, replication: i32) -> NewTopic<'_> {
        let partitions = i32::try_from(self.partitions).unwrap_or(i32::MAX);
        let topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(replication));
        let topic = self
            .settings
            .iter()
            .fold(topic, |topic, (name, value)| topic.set(name, value));
        if replication >= 3 {
            topic.set("min.insync.replicas", "2")
        } else {
            topic
        }
    }
}

/// Makes the topics that are missing and refuses those that have another shape.
pub async fn ensure(kafka: &Kafka) -> Result<(), TopicError> {
    for wanted in Wanted::both(kafka) {
        ensure_one(kafka, &wanted).await?;
    }
    Ok(())
}

async fn ensure_one(kafka: &Kafka, wanted: &Wanted) -> Result<(), TopicError> {
    let mut found = partitions(kafka, &wanted.name).await?;
    if found == 0 {
        create(kafka, wanted).await?;
        // The brokers learn of a new topic one after the other.
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let known = async {
            while found == 0 {
                tokio::time::sleep(backoff.next_wait()).await;
                found = partitions(kafka, &wanted.name).await?;
            }
            Ok::<_, KafkaError>(())
        };
        let late = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
        tokio::time::timeout(ASK_LIMIT, known)
            .await
            .map_err(|_| late())??;
    }
    if found == wanted.partitions {
        return Ok(());
    }
    Err(TopicError::Partitions {
        topic: wanted.name.clone(),
        found,
        wanted: wanted.partitions,
    })
}

/// The first offset of each partition and the one after its last committed record, by partition. Blocks; asks each
/// broker once for all.
pub(super) fn bounds<C: ConsumerContext>(
    reader: &impl Consumer<C>,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
) -> KafkaResult<BTreeMap<i32, (i64, i64)>> {
    let partitions: Vec<i32> = partitions.collect();
    let ask = |which: Offset| {
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition_offset(topic, *partition, which)?;
        }
        if partitions.is_empty() {
            return Ok(list);
        }
        // The protocol takes these two in the place of a time.
        reader.offsets_for_times(list, ASK_LIMIT)
    };
    let (first, end) = (ask(Offset::Beginning)?, ask(Offset::End)?);
    let offset = |list: &TopicPartitionList, partition| {
        let found = list.find_partition(topic, partition);
        let found = found.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
        found.error()?;
        match found.offset() {
            Offset::Offset(offset) => Ok(offset),
            _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)),
        }
    };
    let of = |partition| {
        Ok((
            partition,
            (offset(&first, partition)?, offset(&end, partition)?),
        ))
    };
    partitions.iter().copied().map(of).collect()
}

/// Number of partitions; 0 when there is no such topic.
async fn partitions(kafka: &Kafka, topic: &str) -> KafkaResult<usize> {
    let (client, topic) = (kafka.reader("relay"), topic.to_owned());
    asking(move || {
        let client: BaseConsumer<Readers> = client.create_with_context(Readers)?;
        let metadata = client.fetch_metadata(Some(&topic), ASK_LIMIT)?;
        Ok(metadata
            .topics()
            .first()
            .map_or(0, |topic| topic.partitions().len()))
    })
    .await
}

async fn create(kafka: &Kafka, wanted: &Wanted) -> Result<(), TopicError> {
    let admin: AdminClient<DefaultClientContext> = kafka.client().create()?;
    let options = AdminOptions::new()
        .request_timeout(Some(ASK_LIMIT))
        .operation_timeout(Some(ASK_LIMIT));
    let made = admin
        .create_topics([&wanted.new_topic(kafka.replication)], &options)
        .await?;
    for result in made {
        match result {
            // Another process may have been quicker.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(TopicError::Refused {
                    topic,
                    code,
                    partitions: wanted.partitions,
                });
            }
        }
    }
    tracing::info!(
        topic = wanted.name,
        partitions = wanted.partitions,
        "made a Kafka topic"
    );
    Ok(())
}
