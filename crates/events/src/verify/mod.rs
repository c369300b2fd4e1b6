//! Is the log whole? Compares everything that is kept twice: positions with themselves, streams with their facts, the
//! topic with Postgres. Looks only, and holds no more than a digest per lane and stretch of positions.

mod difference;
mod digest;
mod facts;
mod streams;
mod topic;

use rdkafka::error::KafkaError;
use sqlx::{Connection, PgConnection};

pub use difference::{Difference, Differences};

use crate::id::Position;
use crate::log::Kafka;
use crate::store::{Bounds, LogError, bounds};

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Postgres did not answer as it should.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Kafka did not answer as it should.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
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
    /// Streams whose beginning is in the archive: their versions were compared, their states were not.
    pub archived_streams: u64,
    /// Streams whose facts all are in the archive: not compared.
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

/// Compares from position `from` on. `connection` must see everything and have no limit on its statements; it reads in
/// one snapshot, so appends may go on. `progress` is told how many facts have been looked at.
pub async fn log(
    connection: &mut PgConnection,
    kafka: Option<&Kafka>,
    from: Position,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, VerifyError> {
    let mut differences = Differences::default();
    let log_id = bounds(&mut *connection).await?.log_id;
    // Asked before the snapshot is taken: what it names, the snapshot must have.
    let marker = match kafka {
        Some(kafka) => topic::relayed(kafka, log_id, &mut differences).await?,
        None => None,
    };
    let mut tx = connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let Bounds { floor, head, .. } = bounds(&mut *tx).await?;
    let floor = Position(floor);
    let mut report = Report {
        first: from.max(floor),
        head,
        differences,
        ..Report::default()
    };
    let upto = marker.unwrap_or_default();
    let postgres = facts::scan(&mut tx, upto, &mut report, progress).await?;
    streams::scan(&mut tx, floor, &mut report, progress).await?;
    if let Some(kafka) = kafka {
        let topic = topic::Topic {
            kafka,
            log_id,
            first: report.first,
            marker,
            upto,
        };
        topic.compare(&postgres, &mut tx, &mut report).await?;
    }
    tx.rollback().await?;
    Ok(report)
}
