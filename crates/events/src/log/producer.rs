//! The transactional producer. Every call here blocks; the relay makes them on a thread for that.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use uuid::Uuid;

use super::marker::{self, Marker};
use super::{ASK_LIMIT, Kafka, MAX_RECORD_BYTES, to_headers};
use crate::envelope::Sealed;
use crate::failpoint;

/// The brokers abort a transaction that is open for longer: a relay that hangs must not hold readers up.
const TRANSACTION_LIMIT: Duration = Duration::from_secs(10);

/// The one producer that may write the topics: starting it shuts every earlier one out.
pub(super) struct Producer {
    kafka: BaseProducer,
    log_id: Uuid,
    facts: String,
    markers: String,
}

/// How often it is looked whether the brokers have everything.
const LOOK: Duration = Duration::from_micros(200);

impl Producer {
    /// Starts and fences. When this returns, every transaction of an earlier producer is committed or aborted for good.
    pub(super) fn start(kafka: &Kafka, log_id: Uuid) -> KafkaResult<Self> {
        let producer: BaseProducer = kafka
            .client()
            .set("transactional.id", kafka.relay_topic())
            .set(
                "transaction.timeout.ms",
                TRANSACTION_LIMIT.as_millis().to_string(),
            )
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "1")
            .set("message.max.bytes", MAX_RECORD_BYTES)
            .create()?;
        failpoint::hit("relay.before_init");
        producer.init_transactions(ASK_LIMIT)?;
        Ok(Self {
            kafka: producer,
            log_id,
            facts: kafka.facts_topic(),
            markers: kafka.relay_topic(),
        })
    }

    /// Writes `batch` and the marker after it: all of it becomes visible, or nothing. After an error nobody knows
    /// which, so this producer is used up: the next one reads the marker.
    pub(super) fn transact(&self, batch: &[Sealed]) -> KafkaResult<()> {
        let Some(last) = batch.last() else {
            return Ok(());
        };
        let deadline = Instant::now() + TRANSACTION_LIMIT;
        self.kafka.begin_transaction()?;
        for fact in batch {
            let record = BaseRecord::to(&self.facts)
                .partition(fact.lane.number().into())
                .key(&fact.subject)
                .payload(&fact.payload)
                .timestamp(fact.recorded_at.timestamp_millis())
                .headers(to_headers(fact, self.log_id));
            self.kafka.send(record).map_err(|(error, _)| error)?;
        }
        let marker = serde_json::to_string(&Marker::after(self.log_id, last))
            .expect("a marker has no map keys");
        let record = BaseRecord::to(&self.markers)
            .partition(0)
            .key(marker::KEY)
            .payload(&marker);
        self.kafka.send(record).map_err(|(error, _)| error)?;
        self.deliver(deadline)?;
        failpoint::hit("relay.before_commit");
        self.commit(deadline)?;
        failpoint::hit("relay.after_commit");
        Ok(())
    }

    /// Waits for the brokers to have everything. The client's own flush polls in steps of 100 ms, too long for one fact, and its
    /// poll takes all of its time, the last millisecond of it without sleeping.
    fn deliver(&self, deadline: Instant) -> KafkaResult<()> {
        while self.kafka.in_flight_count() > 0 {
            if Instant::now() >= deadline {
                return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
            }
            self.kafka.poll(Duration::ZERO);
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn commit(&self, deadline: Instant) -> KafkaResult<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.kafka.commit_transaction(left) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && !left.is_zero() => {}
                done => return done,
            }
        }
    }
}
