//! After Postgres was restored to an older state: what only the topic has, taken back at its own positions.
//!
//! Possible as long as nothing was appended since: then the topic is the log's continuation. The facts come back with
//! their ids, times and versions, and streams with what they fold to. What no record carries stays lost: which commands
//! were accepted, and keys of persons. Before anything is written, all of it is read once and judged.

mod merge;
mod tail;
mod write;

pub(super) use write::allow_appends;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rdkafka::error::KafkaError;
use service::shutdown::Shutdown;
use sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc;

use super::check::{Refusal, Survey};
use super::lock::Lock;
use super::producer::Producer;
use super::{Kafka, TopicError, asking, blocking, topic};
use crate::envelope::Sealed;
use crate::fact::Fact;
use crate::id::{EventId, Position, TenantId, UserId};
use crate::store::{Bounds, LogError};
use crate::upcast::{self, ReadError};
use tail::Stretch;

/// Facts in one transaction.
const BATCH: usize = 5_000;
/// And bytes of payloads.
const BATCH_BYTES: usize = 8 << 20;
/// How long a relay may take to let go of its lock: one that was refused lets go at once.
const RELAY_LIMIT: Duration = Duration::from_secs(10);

/// Why nothing, or nothing more, is imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The topics and Postgres do not belong together.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is nothing to import from.
    #[error("there is no topic {topic}: is TOPIC_PREFIX the one that this log was relayed to?")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// A relay works on these topics.
    #[error(
        "a relay holds the lock of these topics: stop every `cinelog relay`, then run `cinelog log import` again"
    )]
    RelayRuns,
    /// Postgres grew.
    #[error(
        "something was appended while this looked, Postgres now ends at position {position}: stop whatever appends and run \
         `cinelog log import` again; where it refuses then, TOPIC_PREFIX=NEW `cinelog log fork` is the way"
    )]
    Appended {
        /// Where Postgres ends now.
        position: Position,
    },
    /// The topic is not whole.
    #[error(
        "position {missing} is missing from the topic, so it cannot be imported: go on with TOPIC_PREFIX=NEW \
         `cinelog log fork`, or restore a newer backup"
    )]
    Gap {
        /// The position.
        missing: Position,
    },
    /// Something else wrote to the topic.
    #[error(
        "the record at offset {offset} of partition {partition} is no fact that belongs there: {reason}. Go on with \
         TOPIC_PREFIX=NEW `cinelog log fork`, or restore a newer backup"
    )]
    Strange {
        /// The partition.
        partition: i32,
        /// Where in it.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
    /// A fact does not read here.
    #[error(
        "the fact at position {position} does not read: {reason}. Use the program that wrote it, or a newer one"
    )]
    Unreadable {
        /// The position.
        position: Position,
        /// Why.
        reason: ReadError,
    },
    /// A fact does not continue its stream.
    #[error(
        "the fact at position {position} does not continue stream {stream}, which is at version {version}: Postgres is not an \
         older state of this topic's log; run `cinelog verify`"
    )]
    Stream {
        /// The fact's position.
        position: Position,
        /// Its stream.
        stream: String,
        /// The stream's version in Postgres.
        version: i64,
    },
    /// Facts could not be read after the import, by nobody and never.
    #[error(
        "{facts} facts hold texts of {persons} persons whose keys are not in this backup. Restore a newer one beside this \
         database and copy the rows of log.person_keys that are missing here (ON CONFLICT DO NOTHING), or give those texts \
         up with `cinelog log import --without-keys`: those persons then count as erased"
    )]
    KeysLost {
        /// Facts with texts.
        facts: u64,
        /// Persons.
        persons: usize,
    },
    /// It was told to end.
    #[error(
        "stopped before it was done: run `cinelog log import` again, nothing can be appended until then"
    )]
    Stopped,
    /// The topics cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Kafka did not answer as it should.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<sqlx::Error> for ImportError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// What was imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Where Postgres ended before.
    pub after: Position,
    /// Where it ends now.
    pub upto: Position,
    /// Facts among them with texts that nobody can read any more.
    pub unreadable: u64,
    /// Persons whose texts those are; they count as erased now.
    pub persons: usize,
}

/// The last fact in Postgres.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
struct Head {
    position: Position,
    event_id: EventId,
    recorded_at: DateTime<Utc>,
}

/// Whose texts.
type Person = (TenantId, UserId);

/// Who is concerned by what is imported.
#[derive(Debug, Default)]
struct Persons {
    /// Facts that hold texts, by person.
    texts: BTreeMap<Person, u64>,
    /// Erased since the backup, which still has their keys.
    erased: BTreeSet<Person>,
}

/// Imports what is behind Postgres' end, up to the relay's marker. `pool` is the owner's. Can be repeated, and goes on
/// where it was; from the first batch to the last, nothing can be appended. Persons without a key are refused unless
/// `without_keys`. `progress` is told the position reached.
pub async fn import(
    pool: &PgPool,
    kafka: &Kafka,
    without_keys: bool,
    progress: &(dyn Fn(Position) + Sync),
    shutdown: &Shutdown,
) -> Result<Imported, ImportError> {
    let taken = Lock::take(pool, &kafka.prefix, |_| {}, shutdown);
    let mut lock = tokio::time::timeout(RELAY_LIMIT, taken)
        .await
        .map_err(|_| ImportError::RelayRuns)??
        .ok_or(ImportError::Stopped)?;
    let imported = tokio::select! {
        imported = locked(&mut lock, pool, kafka, without_keys, progress) => imported,
        () = shutdown.cancelled() => Err(ImportError::Stopped),
    };
    lock.release().await;
    imported
}

async fn locked(
    lock: &mut Lock,
    pool: &PgPool,
    kafka: &Kafka,
    without_keys: bool,
    progress: &(dyn Fn(Position) + Sync),
) -> Result<Imported, ImportError> {
    let mut connection = pool.acquire().await?;
    let topic = find(lock, &mut connection, kafka).await?;
    let (after, upto) = (topic.after, topic.stretch.last);
    if upto <= after {
        return Ok(Imported {
            after,
            upto: after,
            ..Imported::default()
        });
    }
    let Persons { texts, erased } = topic.judge().await?;
    let mut lost = write::without_key(&mut connection, texts.keys().copied()).await?;
    lost.retain(|person| !erased.contains(person));
    let unreadable = lost.iter().filter_map(|person| texts.get(person)).sum();
    if !lost.is_empty() && !without_keys {
        return Err(ImportError::KeysLost {
            facts: unreadable,
            persons: lost.len(),
        });
    }
    let gone: Vec<Person> = erased.into_iter().chain(lost.iter().copied()).collect();
    write::fence(&mut connection, after, &gone).await?;
    topic.write(&mut connection, progress).await?;
    Ok(Imported {
        after,
        upto,
        unreadable,
        persons: lost.len(),
    })
}

/// Where Postgres ends, and where the topic.
async fn find(
    lock: &mut Lock,
    connection: &mut PgConnection,
    kafka: &Kafka,
) -> Result<Topic, ImportError> {
    let topic = kafka.facts_topic();
    if topic::partitions(kafka, &topic).await? == 0 {
        return Err(ImportError::NoTopic { topic });
    }
    topic::ensure(kafka).await?;
    let Bounds { log_id, floor, .. } = lock.log().await?;
    let floor = Position(floor);
    let asked = kafka.clone();
    // Fenced first: whatever an earlier relay had under way is settled before the topic's end is looked at.
    let survey = asking(move || {
        let _fence = Producer::start(&asked, log_id)?;
        Survey::take(&asked)
    })
    .await?;
    let in_postgres = match survey.position() {
        Some(position) => lock.event_at(position).await?,
        None => None,
    };
    let head = write::head(connection).await?;
    let last = match survey.judge(log_id, floor, in_postgres) {
        // Nothing is missing from Postgres.
        Ok(position) => position,
        Err(Refusal::PostgresBehind { position }) => {
            survey.ends_with_marker()?;
            position
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let after = head.map_or(Position(floor.0 - 1), |head| head.position);
    Ok(Topic {
        kafka: kafka.clone(),
        head,
        after,
        stretch: Stretch {
            log_id,
            first: after.next(),
            last,
            since: head.map(|head| head.recorded_at.timestamp_millis()),
        },
    })
}

/// The topic behind Postgres' end.
struct Topic {
    kafka: Kafka,
    head: Option<Head>,
    /// Where Postgres ends.
    after: Position,
    stretch: Stretch,
}

impl Topic {
    /// Reads all of it, from Postgres' own last fact on: is it that log's continuation, whole and readable?
    async fn judge(&self) -> Result<Persons, ImportError> {
        let (kafka, head, mut stretch) = (self.kafka.clone(), self.head, self.stretch);
        if let Some(head) = head {
            stretch.first = head.position;
        }
        let judged = judge_stretch(kafka.clone(), head, stretch).await;
        match (judged, head) {
            // Not where Postgres' own last fact must be, if it is in the topic at all. Another fact there was recorded
            // before; it is told by its id.
            (Err(ImportError::Gap { missing }), Some(own)) if missing == own.position => {
                stretch.since = None;
                judge_stretch(kafka, head, stretch).await
            }
            (judged, _) => judged,
        }
    }

    /// Reads it once more and writes it, batch by batch.
    async fn write(
        &self,
        connection: &mut PgConnection,
        progress: &(dyn Fn(Position) + Sync),
    ) -> Result<(), ImportError> {
        let (sender, mut receiver) = mpsc::channel(1);
        let (kafka, stretch) = (self.kafka.clone(), self.stretch);
        let reading = blocking(move || read_batches(&kafka, stretch, &sender));
        let writing = async move {
            let mut head = self.after;
            while let Some(batch) = receiver.recv().await {
                let Some(last) = batch.last().map(|fact: &Sealed| fact.position) else {
                    continue;
                };
                write::batch(connection, head, &batch, last == stretch.last).await?;
                head = last;
                progress(head);
            }
            Ok(())
        };
        tokio::try_join!(reading, writing).map(drop)
    }
}

async fn judge_stretch(
    kafka: Kafka,
    head: Option<Head>,
    stretch: Stretch,
) -> Result<Persons, ImportError> {
    blocking(move || {
        let (mut persons, mut judged) = (Persons::default(), Ok(()));
        tail::read(&kafka, stretch, |fact| {
            judged = judge(&fact, head, &mut persons);
            match judged {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        judged.map(|()| persons)
    })
    .await
}

/// Takes a fact in; an error when it is another than Postgres has at its place, or does not read.
fn judge(fact: &Sealed, head: Option<Head>, persons: &mut Persons) -> Result<(), ImportError> {
    let position = fact.position;
    if let Some(head) = head.filter(|head| head.position == position) {
        if head.event_id == fact.event_id {
            return Ok(());
        }
        let (postgres, kafka) = (head.event_id, fact.event_id);
        return Err(Refusal::TwoHistories {
            position,
            postgres,
            kafka,
        }
        .into());
    }
    let read = upcast::decode(&fact.fact_type, fact.schema_version, &fact.payload);
    let read = read.map_err(|reason| ImportError::Unreadable { position, reason })?;
    if read.has_personal() {
        let person = (fact.tenant, fact.meta.actor);
        *persons.texts.entry(person).or_default() += 1;
    }
    if let Fact::UserErased(erased) = read {
        persons.erased.insert((fact.tenant, erased.user));
    }
    Ok(())
}

/// Hands the facts on in batches, until nobody takes them any more. Blocks.
fn read_batches(
    kafka: &Kafka,
    stretch: Stretch,
    sender: &mpsc::Sender<Vec<Sealed>>,
) -> Result<(), ImportError> {
    let (mut batch, mut bytes) = (vec![], 0);
    tail::read(kafka, stretch, |fact| {
        bytes += fact.payload.len();
        let done = fact.position == stretch.last;
        batch.push(fact);
        if !done && batch.len() < BATCH && bytes < BATCH_BYTES {
            return ControlFlow::Continue(());
        }
        bytes = 0;
        match sender.blocking_send(std::mem::take(&mut batch)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })
}
