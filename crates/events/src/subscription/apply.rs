//! Taking facts in: one transaction for a batch and its checkpoints.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use service::db;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

use super::checkpoint::{self, Advance, Step};
use super::{Subscriber, park};
use crate::envelope::Sealed;
use crate::failpoint;
use crate::store::{Keys, LogError, read_open};
use crate::upcast::{self, ReadError};

/// Why facts were not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The log or the subscriber's tables did not answer as they should.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The subscriber's code broke.
    #[error("the code that takes facts in broke: {0}")]
    Panicked(String),
}

impl From<sqlx::Error> for ApplyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

impl ApplyError {
    /// Whether a fact is at fault, and not its surroundings: it will not be taken in however often it is tried.
    pub(super) fn is_poison(&self) -> bool {
        match self {
            Self::Panicked(_) => true,
            Self::Log(LogError::Unreadable(error)) => {
                // A newer program reads these.
                !matches!(error, ReadError::Newer { .. } | ReadError::Chain(_))
            }
            Self::Log(LogError::Postgres(error)) => is_data_error(error),
            Self::Log(_) => false,
        }
    }
}

fn is_data_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("22") || code.starts_with("23")),
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

/// A transaction in which the subscriber finds its tables. Checkpoint and rows share it: losing its tail in a crash loses both.
pub async fn begin(
    subscriber: &dyn Subscriber,
    pool: &PgPool,
) -> sqlx::Result<Transaction<'static, Postgres>> {
    let schema = subscriber.schema().unwrap_or("public");
    // One round trip; the name of a schema is ours. Rows are found by their keys: a plan that was made while a table was
    // small, and is kept, must not read all of one that has grown.
    let begin = format!(
        "SET LOCAL synchronous_commit = off; SET LOCAL enable_seqscan = off; SET LOCAL search_path = {schema}, public; BEGIN"
    );
    db::begin(pool, AssertSqlSafe(begin)).await
}

/// One batch, one transaction: the checkpoints first, then what the facts mean. When the checkpoints do not move, nothing
/// has happened. Where the facts mean nothing, that is one statement.
pub(super) async fn apply(
    subscriber: &dyn Subscriber,
    pool: &PgPool,
    keys: &Keys,
    steps: &[Step],
    mut facts: Vec<Sealed>,
) -> Result<Advance, ApplyError> {
    if !facts.iter().any(|fact| concerns(subscriber, fact)) {
        let mut connection = pool.acquire().await?;
        let (advance, _) = checkpoint::advance(&mut connection, subscriber.name(), steps).await?;
        return Ok(advance);
    }
    let mut tx = begin(subscriber, pool).await?;
    let (advance, parked) = checkpoint::advance(&mut tx, subscriber.name(), steps).await?;
    if advance != Advance::Done {
        return Ok(advance);
    }
    if parked {
        park::set_aside(&mut tx, subscriber.name(), steps, &mut facts).await?;
    }
    take_in(subscriber, keys, &mut tx, facts).await?;
    failpoint::hit("subscription.before_commit");
    tx.commit().await?;
    failpoint::hit("subscription.after_commit");
    Ok(Advance::Done)
}

/// Whether anything may follow from a fact; what cannot be read is found out where it is taken in.
fn concerns(subscriber: &dyn Subscriber, fact: &Sealed) -> bool {
    upcast::decode(&fact.fact_type, fact.schema_version, &fact.payload)
        .map_or(true, |fact| subscriber.handles(&fact))
}

/// Writes what facts mean.
pub(super) async fn take_in(
    subscriber: &dyn Subscriber,
    keys: &Keys,
    tx: &mut PgConnection,
    stored: Vec<Sealed>,
) -> Result<(), ApplyError> {
    let facts = read_open(keys, tx, stored, |fact| subscriber.handles(fact)).await?;
    if facts.is_empty() {
        return Ok(());
    }
    // Whatever it was about, the transaction is rolled back.
    let applied = AssertUnwindSafe(subscriber.apply(&facts, tx)).catch_unwind();
    match applied.await {
        Ok(applied) => Ok(applied?),
        Err(panic) => Err(ApplyError::Panicked(said(panic.as_ref()))),
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it said nothing".to_owned())
}
