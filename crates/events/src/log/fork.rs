//! One log becomes another: what Postgres holds goes on under a new id, and into a new topic.
//!
//! For when Postgres was restored to an older state and facts were appended since, or when what only the topic has is
//! not wanted back. Who holds on to the old id (position tokens, exports, consumers) is refused from then on, instead of
//! being told half of one history and half of the other.

use rdkafka::error::KafkaError;
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::check::Survey;
use super::import::allow_appends;
use super::{Kafka, TopicError, asking, lock, topic};
use crate::id::Position;
use crate::subscription::ahead;

/// Why the log is not forked.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// The new log's topic has something in it.
    #[error(
        "topic {topic} holds records, and a fork begins with an empty one: set TOPIC_PREFIX to a name that was never used, for \
         this command and for every process after it"
    )]
    TopicInUse {
        /// The topic.
        topic: String,
    },
    /// The archive would stay the old log's.
    #[error(
        "this log begins at position {floor}, and what is older is in the archive, which is the old log's: neither a new topic nor \
         read models could be filled from the beginning. Restore this backup once more and run `cinelog log import` before \
         anything is appended, or restore one from before the archiving"
    )]
    Archived {
        /// The lowest position in Postgres.
        floor: Position,
    },
    /// A relay works on this log.
    #[error("a relay works on this log: stop every `cinelog relay`, then fork again")]
    RelayRuns,
    /// The caller means another log.
    #[error(
        "this is log {found}, not {meant}: run `cinelog log fork` without --of to see what it would do"
    )]
    AnotherLog {
        /// The log in Postgres.
        found: Uuid,
        /// The one that was named.
        meant: Uuid,
    },
    /// A subscription was not restored together with the log.
    #[error(
        "subscription {subscription} has taken in position {position} in lane {lane}, and the log holds no such fact: read \
         models were restored from another backup than the log. Restore the database as a whole"
    )]
    Ahead {
        /// The subscription.
        subscription: String,
        /// The lane.
        lane: i16,
        /// How far it has come.
        position: Position,
    },
    /// The topics cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Kafka did not answer as it should.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Postgres did not answer as it should.
    #[error("the log in Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
}

/// A log, as far as forking is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Forkable {
    /// Which log it is.
    pub log_id: Uuid,
    /// Which one it was before it was forked.
    pub forked_from: Option<Uuid>,
    /// The lowest position in Postgres.
    pub floor: Position,
    /// The last position.
    pub head: Position,
}

/// Looks whether the log can be forked into the topics of `kafka`; changes nothing. `pool` is the owner's.
pub async fn forkable(pool: &PgPool, kafka: Option<&Kafka>) -> Result<Forkable, ForkError> {
    let mut connection = pool.acquire().await?;
    let log = look(&mut connection).await?;
    check(&mut connection, log).await?;
    if let Some(kafka) = kafka {
        check_topics(kafka, log).await?;
    }
    Ok(log)
}

/// Makes the log `of` another, and gives the new one. Repeated, it finds itself done.
pub async fn fork(pool: &PgPool, kafka: Option<&Kafka>, of: Uuid) -> Result<Forkable, ForkError> {
    let mut connection = pool.acquire().await?;
    let log = look(&mut connection).await?;
    if log.forked_from == Some(of) {
        return Ok(log);
    }
    if let Some(kafka) = kafka {
        check_topics(kafka, log).await?;
    }
    let mut tx = connection.begin().await?;
    for sql in [
        "SET LOCAL lock_timeout = '10s'",
        "SET LOCAL ROLE cinelog_log_owner",
        // Whoever asks from now on which log this is waits for the answer.
        "LOCK TABLE log.log IN ACCESS EXCLUSIVE MODE",
    ] {
        sqlx::query(sql).execute(&mut *tx).await?;
    }
    let log = look(&mut tx).await?;
    if log.log_id != of {
        let (found, meant) = (log.log_id, of);
        return Err(ForkError::AnotherLog { found, meant });
    }
    sqlx::query("UPDATE log.log SET log_id = gen_random_uuid(), forked_from = log_id")
        .execute(&mut *tx)
        .await?;
    // An import that was begun is given up.
    allow_appends(&mut tx).await?;
    sqlx::query("SET LOCAL ROLE NONE").execute(&mut *tx).await?;
    check(&mut tx, log).await?;
    // Offsets are of the old topic.
    sqlx::query("UPDATE subscription.checkpoints SET kafka_offset = 0 WHERE kafka_offset <> 0")
        .execute(&mut *tx)
        .await?;
    let forked = look(&mut tx).await?;
    tx.commit().await?;
    Ok(forked)
}

async fn look(connection: &mut PgConnection) -> Result<Forkable, sqlx::Error> {
    sqlx::query_as(
        "SELECT log_id, forked_from, floor,
                COALESCE((SELECT position FROM log.events ORDER BY position DESC LIMIT 1), floor - 1) AS head
         FROM log.log",
    )
    .fetch_one(connection)
    .await
}

/// No relay may go on under the old id, and nobody may know facts that the log does not hold.
async fn check(connection: &mut PgConnection, log: Forkable) -> Result<(), ForkError> {
    if log.floor > Position::START.next() {
        return Err(ForkError::Archived { floor: log.floor });
    }
    if lock::somebody_relays(connection).await? {
        return Err(ForkError::RelayRuns);
    }
    match ahead(connection, log.floor, 1).await?.pop() {
        Some((subscription, lane, position)) => Err(ForkError::Ahead {
            subscription,
            lane,
            position,
        }),
        None => Ok(()),
    }
}

/// The topics must be empty, or not be there yet: the relay makes them.
async fn check_topics(kafka: &Kafka, log: Forkable) -> Result<(), ForkError> {
    let (facts, markers) = (kafka.facts_topic(), kafka.relay_topic());
    if topic::partitions(kafka, &facts).await? + topic::partitions(kafka, &markers).await? == 0 {
        return Ok(());
    }
    topic::ensure(kafka).await?;
    let asked = kafka.clone();
    let survey = asking(move || Survey::take(&asked)).await?;
    if survey.position().is_some() || survey.judge(log.log_id, log.floor, None).is_err() {
        return Err(ForkError::TopicInUse { topic: facts });
    }
    Ok(())
}
