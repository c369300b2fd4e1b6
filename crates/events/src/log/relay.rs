//! The relay: every fact from Postgres into the topic, exactly once, in order.
//!
//! One Kafka transaction holds a stretch of the log and the marker that says how far it goes. Whatever fails, the
//! relay drops its producer, goes back to the lock, and a new producer begins at the marker: it never guesses whether
//! a commit took effect, and never takes a transactional id back that another relay has taken from it.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use metrics::{counter, gauge, histogram};
use rdkafka::error::KafkaError;
use service::clock::Clock;
use service::retry::{Backoff, Retry};
use service::shutdown::Shutdown;
use sqlx::PgPool;
use tokio::sync::watch;

use super::check::{Refusal, Survey};
use super::lock::Lock;
use super::producer::Producer;
use super::{Kafka, TopicError, asking, blocking, retry_of, topic};
use crate::envelope::Sealed;
use crate::id::Position;
use crate::metrics::{
    RELAY_AGE, RELAY_BACKLOG, RELAY_FACTS, RELAY_LEADS, RELAY_TRANSACTION_FACTS,
    RELAY_TRANSACTION_SECONDS,
};
use crate::store::{Bounds, LogError, Wake};

/// The most facts in one transaction: behind, the cost of a commit is shared by many.
const MAX_FACTS: i64 = 16_384;
/// And the most bytes.
const MAX_BYTES: i64 = 16 << 20;
/// With a transaction this large the next one is read while it commits. A smaller one is waited for, so that what
/// arrives meanwhile need not wait for a third.
const BEHIND: usize = 1_000;
/// How often it is told how much waits, while nothing moves.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long reading one transaction's facts may take.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// Why the relay ended, or had to begin anew.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The topics cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The topics and Postgres do not belong together.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Kafka did not take what it was given, or another relay took over.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Reading took too long.
    #[error("the log in Postgres took longer than {READ_LIMIT:?} to answer")]
    Slow,
}

impl RelayError {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Topic(error) => error.retry(),
            Self::Refused(_) => Retry::Never,
            Self::Log(error) => error.retry(),
            Self::Kafka(error) => retry_of(error),
            Self::Slow => Retry::Later,
        }
    }
}

impl From<sqlx::Error> for RelayError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// Fills the topic. Any number may run: one works, the others wait for it to end.
#[derive(Debug)]
pub struct Relay {
    pool: PgPool,
    wake: Wake,
    kafka: Kafka,
    clock: Clock,
    /// The last fact known to be in the topic; none until the topic was asked.
    at: Option<Position>,
    /// The most facts in the next transaction: halved when one fails, so that slow brokers get what they can take in its
    /// time; doubled when one does not.
    most: i64,
    judged: watch::Sender<Judgement>,
}

/// Whether the topic is this log's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Judgement {
    /// Nobody has looked yet.
    #[default]
    Pending,
    /// At first sight it is not; a second look decides.
    Doubted,
    /// It is, as this relay found or the one that leads in its place.
    Passed,
}

impl Relay {
    /// A relay that reads the log through `pool`, told by `wake` when there is news.
    pub fn new(pool: PgPool, wake: Wake, kafka: Kafka, clock: Clock) -> Self {
        Self {
            pool,
            wake,
            kafka,
            clock,
            at: None,
            most: MAX_FACTS,
            judged: watch::Sender::default(),
        }
    }

    /// What is known of the topic, as it changes.
    pub fn judged(&self) -> watch::Receiver<Judgement> {
        self.judged.subscribe()
    }

    /// Relays until `shutdown`. Ends earlier only for what trying again cannot help.
    pub async fn run(mut self, shutdown: &Shutdown) -> Result<(), RelayError> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut refused = false;
        while !shutdown.is_cancelled() {
            let led = self.lead(shutdown, &mut backoff).await;
            gauge!(RELAY_LEADS).set(0.0);
            let Err(error) = led else { break };
            // Another relay may have taken over in the middle of the check, and the picture was mixed. Fenced anew and
            // alone, it is not.
            let believed = !matches!(error, RelayError::Refused(_)) || refused;
            refused = matches!(error, RelayError::Refused(_));
            if believed && error.retry() == Retry::Never {
                return Err(error);
            }
            if refused {
                self.judged.send_replace(Judgement::Doubted);
            }
            tracing::warn!(%error, "the relay begins anew");
            shutdown.sleep(backoff.next_wait()).await;
        }
        Ok(())
    }

    /// Waits for the lock, and relays while it lasts.
    async fn lead(&mut self, shutdown: &Shutdown, backoff: &mut Backoff) -> Result<(), RelayError> {
        // Another one relays, and tells what there is to tell.
        let stand_by = |judged| {
            if judged {
                self.judged.send_replace(Judgement::Passed);
            }
            gauge!(RELAY_BACKLOG).set(0.0);
            gauge!(RELAY_AGE).set(0.0);
        };
        let taken = Lock::take(&self.pool, &self.kafka.prefix, stand_by, shutdown);
        let Some(mut lock) = taken.await? else {
            return Ok(());
        };
        gauge!(RELAY_LEADS).set(1.0);
        let led = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            started = self.telling(self.start(&mut lock)) => match started {
                Ok((producer, position)) => {
                    self.judged.send_replace(Judgement::Passed);
                    let relayed = self.relay(&mut lock, &producer, position, backoff, shutdown).await;
                    if matches!(relayed, Err(RelayError::Kafka(_))) {
                        self.most = (self.most / 2).max(1);
                    }
                    // Ending a client waits for its threads.
                    blocking(move || drop(producer)).await;
                    relayed
                }
                Err(error) => Err(error),
            },
        };
        lock.release().await;
        led
    }

    /// Shuts every earlier relay out, then checks that the topic is this log's and where it ends.
    async fn start(&self, lock: &mut Lock) -> Result<(Arc<Producer>, Position), RelayError> {
        topic::ensure(&self.kafka).await?;
        let Bounds { log_id, floor, .. } = lock.log().await?;
        let kafka = self.kafka.clone();
        let (producer, survey) = asking(move || {
            let producer = Producer::start(&kafka, log_id)?;
            Ok((Arc::new(producer), Survey::take(&kafka)?))
        })
        .await?;
        let in_postgres = match survey.position() {
            Some(position) => lock.event_at(position).await?,
            None => None,
        };
        let position = survey.judge(log_id, Position(floor), in_postgres)?;
        lock.judged(&self.kafka.prefix).await?;
        tracing::info!(%log_id, %position, topic = self.kafka.facts_topic(), "relaying");
        Ok((producer, position))
    }

    async fn relay(
        &mut self,
        lock: &mut Lock,
        producer: &Arc<Producer>,
        from: Position,
        backoff: &mut Backoff,
        shutdown: &Shutdown,
    ) -> Result<(), RelayError> {
        let mut batch = self.read(lock, from).await?;
        let mut at = from;
        self.at = Some(from);
        while !shutdown.is_cancelled() {
            let Some(last) = batch.last().map(|fact| fact.position) else {
                gauge!(RELAY_AGE).set(0.0);
                tokio::select! {
                    () = self.wake.wait(Duration::from_secs(1)) => {}
                    () = shutdown.cancelled() => break,
                }
                batch = self.read(lock, at).await?;
                continue;
            };
            let behind = batch.len() >= BEHIND;
            let sending = self.send(producer, batch);
            batch = if behind {
                let (sent, next) = tokio::join!(sending, self.read(lock, last));
                sent?;
                next?
            } else {
                sending.await?;
                self.read(lock, last).await?
            };
            at = last;
            self.at = Some(last);
            backoff.reset();
            self.most = (self.most * 2).min(MAX_FACTS);
        }
        Ok(())
    }

    /// The facts after `after` that make one transaction; none when there are none.
    async fn read(&self, lock: &mut Lock, after: Position) -> Result<Vec<Sealed>, RelayError> {
        let page = tokio::time::timeout(READ_LIMIT, lock.page(after, self.most, MAX_BYTES))
            .await
            .map_err(|_| RelayError::Slow)??;
        tell_backlog(page.head, after);
        Ok(page.facts)
    }

    async fn send(&self, producer: &Arc<Producer>, batch: Vec<Sealed>) -> Result<(), RelayError> {
        let count = batch.len();
        if let Some(oldest) = batch.first() {
            self.tell_age(oldest.recorded_at);
        }
        let producer = Arc::clone(producer);
        let begun = Instant::now();
        self.telling(asking(move || producer.transact(&batch)))
            .await?;
        histogram!(RELAY_TRANSACTION_SECONDS).record(begun.elapsed());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a transaction holds some thousands"
        )]
        histogram!(RELAY_TRANSACTION_FACTS).record(count as f64);
        counter!(RELAY_FACTS).increment(count as u64);
        Ok(())
    }

    /// Does `work`, and every second that it takes tells anew how much waits: brokers that are away hold it up.
    async fn telling<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            match tokio::time::timeout(TELL_EVERY, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.tell().await,
            }
        }
    }

    /// Nothing depends on it: where Postgres does not answer, nothing is told.
    async fn tell(&self) {
        let Some(at) = self.at else { return };
        let waiting = sqlx::query_as(
            "SELECT (SELECT position FROM log.events ORDER BY position DESC LIMIT 1),
                    (SELECT recorded_at FROM log.events WHERE position > $1 ORDER BY position LIMIT 1)",
        )
        .bind(at)
        .fetch_one(&self.pool);
        let waiting = tokio::time::timeout(TELL_EVERY, waiting).await;
        let Ok(Ok((Some(head), oldest))) = waiting else {
            return;
        };
        tell_backlog(head, at);
        match oldest {
            Some(oldest) => self.tell_age(oldest),
            None => gauge!(RELAY_AGE).set(0.0),
        }
    }

    fn tell_age(&self, oldest: DateTime<Utc>) {
        let age = self.clock.now() - oldest;
        gauge!(RELAY_AGE).set(age.as_seconds_f64().max(0.0));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge needs no more than 52 bits"
)]
fn tell_backlog(head: Position, at: Position) {
    gauge!(RELAY_BACKLOG).set((head.0 - at.0).max(0) as f64);
}
