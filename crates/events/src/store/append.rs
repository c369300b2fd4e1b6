//! Group commit: a process's writer folds the commands that wait into one call of `log.append`.
//!
//! The positions' lock would cost each command a commit of its own; folded, up to [`MAX_BATCH`](super::MAX_BATCH) commands
//! share one. No command waits for company: what is there goes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use metrics::histogram;
use service::clock::Clock;
use service::retry::Backoff;
use service::shutdown::Shutdown;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::failure::Failure;
use super::judge::Heads;
use super::known::{Epoch, Known};
use super::queue::{Entrance, Queue, queue};
use super::{ExecuteError, Keys, acceptances, batch, room};
use crate::failpoint;
use crate::id::{EventId, Lane, Position, StreamKey, TenantId};
use crate::metrics::{APPEND_BATCH, APPEND_SECONDS, APPEND_WAIT_SECONDS};

/// The most a fact may take with its envelope: what Kafka takes as one message, with room to spare.
pub const MAX_ENVELOPE_BYTES: usize = 1 << 20;
/// How long one try may take: longer than waiting for one lock may. What runs into it, a silent connection most likely, is
/// tried again on another.
const TRY: Duration = Duration::from_secs(15);
/// How long the writer repeats a batch whose outcome it does not know; once in any case.
const SETTLE: Duration = Duration::from_secs(10);
/// How long commands are still taken after the end was asked for: those that were under way.
const LAST: Duration = Duration::from_secs(5);

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
    /// Whether a stream of `version` facts is as expected.
    pub(super) fn meets(self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => version == 0,
            Self::Exact(expected) => version == expected,
        }
    }
}

/// A stream that a command writes.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: StreamKey,
    pub(crate) lane: Lane,
    /// The version that the command was decided over.
    pub(crate) version: i64,
    /// What the stream's facts amount to after this command; none: unchanged.
    pub(crate) state: Option<Arc<str>>,
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
    pub(crate) tenant: TenantId,
    /// The hash of its id.
    pub(crate) id: Uuid,
    pub(crate) body_hash: [u8; 32],
    /// When the streams were read that it was decided over.
    pub(crate) epoch: Epoch,
    pub(crate) writes: Vec<Write>,
    pub(crate) facts: Vec<NewFact>,
}

impl Prepared {
    /// Its texts' bytes, near enough.
    pub(super) fn bytes(&self) -> usize {
        let facts = self.facts.iter();
        let states = self.writes.iter().flat_map(|write| &write.state);
        facts
            .map(|fact| fact.payload.len() + fact.meta.len())
            .sum::<usize>()
            + states.map(|state| state.len()).sum::<usize>()
    }
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted {
        first: Position,
        at: DateTime<Utc>,
    },
    Repeated {
        first: Position,
        last: Position,
    },
    KeyReused,
    /// The first of its writes whose stream is not as it was decided over, and that stream's version; nothing where it was
    /// decided over what may not be so any more.
    Conflict(Option<(usize, i64)>),
    SubjectDiffers,
}

pub(super) type Answer = Result<Verdict, ExecuteError>;

/// The way to this process's writer.
#[derive(Clone, Debug)]
pub(super) struct Writer(Entrance);

impl Writer {
    /// Starts the writer. After `shutdown` it ends when nobody has a way to it any more, and before long in any case; at once
    /// after a failure.
    pub(super) fn start(pool: &PgPool, known: &Known, keys: &Keys, shutdown: &Shutdown) -> Self {
        let (entrance, queue) = queue();
        acceptances::keep(pool.clone(), shutdown);
        let task = Task {
            pool: pool.clone(),
            connection: None,
            known: known.clone(),
            keys: keys.clone(),
            head: room::keep(pool.clone(), shutdown),
            heads: Heads::default(),
            queue,
            told: None,
        };
        shutdown.spawn(task.run(shutdown.clone()));
        Self(entrance)
    }

    /// Hands a command to the writer and waits for its verdict. A caller that stops waiting does not stop the command.
    pub(super) async fn submit(&self, command: Prepared) -> Answer {
        // A writer that ended mid-way leaves the outcome open; repeating the command id settles it.
        (self.0.put(command)?)
            .await
            .unwrap_or_else(|_| Err(ExecuteError::Unavailable(sqlx::Error::WorkerCrashed)))
    }
}

/// Whether the commands took effect, a repeat tells.
fn unavailable(commands: &[Prepared], error: &sqlx::Error) -> Vec<Answer> {
    let failed = || sqlx::Error::Io(std::io::Error::other(error.to_string()));
    let answer = |_| Err(ExecuteError::Unavailable(failed()));
    commands.iter().map(answer).collect()
}

struct Task {
    pool: PgPool,
    connection: Option<(Epoch, PoolConnection<Postgres>)>,
    /// The streams that this process remembers.
    known: Known,
    /// And the keys.
    keys: Keys,
    /// A position that the log has reached, as far as this connection has seen.
    head: watch::Sender<Position>,
    heads: Heads,
    queue: Queue,
    /// When it was last told that the clock is behind the log.
    told: Option<Instant>,
}

/// How far the log may be ahead of the clock before that is told, and how often it is.
const CLOCK_APART: TimeDelta = TimeDelta::minutes(1);
const TELL_AGAIN: Duration = Duration::from_mins(1);

impl Task {
    async fn run(mut self, end: Shutdown) {
        let mut late = pin!(async {
            end.cancelled().await;
            // What cannot be mended is not written past.
            if end.failure().is_none() {
                tokio::time::sleep(LAST).await;
            }
        });
        loop {
            let batch = tokio::select! {
                biased;
                batch = self.queue.gather() => batch,
                () = &mut late => return,
            };
            let Some(first) = batch.first() else { return };
            histogram!(APPEND_BATCH).record(batch.len() as f64);
            histogram!(APPEND_WAIT_SECONDS).record(first.since.elapsed().as_secs_f64());
            let (commands, waiting): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|w| (w.command, (w.since, w.answer, w.room)))
                .unzip();
            let answers = self.settle(&commands).await;
            for ((since, answer, _room), verdict) in waiting.into_iter().zip(answers) {
                histogram!(APPEND_SECONDS).record(since.elapsed().as_secs_f64());
                // The caller may have gone; its command has been judged all the same.
                answer.send(verdict).ok();
            }
        }
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
                Failure::Closed => {
                    tracing::error!(
                        "nobody may append: a `cinelog log import` was begun and has not ended; run it again, or `cinelog log fork`"
                    );
                    return unavailable(commands, &error);
                }
                Failure::Other => self.disconnect(),
                Failure::NoRoom => self.make_room(commands).await,
                Failure::Repeat => {}
            }
            if tries > 1 && Instant::now() > deadline {
                tracing::error!(%error, commands = commands.len(), "the log does not answer");
                return unavailable(commands, &error);
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        unreachable!("it is tried until there is an answer or no time")
    }

    async fn try_once(&mut self, commands: &[Prepared]) -> Result<Vec<Verdict>, sqlx::Error> {
        let epoch = self.known.epoch();
        let connection = match self.connection.take() {
            Some((since, connection)) if since == epoch => connection,
            old => {
                drop(old);
                self.pool.acquire().await?
            }
        };
        let (_, connection) = self.connection.insert((epoch, connection));
        let known = *self.head.borrow();
        failpoint::hit("append.before_send");
        let verdicts = batch::append(connection, commands, epoch, &mut self.heads, known).await;
        failpoint::hit("append.after_commit");
        verdicts
    }

    /// Gives the connection up, and with it what is only known through it: the next one may lead to a server that has come
    /// less far.
    fn disconnect(&mut self) {
        if let Some((_, mut connection)) = self.connection.take() {
            connection.close_on_drop();
        }
        self.head.send_replace(Position::START);
        self.keys.forget_all();
        self.known.forget_all();
        self.heads.forget_all();
    }

    fn reached(&mut self, commands: &[Prepared], verdicts: &[Verdict]) {
        let last = |(command, verdict): (&Prepared, &Verdict)| match verdict {
            Verdict::Accepted { first, .. } => {
                i64::try_from(command.facts.len()).map(|facts| Position(first.0 + facts - 1))
            }
            _ => Ok(Position::START),
        };
        self.tell_clock(verdicts);
        let last = commands.iter().zip(verdicts).flat_map(last).max();
        self.head.send_if_modified(|head| {
            let further = last.filter(|last| *last > *head);
            further.map(|last| *head = last).is_some()
        });
    }

    /// Times in the log never go back: those of new facts stand still while the clock is behind the last fact.
    fn tell_clock(&mut self, verdicts: &[Verdict]) {
        let at = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Accepted { at, .. } => Some(*at),
            _ => None,
        });
        let Some(ahead) = at.max().map(|at| at - Clock::System.now()) else {
            return;
        };
        let silent = self.told.is_none_or(|told| told.elapsed() > TELL_AGAIN);
        if ahead > CLOCK_APART && silent {
            self.told = Some(Instant::now());
            tracing::warn!(
                seconds = ahead.num_seconds(),
                "the log is ahead of this machine's clock, and times of new facts stand still until that has caught up: was a \
                 clock set back? See that Postgres' machine and this one keep time (NTP)"
            );
        }
    }

    /// Positions have run into the end of the last partition: whoever makes them ahead of time was not there.
    async fn make_room(&mut self, commands: &[Prepared]) {
        let facts = commands.iter().map(|command| command.facts.len()).sum();
        let Some((_, connection)) = &mut self.connection else {
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
