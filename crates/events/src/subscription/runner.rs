//! The loop: lanes → facts → one transaction per batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use service::retry::Backoff;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use tokio::sync::watch;

use super::apply::{ApplyError, apply};
use super::checkpoint::{self, Advance, Step};
use super::react::{self, Reacting, Reactor};
use super::{Subscriber, lease, park};
use crate::envelope::Sealed;
use crate::id::{Lane, Position};
use crate::metrics::{APPLY_FAILED, FACTS_APPLIED};
use crate::source::{Source, SourceError};
use crate::store::{Keys, LogError, bounds};
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
    Apply(#[from] ApplyError),
    #[error(
        "{MOST_PARKED} subjects were parked within a minute: the program or its tables are at fault rather than facts, and \
         nothing more is parked before a minute has passed. The last error: {0}"
    )]
    ManyPoison(ApplyError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl<E: Into<LogError>> From<E> for BatchError {
    fn from(error: E) -> Self {
        Self::Apply(ApplyError::Log(error.into()))
    }
}

impl BatchError {
    fn is_poison(&self) -> bool {
        matches!(self, Self::Apply(error) if error.is_poison())
    }
}

/// Subjects that may be parked within a minute.
const MOST_PARKED: usize = 10;
/// How often wishes for parked subjects are looked for.
const WISHES: Duration = Duration::from_secs(1);

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
    /// The one fact that was not taken in at the last try.
    suspect: Option<Position>,
    /// When subjects were parked, within the last minute.
    parked: VecDeque<Instant>,
    /// When wishes were looked for.
    looked: Option<Instant>,
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
            suspect: None,
            parked: VecDeque::new(),
            looked: None,
        }
    }

    /// A runner of side effects.
    pub fn of_reactor(reactor: Arc<dyn Reactor>, pool: PgPool, source: Source, keys: Keys) -> Self {
        let options = Options {
            batch: react::BATCH,
            ..Options::default()
        };
        Self::new(
            Arc::new(Reacting::new(reactor)),
            pool,
            source,
            keys,
            options,
        )
    }

    /// Runs until `shutdown`. Failures are told and tried again. Nothing is ever skipped: a fact that cannot be taken in waits,
    /// with all that comes after it of its subject, and the rest goes on.
    pub async fn run(mut self, shutdown: &Shutdown) {
        let name = self.subscriber.name().to_owned();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        while let Err(error) = self.prepare().await {
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
                    let poison = error.is_poison();
                    match error {
                        BatchError::Lost => tracing::info!(subscription = name, "{error}"),
                        _ if poison => {
                            tracing::warn!(subscription = name, %error, "a fact cannot be taken in; it is looked for");
                        }
                        _ => {
                            tracing::error!(subscription = name, %error, "a batch was not applied; it is tried again");
                        }
                    }
                    self.most = (self.most / 2).max(1);
                    // Reading begins again at the checkpoints: what was read and not applied is read anew.
                    lanes.mark_changed();
                    if !poison {
                        shutdown.sleep(backoff.next_wait()).await;
                    }
                }
            }
        }
    }

    async fn prepare(&self) -> Result<(), LogError> {
        upcast::check()?;
        Ok(checkpoint::prepare(&self.pool, self.subscriber.as_ref()).await?)
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
        self.grant().await?;
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
        let alone = match &batch[..] {
            [(fact, offset)] => Some((fact.clone(), *offset)),
            _ => None,
        };
        let applied = tokio::time::timeout(self.options.apply_limit, self.apply(batch)).await;
        match (applied.unwrap_or(Err(BatchError::TooSlow)), alone) {
            (Err(BatchError::Apply(error)), Some((fact, offset))) if error.is_poison() => {
                // Another lane's writer may have been in its way: it is tried once more.
                if self.suspect.replace(fact.position) == Some(fact.position) {
                    self.park(&fact, offset, error).await
                } else {
                    Err(error.into())
                }
            }
            (applied, _) => applied,
        }
    }

    async fn park(
        &mut self,
        fact: &Sealed,
        offset: i64,
        error: ApplyError,
    ) -> Result<(), BatchError> {
        let lately = |at: &Instant| at.elapsed() < Duration::from_mins(1);
        self.parked.retain(lately);
        if self.parked.len() >= MOST_PARKED {
            return Err(BatchError::ManyPoison(error));
        }
        let steps = checkpoint::steps(&self.at, std::iter::once((fact, offset)));
        let name = self.subscriber.name();
        let advance = park::park(&self.pool, name, &steps, fact, &error).await?;
        self.moved(advance, &steps, 1)?;
        self.parked.push_back(Instant::now());
        tracing::error!(
            subscription = self.subscriber.name(), subject = fact.subject, position = fact.position.0, %error,
            "a fact cannot be taken in: its subject is parked (`cinelog parked`)"
        );
        Ok(())
    }

    /// Does what is wished for parked subjects.
    async fn grant(&mut self) -> Result<(), BatchError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < WISHES) {
            return Ok(());
        }
        let subscriber = self.subscriber.as_ref();
        let lanes = self.at.keys().copied();
        for wished in park::wished(&self.pool, subscriber.name(), lanes).await? {
            let subject = &wished.subject;
            tracing::info!(
                subscription = subscriber.name(),
                subject,
                "a parked subject is tried again"
            );
            // What was done of it by then stays done.
            let fulfilled = park::fulfil(subscriber, &self.pool, &self.keys, &wished);
            match tokio::time::timeout(self.options.apply_limit, fulfilled).await {
                Ok(fulfilled) => fulfilled?,
                Err(_) => return Err(BatchError::TooSlow),
            }
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    async fn apply(&mut self, batch: Vec<(Sealed, i64)>) -> Result<(), BatchError> {
        let facts = batch.iter().map(|(fact, offset)| (fact, *offset));
        let steps = checkpoint::steps(&self.at, facts);
        let count = batch.len() as u64;
        let stored = batch.into_iter().map(|(fact, _)| fact).collect();
        let subscriber = self.subscriber.as_ref();
        let advance = apply(subscriber, &self.pool, &self.keys, &steps, stored).await?;
        self.moved(advance, &steps, count)
    }

    /// What is to be known once checkpoints have moved, or have not.
    fn moved(&mut self, advance: Advance, steps: &[Step], facts: u64) -> Result<(), BatchError> {
        match advance {
            Advance::Done => {}
            Advance::Lost => return Err(BatchError::Lost),
            Advance::Ahead(position) => return Err(BatchError::TopicAhead(position)),
        }
        self.suspect = None;
        self.most = (self.most * 2).min(self.options.batch);
        self.at
            .extend(steps.iter().map(|step| (step.lane, step.to)));
        let offsets: Vec<_> = steps
            .iter()
            .map(|step| (step.lane, step.offset + 1))
            .collect();
        self.source.applied(&offsets);
        counter!(FACTS_APPLIED, "subscription" => self.subscriber.name().to_owned())
            .increment(facts);
        Ok(())
    }
}
