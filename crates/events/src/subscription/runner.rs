//! The loop: lanes → facts → one transaction per batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use service::retry::Backoff;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use tokio::sync::watch;

use super::checkpoint::{self, Advance, Step};
use super::{Subscriber, lease};
use crate::envelope::Sealed;
use crate::failpoint;
use crate::id::{Lane, Position};
use crate::metrics::{APPLY_FAILED, FACTS_APPLIED};
use crate::source::{Source, SourceError};
use crate::store::{Keys, LogError, bounds, read_open};
use crate::upcast;

/// How a runner works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most facts in one transaction.
    pub batch: usize,
    /// How long one transaction may take before it is given up and tried again.
    pub apply_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: 1000,
            apply_limit: Duration::from_mins(1),
        }
    }
}

/// Why a batch did not take effect.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error("another process moved a checkpoint")]
    Lost,
    #[error(
        "the topic holds a fact at position {0} that Postgres does not: a restored backup? Nothing is applied until \
         Postgres has it (`cinelog log import`), or TOPIC_PREFIX names a topic of this log (`cinelog log fork`)"
    )]
    TopicAhead(Position),
    #[error(
        "the checkpoint of lane {lane} stands at position {after} and the log ends at {head}: was the log restored without its \
         read models? Restore the database as a whole, or build the read model anew"
    )]
    Ahead {
        lane: Lane,
        after: Position,
        head: Position,
    },
    #[error("the batch took too long")]
    TooSlow,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl From<sqlx::Error> for BatchError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// Runs one subscriber in this process.
pub struct Runner {
    subscriber: Arc<dyn Subscriber>,
    pool: PgPool,
    source: Source,
    keys: Keys,
    options: Options,
    /// Where each lane of ours is.
    at: BTreeMap<Lane, Position>,
    /// The most facts in the next batch: halved after a failure, so that one fact, or too many, cannot hold up the rest for
    /// ever; doubled after a success.
    most: usize,
}

impl Runner {
    /// A runner that reads `source` and writes through `pool`.
    pub fn new(
        subscriber: Arc<dyn Subscriber>,
        pool: PgPool,
        source: Source,
        keys: Keys,
        options: Options,
    ) -> Self {
        Self {
            subscriber,
            pool,
            source,
            keys,
            most: options.batch,
            options,
            at: BTreeMap::new(),
        }
    }

    /// Runs until `shutdown`. Failures are told and tried again; nothing is ever skipped.
    pub async fn run(mut self, shutdown: &Shutdown) {
        let name = self.subscriber.name().to_owned();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        while let Err(error) = self.prepare(&name).await {
            tracing::warn!(subscription = name, %error, "the subscription cannot start yet");
            if !shutdown.sleep(backoff.next_wait()).await {
                return;
            }
        }
        let mut lanes = lease::keep(self.pool.clone(), name.clone(), shutdown);
        lanes.mark_changed();
        while !shutdown.is_cancelled() {
            match self.step(&mut lanes, shutdown).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    counter!(APPLY_FAILED, "subscription" => name.clone()).increment(1);
                    match error {
                        BatchError::Lost => tracing::info!(subscription = name, "{error}"),
                        _ => {
                            tracing::error!(subscription = name, %error, "a batch was not applied; it is tried again");
                        }
                    }
                    self.most = (self.most / 2).max(1);
                    // Reading begins again at the checkpoints: what was read and not applied is read anew.
                    lanes.mark_changed();
                    shutdown.sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    async fn prepare(&self, name: &str) -> Result<(), LogError> {
        upcast::check()?;
        Ok(checkpoint::prepare(&self.pool, name).await?)
    }

    async fn step(
        &mut self,
        lanes: &mut watch::Receiver<Vec<Lane>>,
        shutdown: &Shutdown,
    ) -> Result<(), BatchError> {
        if lanes.has_changed().unwrap_or(false) {
            let mine = lanes.borrow_and_update().clone();
            let starts = checkpoint::load(&self.pool, self.subscriber.name(), &mine).await?;
            // Read after the checkpoints, so no less than they may name.
            let head = bounds(&self.pool).await?.head;
            if let Some(start) = starts.iter().find(|start| start.after > head) {
                let (lane, after) = (start.lane, start.after);
                return Err(BatchError::Ahead { lane, after, head });
            }
            self.at = starts
                .iter()
                .map(|start| (start.lane, start.after))
                .collect();
            self.source.assign(starts).await?;
        }
        let batch = tokio::select! {
            batch = self.source.next(self.most, Duration::from_secs(1)) => batch?,
            _ = lanes.changed() => {
                // Dropped mid-way: the source may have lost facts, so it is assigned anew.
                lanes.mark_changed();
                return Ok(());
            }
            () = shutdown.cancelled() => return Ok(()),
        };
        if batch.is_empty() {
            return Ok(());
        }
        let applied = tokio::time::timeout(self.options.apply_limit, self.apply(batch)).await;
        applied.unwrap_or(Err(BatchError::TooSlow))
    }

    async fn apply(&mut self, batch: Vec<(Sealed, i64)>) -> Result<(), BatchError> {
        let facts = batch.iter().map(|(fact, offset)| (fact, *offset));
        let steps = checkpoint::steps(&self.at, facts);
        let count = batch.len() as u64;
        let stored = batch.into_iter().map(|(fact, _)| fact).collect();
        let subscriber = self.subscriber.as_ref();
        match apply(subscriber, &self.pool, &self.keys, &steps, stored).await? {
            Advance::Done => {}
            Advance::Lost => return Err(BatchError::Lost),
            Advance::Ahead(position) => return Err(BatchError::TopicAhead(position)),
        }
        self.most = (self.most * 2).min(self.options.batch);
        self.at
            .extend(steps.iter().map(|step| (step.lane, step.to)));
        let offsets: Vec<_> = steps
            .iter()
            .map(|step| (step.lane, step.offset + 1))
            .collect();
        self.source.applied(&offsets);
        counter!(FACTS_APPLIED, "subscription" => self.subscriber.name().to_owned())
            .increment(count);
        Ok(())
    }
}

/// One batch, one transaction: the checkpoints first, then what the facts mean. When the checkpoints do not move, nothing
/// has happened.
pub(super) async fn apply(
    subscriber: &dyn Subscriber,
    pool: &PgPool,
    keys: &Keys,
    steps: &[Step],
    stored: Vec<Sealed>,
) -> Result<Advance, LogError> {
    let mut tx = pool.begin().await?;
    // Checkpoint and rows share the transaction: losing its tail in a crash loses both.
    sqlx::query(
        "SELECT set_config('synchronous_commit', 'off', true), set_config('search_path', $1, true)",
    )
    .bind(
        subscriber
            .schema()
            .map_or_else(|| "public".to_owned(), |schema| format!("{schema}, public")),
    )
    .execute(&mut *tx)
    .await?;
    let advance = checkpoint::advance(&mut tx, subscriber.name(), steps).await?;
    if advance != Advance::Done {
        return Ok(advance);
    }
    let mut facts = read_open(keys, &mut tx, stored).await?;
    facts.retain(|fact| subscriber.handles(&fact.fact));
    if !facts.is_empty() {
        subscriber.apply(&facts, &mut tx).await?;
    }
    failpoint::hit("subscription.before_commit");
    tx.commit().await?;
    failpoint::hit("subscription.after_commit");
    Ok(Advance::Done)
}
