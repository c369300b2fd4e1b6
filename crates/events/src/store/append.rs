//! Group commit: one writer task per process folds the commands that wait into one call of `log.append`.
//!
//! The positions' lock would cost each command a commit of its own; folded, up to [`MAX_BATCH`] commands share one. No
//! command waits for company: what is there goes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{counter, histogram};
use service::retry::Backoff;
use service::shutdown::Shutdown;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::known::Known;
use super::{ExecuteError, Keys, batch, room};
use crate::failpoint;
use crate::id::{CommandId, EventId, Lane, Position, StreamKey};
use crate::metrics::{APPEND_BATCH, APPEND_OVERLOADED, APPEND_SECONDS};

/// The most commands in one batch.
pub const MAX_BATCH: usize = 256;
/// The most bytes of payloads in one batch.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// The most commands that may wait for the writer; one more is turned away.
const MAX_WAITING: usize = 4096;
/// The most a fact may take with its envelope: what Kafka takes as one message, with room to spare.
pub const MAX_ENVELOPE_BYTES: usize = 1 << 20;
/// How long one try may take: longer than waiting for a lock may, so that only a silent connection runs into it.
const TRY: Duration = Duration::from_secs(15);
/// How long the writer repeats a batch whose outcome it does not know; once in any case.
const SETTLE: Duration = Duration::from_secs(10);

/// What a command expects of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Any,
    /// That nothing has happened in it.
    NoStream,
    /// That this many facts have.
    Exact(i64),
}

impl Expected {
    /// That the stream still has `version` facts.
    pub(super) fn version(version: i64) -> Self {
        if version == 0 {
            Self::NoStream
        } else {
            Self::Exact(version)
        }
    }

    pub(super) fn number(self) -> i64 {
        match self {
            Self::Any => -1,
            Self::NoStream => 0,
            Self::Exact(version) => version,
        }
    }
}

/// A stream that a command writes.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: StreamKey,
    pub(crate) lane: Lane,
    pub(crate) expected: Expected,
    /// What the stream's facts amount to after this command; none: unchanged.
    pub(crate) state: Option<String>,
}

/// A fact to append; `write` is the index of its stream among the command's writes.
#[derive(Clone, Debug)]
pub(crate) struct NewFact {
    pub(crate) write: usize,
    pub(crate) fact_type: &'static str,
    pub(crate) schema_version: i16,
    pub(crate) payload: String,
    pub(crate) meta: String,
    pub(crate) event_id: EventId,
}

/// A command that has been decided.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) id: CommandId,
    pub(crate) body_hash: [u8; 32],
    pub(crate) writes: Vec<Write>,
    pub(crate) facts: Vec<NewFact>,
}

impl Prepared {
    fn bytes(&self) -> usize {
        self.facts
            .iter()
            .map(|fact| fact.payload.len() + fact.meta.len())
            .sum()
    }
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted { first: Position, at: DateTime<Utc> },
    Repeated { first: Position, last: Position },
    KeyReused,
    Conflict,
    SubjectDiffers,
}

type Answer = Result<Verdict, ExecuteError>;

struct Waiting {
    command: Prepared,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// The way to this process's writer.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Waiting>);

impl Writer {
    /// Starts the writer. After `shutdown` it answers what waits and ends.
    pub(super) fn start(pool: PgPool, known: Known, keys: Keys, shutdown: &Shutdown) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let end = shutdown.clone();
        shutdown.spawn(
            Task {
                head: room::keep(pool.clone(), shutdown),
                pool,
                known,
                keys,
                connection: None,
                queue: receiver,
                held: None,
            }
            .run(end),
        );
        Self(sender)
    }

    /// Hands a command to the writer and waits for its verdict. A caller that stops waiting does not stop the command.
    pub(super) async fn submit(&self, command: Prepared) -> Answer {
        let (answer, verdict) = oneshot::channel();
        let refused = |error| match error {
            TrySendError::Full(_) => {
                counter!(APPEND_OVERLOADED).increment(1);
                ExecuteError::Overloaded {
                    retry_after: Duration::from_secs(1),
                }
            }
            // This process is ending, or its writer died.
            TrySendError::Closed(_) => ExecuteError::Unavailable(sqlx::Error::WorkerCrashed),
        };
        self.0
            .try_send(Waiting {
                command,
                since: Instant::now(),
                answer,
            })
            .map_err(refused)?;
        // A writer that ended mid-way leaves the outcome open; repeating the command id settles it.
        verdict
            .await
            .unwrap_or_else(|_| Err(ExecuteError::Unavailable(sqlx::Error::WorkerCrashed)))
    }
}

struct Task {
    pool: PgPool,
    connection: Option<PoolConnection<Postgres>>,
    /// The streams that this process remembers.
    known: Known,
    /// And the keys.
    keys: Keys,
    /// A position that the log has reached, as far as this connection has seen.
    head: watch::Sender<Position>,
    queue: mpsc::Receiver<Waiting>,
    /// A command whose id is in the batch just gathered: it waits for the next, to find the first one's outcome.
    held: Option<Waiting>,
}

impl Task {
    async fn run(mut self, end: Shutdown) {
        loop {
            let first = if let Some(held) = self.held.take() {
                held
            } else {
                tokio::select! {
                    biased;
                    next = self.queue.recv() => {
                        let Some(next) = next else { return };
                        next
                    }
                    () = end.cancelled() => return,
                }
            };
            let batch = self.gather(first);
            histogram!(APPEND_BATCH).record(batch.len() as f64);
            let (commands, waiting): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|w| (w.command, (w.since, w.answer)))
                .unzip();
            let answers = self.settle(&commands).await;
            for ((since, answer), verdict) in waiting.into_iter().zip(answers) {
                histogram!(APPEND_SECONDS).record(since.elapsed().as_secs_f64());
                // The caller may have gone; its command has been judged all the same.
                answer.send(verdict).ok();
            }
        }
    }

    fn gather(&mut self, first: Waiting) -> Vec<Waiting> {
        let mut bytes = first.command.bytes();
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Ok(next) = self.queue.try_recv() else {
                break;
            };
            if batch.iter().any(|one| one.command.id == next.command.id) {
                self.held = Some(next);
                break;
            }
            bytes += next.command.bytes();
            batch.push(next);
        }
        batch
    }

    /// The answers to a batch, in its order. Repeats it while the outcome is unknown or Postgres asks for it; a value
    /// that Postgres refuses is found by halving, so that it fails its own command only.
    async fn settle(&mut self, commands: &[Prepared]) -> Vec<Answer> {
        let deadline = Instant::now() + SETTLE;
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
        for tries in 1.. {
            let error = match tokio::time::timeout(TRY, self.try_once(commands)).await {
                Ok(Ok(verdicts)) => {
                    self.reached(commands, &verdicts);
                    return verdicts.into_iter().map(Ok).collect();
                }
                Ok(Err(error)) => error,
                Err(_) => sqlx::Error::PoolTimedOut,
            };
            match Failure::of(&error) {
                Failure::Data if commands.len() == 1 => {
                    return vec![Err(ExecuteError::Unrepresentable(error.to_string()))];
                }
                Failure::Data => {
                    let (left, right) = commands.split_at(commands.len() / 2);
                    let mut answers = Box::pin(self.settle(left)).await;
                    answers.extend(Box::pin(self.settle(right)).await);
                    return answers;
                }
                Failure::Other => self.disconnect(),
                Failure::NoRoom => self.make_room(commands).await,
                Failure::Repeat => {}
            }
            if tries > 1 && Instant::now() > deadline {
                tracing::error!(%error, commands = commands.len(), "the log does not answer");
                let failed = || sqlx::Error::Io(std::io::Error::other(error.to_string()));
                return commands
                    .iter()
                    .map(|_| Err(ExecuteError::Unavailable(failed())))
                    .collect();
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        unreachable!("it is tried until there is an answer or no time")
    }

    async fn try_once(&mut self, commands: &[Prepared]) -> Result<Vec<Verdict>, sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.pool.acquire().await?),
        };
        let known = *self.head.borrow();
        failpoint::hit("append.before_send");
        let verdicts = batch::append(connection, commands, known).await;
        failpoint::hit("append.after_commit");
        verdicts
    }

    /// Gives the connection up, and with it what is only known through it: the next one may lead to a server that has come
    /// less far.
    fn disconnect(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.close_on_drop();
        }
        self.head.send_replace(Position::START);
        self.known.forget_all();
        self.keys.forget_all();
    }

    fn reached(&self, commands: &[Prepared], verdicts: &[Verdict]) {
        let last = |(command, verdict): (&Prepared, &Verdict)| match verdict {
            Verdict::Accepted { first, .. } => {
                i64::try_from(command.facts.len()).map(|facts| Position(first.0 + facts - 1))
            }
            _ => Ok(Position::START),
        };
        let last = commands.iter().zip(verdicts).flat_map(last).max();
        self.head.send_if_modified(|head| {
            let further = last.filter(|last| *last > *head);
            further.map(|last| *head = last).is_some()
        });
    }

    /// Positions have run into the end of the last partition: whoever makes them ahead of time was not there.
    async fn make_room(&mut self, commands: &[Prepared]) {
        let facts = commands.iter().map(|command| command.facts.len()).sum();
        let Some(connection) = &mut self.connection else {
            return;
        };
        match tokio::time::timeout(TRY, room::make(&mut **connection, facts)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "no partition could be made"),
            // An answer may still come, to whoever asks next on this connection.
            Err(_) => self.disconnect(),
        }
    }
}

enum Failure {
    /// No partition holds the next position.
    NoRoom,
    /// A value that Postgres does not take: class 22 and 23.
    Data,
    /// A deadlock or a serialization failure: the same again.
    Repeat,
    /// Anything else: a new connection.
    Other,
}

impl Failure {
    fn of(error: &sqlx::Error) -> Self {
        let Some(error) = error.as_database_error() else {
            return Self::Other;
        };
        match error.code().unwrap_or_default().as_ref() {
            "40P01" | "40001" => Self::Repeat,
            // A check without a name is that of the partitions.
            "23514" if error.constraint().is_none() => Self::NoRoom,
            // Nothing that a command says collides: the numbering has met positions that this connection did not know of.
            "23505" => Self::Other,
            // What an index cannot hold is the command's fault, as a value out of range is.
            "54000" if error.message().starts_with("index row") => Self::Data,
            code if code.starts_with("22") || code.starts_with("23") => Self::Data,
            _ => Self::Other,
        }
    }
}
