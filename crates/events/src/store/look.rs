//! Group look: what commands are decided over, read at once for all that wait.
//!
//! Folded, looks share a round trip, and the pool's greeting and farewell, which are round trips too. No look waits for company: what
//! is there goes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde_json::Value;
use service::shutdown::Shutdown;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use super::execute::Streams;
use super::known::{Epoch, Known};
use super::{LogError, StreamRow};
use crate::id::{CommandId, Position, StreamKey, TenantId};

/// The most that are looked for at once.
const MOST: usize = 256;
/// The most that may wait in the queue; the next wait for a place in it.
const WAITING: usize = 4096;
/// How long one try may take.
const TRY: Duration = Duration::from_secs(15);
/// A connection that nobody needed for so long goes back to the pool.
const IDLE: Duration = Duration::from_secs(1);

/// What somebody wants to know.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Whether this command, by the hash of its id, was accepted before.
    command: Option<Uuid>,
    tenant: TenantId,
    streams: Vec<String>,
}

impl Wanted {
    /// What a command is decided over.
    pub(super) fn by(command: &CommandId, streams: &[StreamKey]) -> Self {
        Self {
            command: Some(command.hash()),
            tenant: command.tenant,
            streams: streams.iter().map(|key| key.stream.clone()).collect(),
        }
    }

    /// A stream alone.
    pub(super) fn stream(tenant: TenantId, stream: &str) -> Self {
        Self {
            command: None,
            tenant,
            streams: vec![stream.to_owned()],
        }
    }
}

/// First and last position of an accepted command, and the hash of its body.
pub(super) type Acceptance = (Position, Position, Vec<u8>);

/// What somebody wanted to know.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) streams: Streams,
    pub(super) accepted: Option<Acceptance>,
}

struct Waiting {
    wanted: Wanted,
    answer: oneshot::Sender<Result<Seen, LogError>>,
}

/// The way to whoever looks for this process.
#[derive(Clone, Debug)]
pub(super) struct Looks(mpsc::Sender<Waiting>);

impl Looks {
    /// Looks until `shutdown`, and then for what waits.
    pub(super) fn start(pool: &PgPool, known: &Known, shutdown: &Shutdown) -> Self {
        let (sender, queue) = mpsc::channel(WAITING);
        let task = Task {
            pool: pool.clone(),
            connection: None,
            known: known.clone(),
            queue,
        };
        shutdown.spawn(task.run(shutdown.clone()));
        Self(sender)
    }

    /// Looks, together with others.
    pub(super) async fn look(&self, wanted: Wanted) -> Result<Seen, LogError> {
        // This process is ending.
        let ended = || LogError::Postgres(sqlx::Error::PoolClosed);
        let (answer, seen) = oneshot::channel();
        let waiting = Waiting { wanted, answer };
        self.0.send(waiting).await.map_err(|_| ended())?;
        seen.await.map_err(|_| ended())?
    }
}

struct Task {
    pool: PgPool,
    connection: Option<(Epoch, PoolConnection<Postgres>)>,
    known: Known,
    queue: mpsc::Receiver<Waiting>,
}

impl Task {
    async fn run(mut self, end: Shutdown) {
        let mut waiting = Vec::new();
        loop {
            let come = tokio::select! {
                biased;
                come = timeout(IDLE, self.queue.recv_many(&mut waiting, MOST)) => come,
                () = end.cancelled() => return,
            };
            match come {
                Ok(0) => return,
                Ok(_) => self.answer(&mut waiting).await,
                Err(_) => self.connection = None,
            }
        }
    }

    async fn answer(&mut self, waiting: &mut Vec<Waiting>) {
        // Who has gone wants nothing any more.
        waiting.retain(|one| !one.answer.is_closed());
        let (wanted, answers): (Vec<_>, Vec<_>) = waiting
            .drain(..)
            .map(|one| (one.wanted, one.answer))
            .unzip();
        if wanted.is_empty() {
            return;
        }
        let looked = match self.try_once(&wanted).await {
            // The connection may have been lost while nobody used it.
            Err(_) => self.try_once(&wanted).await,
            looked => looked,
        };
        match looked {
            Ok(seen) => {
                for (answer, seen) in answers.into_iter().zip(seen) {
                    answer.send(seen).ok();
                }
            }
            Err(error) => {
                for answer in answers {
                    answer.send(Err(again(&error).into())).ok();
                }
            }
        }
    }

    async fn try_once(
        &mut self,
        wanted: &[Wanted],
    ) -> Result<Vec<Result<Seen, LogError>>, sqlx::Error> {
        let epoch = self.known.epoch();
        let kept = self.connection.take().filter(|(since, _)| *since == epoch);
        let mut connection = match kept {
            Some((_, connection)) => connection,
            None => self.pool.acquire().await?,
        };
        let looked = timeout(TRY, look(&mut connection, wanted, epoch)).await;
        let looked = looked.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if looked.is_ok() {
            self.connection = Some((epoch, connection));
        } else {
            connection.close_on_drop();
        }
        looked
    }
}

/// An error once more, for another who waits: it may pass.
fn again(error: &sqlx::Error) -> sqlx::Error {
    match error {
        sqlx::Error::PoolTimedOut => sqlx::Error::PoolTimedOut,
        other => sqlx::Error::Io(std::io::Error::other(other.to_string())),
    }
}

/// The streams, and the commands' earlier acceptances if any, in one round trip and one snapshot; of each that is wanted, in order.
/// What was read is of `epoch`, at least.
pub(super) async fn look(
    connection: &mut PgConnection,
    wanted: &[Wanted],
    epoch: Epoch,
) -> Result<Vec<Result<Seen, LogError>>, sqlx::Error> {
    let names = wanted.iter().flat_map(|one| {
        let streams = one.streams.iter();
        streams.map(|stream| (one.tenant, stream.as_str()))
    });
    let names: BTreeSet<(TenantId, &str)> = names.collect();
    let (tenants, streams): (Vec<TenantId>, Vec<&str>) = names.into_iter().unzip();
    let commands: Vec<Uuid> = wanted.iter().filter_map(|one| one.command).collect();
    // Lists within subqueries are of unknown length to every plan, so that the one kept for all lengths looks no dearer than one made
    // each time, which takes longer than the look.
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT t.tenant, t.stream_id, t.subject, t.version, t.state,
                NULL::uuid AS command, NULL::bigint AS first, NULL::bigint AS last, NULL::bytea AS body_hash
         FROM unnest((SELECT $1::uuid[]), (SELECT $2::text[])) w (tenant, stream)
         JOIN log.streams t ON t.tenant = w.tenant AND t.stream_id = w.stream COLLATE \"C\"
         UNION ALL
         SELECT NULL, NULL, NULL, NULL, NULL, id, first_position, last_position, body_hash
         FROM log.commands
         WHERE id = ANY ((SELECT $3::uuid[])::uuid[])",
    )
    .bind(tenants)
    .bind(streams)
    .bind(commands)
    .fetch_all(connection)
    .await?;
    let mut found = Found::default();
    for row in rows {
        found.keep(row);
    }
    Ok(wanted.iter().map(|one| found.give(one, epoch)).collect())
}

/// A stream or an acceptance.
#[derive(sqlx::FromRow)]
struct Row {
    tenant: Option<TenantId>,
    stream_id: Option<String>,
    subject: Option<String>,
    version: Option<i64>,
    state: Option<Value>,
    command: Option<Uuid>,
    first: Option<Position>,
    last: Option<Position>,
    body_hash: Option<Vec<u8>>,
}

/// What was found of all that was wanted.
#[derive(Default)]
struct Found {
    streams: HashMap<(TenantId, String), (String, i64, Value)>,
    accepted: HashMap<Uuid, Acceptance>,
}

impl Found {
    fn keep(&mut self, row: Row) {
        if let (Some(tenant), Some(stream)) = (row.tenant, row.stream_id)
            && let (Some(subject), Some(version), Some(state)) =
                (row.subject, row.version, row.state)
        {
            let stood = (subject, version, state);
            self.streams.insert((tenant, stream), stood);
        }
        if let (Some(command), Some(first), Some(last), Some(hash)) =
            (row.command, row.first, row.last, row.body_hash)
        {
            self.accepted.insert(command, (first, last, hash));
        }
    }

    fn give(&self, wanted: &Wanted, epoch: Epoch) -> Result<Seen, LogError> {
        let mut streams = Streams::none(epoch);
        for stream in &wanted.streams {
            let name = (wanted.tenant, stream.clone());
            let Some((subject, version, state)) = self.streams.get(&name) else {
                continue;
            };
            let row = StreamRow::checked(stream, subject.clone(), *version, state.clone())?;
            streams.rows.insert(name.1, row);
        }
        let accepted = wanted.command.and_then(|id| self.accepted.get(&id));
        Ok(Seen {
            streams,
            accepted: accepted.cloned(),
        })
    }
}
