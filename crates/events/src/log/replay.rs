//! Facts once more, into a topic of the reader's choice: the records that the relay writes, by a producer of their own.
//!
//! Within a run each fact is there once and each lane in order (the producer is idempotent). A run that failed says how
//! far everything was delivered; the next one begins there. Some facts after that point may be in the topic already.

use std::collections::VecDeque;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use uuid::Uuid;

use super::topic::{TopicError, ensure_like_facts};
use super::{ASK_LIMIT, Kafka, MAX_RECORD_BYTES, Readers, asking, to_headers};
use crate::envelope::Sealed;

/// How long the brokers may take to confirm a record.
const DELIVERY_LIMIT: Duration = Duration::from_mins(1);

/// Why facts are not replayed into a topic.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It is the relay's, or the marker beside it.
    #[error("topic {0} is a relay's own: a replay there would double facts; choose another topic")]
    RelaysOwn(String),
    /// The topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The brokers.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The client ended before the brokers confirmed.
    #[error("Kafka: a record was neither confirmed nor refused")]
    Unconfirmed,
}

/// Writes facts into a topic.
pub struct Replay {
    producer: FutureProducer,
    topic: String,
    log_id: Uuid,
}

impl Replay {
    /// Into `topic`, which is made when it is not there and refused when its partitions are not the lanes.
    pub async fn open(kafka: &Kafka, topic: &str, log_id: Uuid) -> Result<Self, ReplayError> {
        refuse_relays(kafka, topic).await?;
        ensure_like_facts(kafka, topic).await?;
        let producer = kafka
            .client()
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("message.max.bytes", MAX_RECORD_BYTES)
            .set(
                "delivery.timeout.ms",
                DELIVERY_LIMIT.as_millis().to_string(),
            )
            .create()?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            log_id,
        })
    }

    /// Writes `facts` and waits until the brokers have all of them.
    pub async fn send(&self, facts: &[Sealed]) -> Result<(), ReplayError> {
        let mut open = VecDeque::with_capacity(facts.len());
        for fact in facts {
            let delivery = self.begin(fact, &mut open).await?;
            open.push_back(delivery);
        }
        for delivery in open {
            confirmed(delivery).await?;
        }
        Ok(())
    }

    /// Hands a fact to the client; when that is full, waits for the oldest of those on their way.
    async fn begin(
        &self,
        fact: &Sealed,
        open: &mut VecDeque<DeliveryFuture>,
    ) -> Result<DeliveryFuture, ReplayError> {
        let mut record = FutureRecord::to(&self.topic)
            .partition(fact.lane.number().into())
            .key(&fact.subject)
            .payload(&fact.payload)
            .timestamp(fact.recorded_at.timestamp_millis())
            .headers(to_headers(fact, self.log_id));
        loop {
            match self.producer.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    let Some(oldest) = open.pop_front() else {
                        return Err(ReplayError::Unconfirmed);
                    };
                    confirmed(oldest).await?;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}

async fn confirmed(delivery: DeliveryFuture) -> Result<(), ReplayError> {
    match delivery.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(error.into()),
        Err(_) => Err(ReplayError::Unconfirmed),
    }
}

/// A relay is known by its marker: `PREFIX.facts` belongs to one where `PREFIX.relay` exists.
async fn refuse_relays(kafka: &Kafka, topic: &str) -> Result<(), ReplayError> {
    let own = || ReplayError::RelaysOwn(topic.to_owned());
    if topic == kafka.facts_topic() || topic == kafka.relay_topic() {
        return Err(own());
    }
    let Some(prefix) = topic.strip_suffix(".facts") else {
        return Ok(());
    };
    let (client, marker) = (kafka.reader("replay"), format!("{prefix}.relay"));
    let there = asking(move || {
        let client: BaseConsumer<Readers> = client.create_with_context(Readers)?;
        let metadata = client.fetch_metadata(Some(&marker), ASK_LIMIT)?;
        let topic = metadata.topics().first();
        Ok(topic.is_some_and(|topic| !topic.partitions().is_empty()))
    });
    if there.await? { Err(own()) } else { Ok(()) }
}
