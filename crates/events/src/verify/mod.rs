//! Is the log whole? Compares everything that is kept twice: positions with themselves, streams with their facts, the
//! topic with Postgres. Looks only, and holds no more than a digest per lane and stretch of positions, and one lane's
//! archived streams.

mod archived;
mod difference;
mod digest;
mod facts;
mod streams;
mod topic;

use rdkafka::error::KafkaError;
use sqlx::{Connection, PgConnection};

pub use difference::{Difference, Differences};

use self::archived::Archived;
use self::facts::Facts;
use crate::archive::Archive;
use crate::id::Position;
use crate::log::{Kafka, TopicError};
use crate::store::{Bounds, LogError, bounds};
use crate::subscription::ahead;

/// The most checkpoints that are named.
const MOST_AHEAD: i64 = 64;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Postgres did not answer as it should.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Kafka did not answer as it should.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The first position to be looked at does not exist yet.
    #[error(
        "there is no position {from}: the log ends at {head}. If it was longer, facts are lost: verify all of it, without --from"
    )]
    Beyond {
        /// The position asked for.
        from: Position,
        /// The last one.
        head: Position,
    },
    /// There is nothing to compare with.
    #[error("there is no topic {0}: is TOPIC_PREFIX the relay's? Has a relay been started?")]
    NoTopic(String),
    /// The topic cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A file that holds the archive's facts meanwhile.
    #[error("a temporary file in TMPDIR: {0}")]
    Io(#[from] std::io::Error),
}

impl From<sqlx::Error> for VerifyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// What was compared, and what was found.
#[derive(Debug, Default)]
pub struct Report {
    /// The first position looked at.
    pub first: Position,
    /// The last position in the log at the start.
    pub head: Position,
    /// Facts read from Postgres.
    pub facts: u64,
    /// Of them, facts of types that this program does not know.
    pub unknown: u64,
    /// Streams compared with what their facts fold to.
    pub streams: u64,
    /// Streams whose beginning is in an archive that was not read: their versions were compared, their states were not.
    pub archived_streams: u64,
    /// Streams whose facts all are in an archive that was not read: not compared.
    pub absent_streams: u64,
    /// What was compared with the topic, where there is one.
    pub topic: Option<TopicReport>,
    /// What should not be.
    pub differences: Differences,
}

/// What was compared with the topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicReport {
    /// Facts that both must hold: up to the relay's marker.
    pub upto: Position,
    /// Records read.
    pub records: u64,
    /// Stretches of lanes whose digests were compared.
    pub stretches: u64,
}

/// Compares from position `from` on: what lies below the log's floor from its `archive`, without one not at all.
/// `connection` must see everything and have no limit on its statements; it reads in one snapshot, so appends may go on.
/// `progress` is told how many facts have been looked at.
pub async fn log(
    connection: &mut PgConnection,
    archive: Option<Archive>,
    kafka: Option<&Kafka>,
    from: Position,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, VerifyError> {
    let mut differences = Differences::default();
    let before = bounds(&mut *connection).await?;
    let log_id = before.log_id;
    if from > before.head.next() {
        let head = before.head;
        return Err(VerifyError::Beyond { from, head });
    }
    // Asked before the snapshot is taken: what it names, the snapshot must have.
    let marker = match kafka {
        Some(kafka) => topic::relayed(kafka, log_id, &mut differences).await?,
        None => None,
    };
    let mut report = Report {
        first: from,
        differences,
        ..Report::default()
    };
    let upto = marker.unwrap_or_default();
    let mut facts = Facts::new(upto, &mut report, progress);
    let archive = archive.filter(|_| from.0 < before.floor);
    let mut archived = None;
    // Before the snapshot, which keeps old rows alive, and then what has left Postgres meanwhile.
    if let Some(archive) = &archive {
        let begun = Archived::new(archive.clone())?;
        archived = Some(begun.read_to(Position(before.floor), &mut facts).await?);
    }
    let mut tx = connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let Bounds { floor, head, .. } = bounds(&mut *tx).await?;
    let floor = Position(floor);
    match archived.take() {
        Some(before) => archived = Some(before.read_to(floor, &mut facts).await?),
        None => facts.begin_at(from.max(floor)),
    }
    facts.scan(&mut tx, floor.max(from)).await?;
    edges(&mut tx, floor, &mut facts).await?;
    let postgres = facts.digests;
    report.head = head;
    streams::Scan {
        floor,
        report: &mut report,
        progress,
    }
    .run(&mut tx, archived)
    .await?;
    if let Some(kafka) = kafka {
        let topic = topic::Topic {
            kafka,
            log_id,
            first: report.first,
            marker,
            upto,
            archive,
            floor,
        };
        topic.compare(&postgres, &mut tx, &mut report).await?;
    }
    tx.rollback().await?;
    Ok(report)
}

/// Whether the log begins where the archive ends, and no subscription knows more than the log.
async fn edges(
    connection: &mut PgConnection,
    floor: Position,
    facts: &mut Facts<'_>,
) -> Result<(), VerifyError> {
    let archived: Position =
        sqlx::query_scalar("SELECT COALESCE(max(position), 0) FROM log.archived")
            .fetch_one(&mut *connection)
            .await?;
    if archived.next() != floor {
        facts.found(Difference::Floor { floor, archived });
    }
    for (subscription, lane, position) in ahead(connection, floor, MOST_AHEAD).await? {
        facts.found(Difference::Ahead {
            subscription,
            lane,
            position,
        });
    }
    Ok(())
}
