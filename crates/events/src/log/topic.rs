//! The topics: made once, with settings that keep the log whole; never used with another number of partitions.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use service::retry::{Backoff, Retry};

use super::{ASK_LIMIT, Kafka, MAX_RECORD_BYTES, blocking, retry_of};
use crate::id::LANES;

/// Why the topics cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// Someone made the topic with another number of partitions, so that facts would lie in other places than readers
    /// look.
    #[error(
        "topic {topic} has {found} partitions and must have {wanted}: delete it while it is empty, or use another name"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// Partitions it has.
        found: usize,
        /// Partitions it must have.
        wanted: usize,
    },
    /// Someone made the topic with settings under which facts would be lost or refused.
    #[error(
        "topic {topic} has {name}={found} and must have {wanted}: change it with kafka-configs, or use another TOPIC_PREFIX"
    )]
    Setting {
        /// The topic.
        topic: String,
        /// The setting.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it must be, or must reach.
        wanted: &'static str,
    },
    /// The brokers refuse to make the topic.
    #[error(
        "topic {topic} cannot be made ({code}): grant the right, or make it by hand with {partitions} partitions and {settings}"
    )]
    Refused {
        /// The topic.
        topic: String,
        /// What the brokers say.
        code: RDKafkaErrorCode,
        /// Partitions it must have.
        partitions: usize,
        /// Settings it must have.
        settings: String,
    },
    /// We do not trust the brokers.
    #[error(
        "the brokers' certificate is not trusted ({reason}): set ssl.ca.location in KAFKA_CONFIG to the certificate of the \
         authority that signed it, and call the brokers by a name that is in it"
    )]
    Untrusted {
        /// What the client says.
        reason: String,
    },
    /// The brokers do not know us.
    #[error(
        "the brokers do not let us in ({reason}): check sasl.username, sasl.password and sasl.mechanisms in KAFKA_CONFIG"
    )]
    Unauthenticated {
        /// What the client says.
        reason: String,
    },
    /// Kafka did not answer as it should.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
}

/// Hears why a client does not get through: its own calls say no more than that it does not.
#[derive(Debug, Default)]
struct Listening(Mutex<Option<TopicError>>);

impl ClientContext for Listening {
    fn error(&self, error: KafkaError, reason: &str) {
        let told = reason.to_owned();
        let heard = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                TopicError::Unauthenticated { reason: told }
            }
            // Any other failure of a handshake may be a broker's that is just ending.
            Some(RDKafkaErrorCode::SSL) if reason.contains("certificate") => {
                TopicError::Untrusted { reason: told }
            }
            _ => {
                tracing::warn!(%error, reason, "asking Kafka");
                return;
            }
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }
}

impl ConsumerContext for Listening {}

impl TopicError {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Partitions { .. }
            | Self::Setting { .. }
            | Self::Refused { .. }
            | Self::Untrusted { .. }
            | Self::Unauthenticated { .. } => Retry::Never,
            Self::Kafka(error) => retry_of(error),
        }
    }
}

/// A topic as it must be.
struct Wanted {
    name: String,
    partitions: usize,
    settings: Vec<Setting>,
}

/// A setting that a topic is made with, and when another value will do.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: &'static str,
    holds: Holds,
}

#[derive(Clone, Copy)]
enum Holds {
    /// This value and no other.
    Exactly,
    /// As much or more.
    AtLeast,
    /// Any: it is a matter of speed.
    Anyhow,
}

/// What the topic of facts is made with.
pub(super) const FACTS_SETTINGS: &[Setting] = &[
    // Compacted by their key, the subject, all but a subject's last fact would go.
    setting("cleanup.policy", "delete", Holds::Exactly),
    setting("retention.ms", "-1", Holds::Exactly),
    setting("retention.bytes", "-1", Holds::Exactly),
    setting("max.message.bytes", MAX_RECORD_BYTES, Holds::AtLeast),
    setting("message.timestamp.type", "CreateTime", Holds::Exactly),
    // A clock that is ahead must not stop the relay for good: ten years will do.
    setting(
        "message.timestamp.after.max.ms",
        "315360000000",
        Holds::AtLeast,
    ),
    UNCLEAN,
];

/// A replica that lags behind must not lead: facts that were confirmed would be gone.
const UNCLEAN: Setting = setting("unclean.leader.election.enable", "false", Holds::Exactly);
/// Of three replicas and more two must have a fact before it counts as written; of fewer, one that is away would stop all.
const IN_SYNC: Setting = setting("min.insync.replicas", "2", Holds::AtLeast);

const fn setting(name: &'static str, value: &'static str, holds: Holds) -> Setting {
    Setting { name, value, holds }
}

impl Setting {
    fn allows(self, found: &str) -> bool {
        match self.holds {
            Holds::Exactly => found == self.value,
            Holds::AtLeast => found.parse::<i64>().ok() >= self.value.parse().ok(),
            Holds::Anyhow => true,
        }
    }
}

impl Wanted {
    /// A topic that holds facts.
    fn facts(name: String) -> Self {
        Self {
            name,
            partitions: LANES.into(),
            settings: FACTS_SETTINGS.to_vec(),
        }
    }

    fn both(kafka: &Kafka) -> [Self; 2] {
        let relay = vec![
            setting("cleanup.policy", "compact", Holds::Exactly),
            // Small segments are compacted soon: the relay reads this topic whenever it starts.
            setting("segment.bytes", "1048576", Holds::Anyhow),
            UNCLEAN,
        ];
        [
            Self::facts(kafka.facts_topic()),
            Self {
                name: kafka.relay_topic(),
                partitions: 1,
                settings: relay,
            },
        ]
    }

    fn spelt(&self, replication: i32) -> String {
        let settings: Vec<_> = self
            .settings_of(replication)
            .map(|one| format!("{}={}", one.name, one.value))
            .collect();
        settings.join(", ")
    }

    fn new_topic(&self, replication: i32) -> NewTopic<'_> {
        let partitions = i32::try_from(self.partitions).unwrap_or(i32::MAX);
        let topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(replication));
        self.settings_of(replication)
            .fold(topic, |topic, one| topic.set(one.name, one.value))
    }

    /// What it must have with so many replicas.
    fn settings_of(&self, replication: i32) -> impl Iterator<Item = &Setting> {
        let in_sync = (replication >= 3).then_some(&IN_SYNC);
        self.settings.iter().chain(in_sync)
    }
}

/// Makes the topics that are missing and refuses those that have another shape.
pub async fn ensure(kafka: &Kafka) -> Result<(), TopicError> {
    for wanted in Wanted::both(kafka) {
        ensure_one(kafka, &wanted).await?;
    }
    Ok(())
}

/// Makes the topic `name` as the one with the facts is, or refuses one of another shape.
pub(super) async fn ensure_like_facts(kafka: &Kafka, name: &str) -> Result<(), TopicError> {
    ensure_one(kafka, &Wanted::facts(name.to_owned())).await
}

async fn ensure_one(kafka: &Kafka, wanted: &Wanted) -> Result<(), TopicError> {
    let mut found = shape(kafka, &wanted.name).await?;
    if found.partitions == 0 {
        create(kafka, wanted).await?;
        // The brokers learn of a new topic one after the other.
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let known = async {
            while found.partitions == 0 {
                tokio::time::sleep(backoff.next_wait()).await;
                found = shape(kafka, &wanted.name).await?;
            }
            Ok::<_, TopicError>(())
        };
        let late = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
        tokio::time::timeout(ASK_LIMIT, known)
            .await
            .map_err(|_| late())??;
    }
    if found.partitions != wanted.partitions {
        return Err(TopicError::Partitions {
            topic: wanted.name.clone(),
            found: found.partitions,
            wanted: wanted.partitions,
        });
    }
    check_settings(kafka, wanted, found.replication).await
}

/// Refuses a topic under whose settings facts would be lost. Settings that these brokers do not know are passed over.
async fn check_settings(
    kafka: &Kafka,
    wanted: &Wanted,
    replication: i32,
) -> Result<(), TopicError> {
    let admin: AdminClient<DefaultClientContext> = kafka.client().create()?;
    let options = AdminOptions::new().request_timeout(Some(ASK_LIMIT));
    let topic = ResourceSpecifier::Topic(&wanted.name);
    let described = admin.describe_configs([&topic], &options).await?;
    let entries = match described.into_iter().next() {
        Some(Ok(resource)) => resource.entries,
        Some(Err(code)) => {
            tracing::warn!(topic = wanted.name, %code, "the topic's settings cannot be seen, and are not checked");
            return Ok(());
        }
        None => return Ok(()),
    };
    for setting in wanted.settings_of(replication) {
        let entry = entries.iter().find(|entry| entry.name == setting.name);
        let Some(found) = entry.and_then(|entry| entry.value.as_deref()) else {
            continue;
        };
        if !setting.allows(found) {
            return Err(TopicError::Setting {
                topic: wanted.name.clone(),
                name: setting.name,
                found: found.to_owned(),
                wanted: setting.value,
            });
        }
    }
    Ok(())
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
pub(crate) async fn partitions(kafka: &Kafka, topic: &str) -> Result<usize, TopicError> {
    Ok(shape(kafka, topic).await?.partitions)
}

/// A topic as it is.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// 0 when there is no such topic.
    partitions: usize,
    /// Replicas of the partition that has fewest.
    replication: i32,
}

async fn shape(kafka: &Kafka, topic: &str) -> Result<Shape, TopicError> {
    let (client, topic) = (kafka.reader("relay"), topic.to_owned());
    blocking(move || {
        let client: BaseConsumer<Listening> = client.create_with_context(Listening::default())?;
        let metadata = client.fetch_metadata(Some(&topic), ASK_LIMIT);
        let metadata = metadata.map_err(|error| why(&client).unwrap_or_else(|| error.into()))?;
        let Some(topic) = metadata.topics().first() else {
            return Ok(Shape::default());
        };
        let replicas = topic.partitions().iter().map(|one| one.replicas().len());
        Ok(Shape {
            partitions: topic.partitions().len(),
            replication: i32::try_from(replicas.min().unwrap_or_default()).unwrap_or(i32::MAX),
        })
    })
    .await
}

/// What `client` has heard of its brokers.
fn why(client: &BaseConsumer<Listening>) -> Option<TopicError> {
    // Hearing is part of polling, among other events that are of no interest here.
    for _ in 0..10 {
        client.poll(Duration::from_millis(20));
        let heard = client.context().0.lock();
        let heard = heard.unwrap_or_else(PoisonError::into_inner).take();
        if heard.is_some() {
            return heard;
        }
    }
    None
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
                    settings: wanted.spelt(kafka.replication),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_three_replicas_two_must_have_a_fact_and_of_fewer_one_may_be_away() {
        let facts = Wanted::facts("facts".to_owned());
        let wanted = |replication| {
            let mut settings = facts.settings_of(replication);
            settings.find(|one| one.name == "min.insync.replicas")
        };
        assert!(wanted(1).is_none() && wanted(2).is_none());
        let of_three = wanted(3).unwrap();
        assert!(!of_three.allows("1") && of_three.allows("2") && of_three.allows("3"));
    }
}
