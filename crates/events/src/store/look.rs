//! Group look: what commands are decided over, read at once for all that wait.
//!
//! Folded, looks share a round trip, and the pool's greeting and farewell, which are round trips too. No look waits for company: what
//! is there goes. Who gets no answer that way looks alone, so that nobody fails, or waits for long, because of another.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use service::shutdown::Shutdown;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::execute::Streams;
use super::known::{Epoch, Known};
use super::{LogError, StreamRow};
use crate::id::{CommandId, Position, StreamKey, TenantId};
use crate::metrics::{LOOK_BATCH, LOOK_SECONDS, LOOKS_ALONE};

/// The most that are looked for at once.
const MOST: usize = 256;
/// The most that may wait; the next look alone.
const WAITING: usize = 4096;
/// How long an answer is waited for, and worked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// A connection that nobody needed for so long goes back to the pool.
const IDLE: Duration = Duration::from_secs(1);
/// Of a pool of fewer connections none is kept: the writer and the listener keep one each.
const ENOUGH: u32 = 5;

/// What somebody wants to know.
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
pub(super) struct Seen {
    pub(super) streams: Streams,
    pub(super) accepted: Option<Acceptance>,
}

struct Waiting {
    wanted: Arc<Wanted>,
    answer: oneshot::Sender<Arc<Found>>,
}

/// The way to whoever looks for this process.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    queue: mpsc::Sender<Waiting>,
    pool: PgPool,
    known: Known,
}

impl Looks {
    /// Looks for others until `shutdown`.
    pub(super) fn start(pool: &PgPool, known: &Known, shutdown: &Shutdown) -> Self {
        let (sender, queue) = mpsc::channel(WAITING);
        let task = Task {
            pool: pool.clone(),
            connection: None,
            known: known.clone(),
            queue,
        };
        shutdown.spawn(task.run(shutdown.clone()));
        Self {
            queue: sender,
            pool: pool.clone(),
            known: known.clone(),
        }
    }

    /// Looks together with others, or alone if nothing comes of that: then an error is the caller's own.
    pub(super) async fn look(&self, wanted: Wanted) -> Result<Seen, LogError> {
        let (begun, wanted) = (Instant::now(), Arc::new(wanted));
        let found = match self.with_others(&wanted).await {
            Some(found) => found,
            // Apart, so that the rare case is not carried along in each caller's future.
            None => Arc::new(Box::pin(self.alone(&wanted)).await?),
        };
        histogram!(LOOK_SECONDS).record(begun.elapsed().as_secs_f64());
        found.of(&wanted)
    }

    async fn with_others(&self, wanted: &Arc<Wanted>) -> Option<Arc<Found>> {
        let (answer, found) = oneshot::channel();
        let waiting = Waiting {
            wanted: Arc::clone(wanted),
            answer,
        };
        self.queue.try_send(waiting).ok()?;
        timeout(PATIENCE, found).await.ok()?.ok()
    }

    async fn alone(&self, wanted: &Wanted) -> Result<Found, LogError> {
        counter!(LOOKS_ALONE).increment(1);
        let epoch = self.known.epoch();
        let mut connection = self.pool.acquire().await?;
        Ok(find(&mut connection, &[wanted], epoch).await?)
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
            tokio::select! {
                biased;
                come = self.queue.recv_many(&mut waiting, MOST) => match come {
                    0 => return,
                    _ => self.answer(&mut waiting).await,
                },
                () = end.cancelled() => return,
                () = sleep(IDLE), if self.connection.is_some() => self.connection = None,
            }
        }
    }

    async fn answer(&mut self, waiting: &mut Vec<Waiting>) {
        // Who has gone wants nothing any more.
        waiting.retain(|one| !one.answer.is_closed());
        if waiting.is_empty() {
            return;
        }
        histogram!(LOOK_BATCH).record(waiting.len() as f64);
        let wanted: Vec<&Wanted> = waiting.iter().map(|one| &*one.wanted).collect();
        let found = match timeout(PATIENCE, self.find(&wanted)).await {
            Ok(Ok(found)) => Arc::new(found),
            // Everybody looks alone.
            Ok(Err(_)) | Err(_) => return waiting.clear(),
        };
        for one in waiting.drain(..) {
            one.answer.send(Arc::clone(&found)).ok();
        }
    }

    async fn find(&mut self, wanted: &[&Wanted]) -> Result<Found, sqlx::Error> {
        let epoch = self.known.epoch();
        let mut connection = match self.connection.take() {
            Some((since, connection)) if since == epoch => connection,
            old => {
                if let Some((_, mut old)) = old {
                    old.close_on_drop();
                }
                self.pool.acquire().await?
            }
        };
        let found = find(&mut connection, wanted, epoch).await?;
        if self.pool.options().get_max_connections() >= ENOUGH {
            self.connection = Some((epoch, connection));
        }
        Ok(found)
    }
}

/// In one round trip and one snapshot all that is `wanted`. What was read is of `epoch`, at least.
pub(super) async fn find(
    connection: &mut PgConnection,
    wanted: &[&Wanted],
    epoch: Epoch,
) -> Result<Found, sqlx::Error> {
    let names = wanted.iter().flat_map(|one| {
        let streams = one.streams.iter();
        streams.map(|stream| (one.tenant, stream.as_str()))
    });
    let names: BTreeSet<(TenantId, &str)> = names.collect();
    let (tenants, streams): (Vec<TenantId>, Vec<&str>) = names.into_iter().unzip();
    let commands: Vec<Uuid> = wanted.iter().filter_map(|one| one.command).collect();
    // Lists within subqueries are of unknown length to every plan, so that the one kept for all lengths looks no dearer than one made
    // each time, which takes longer than the look. With the limits it is a probe for each name, whatever it takes their number for.
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT t.*, NULL::uuid AS command, NULL::bigint AS first, NULL::bigint AS last, NULL::bytea AS body_hash
         FROM unnest((SELECT $1::uuid[]), (SELECT $2::text[])) w (tenant, stream)
         CROSS JOIN LATERAL (
             SELECT t.tenant, t.stream_id, t.subject, t.version, t.state::text AS state
             FROM log.streams t
             WHERE t.tenant = w.tenant AND t.stream_id = w.stream COLLATE \"C\"
             LIMIT 1
         ) t
         UNION ALL
         SELECT NULL, NULL, NULL, NULL, NULL, c.*
         FROM unnest((SELECT $3::uuid[])) w (id)
         CROSS JOIN LATERAL (
             SELECT c.id, c.first_position, c.last_position, c.body_hash FROM log.commands c WHERE c.id = w.id LIMIT 1
         ) c",
    )
    .bind(tenants)
    .bind(streams)
    .bind(commands)
    .fetch_all(connection)
    .await?;
    let mut found = Found {
        epoch,
        streams: HashMap::new(),
        accepted: HashMap::new(),
    };
    for row in rows {
        found.keep(row);
    }
    Ok(found)
}

/// A stream or an acceptance.
#[derive(sqlx::FromRow)]
struct Row {
    tenant: Option<TenantId>,
    stream_id: Option<String>,
    subject: Option<String>,
    version: Option<i64>,
    state: Option<String>,
    command: Option<Uuid>,
    first: Option<Position>,
    last: Option<Position>,
    body_hash: Option<Vec<u8>>,
}

/// What was found of all that was wanted.
pub(super) struct Found {
    epoch: Epoch,
    /// Subject, version and state.
    streams: HashMap<(TenantId, String), (String, i64, String)>,
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

    /// What one of those who look wanted to know.
    pub(super) fn of(&self, wanted: &Wanted) -> Result<Seen, LogError> {
        let mut streams = Streams::none(self.epoch);
        for stream in &wanted.streams {
            let name = (wanted.tenant, stream.clone());
            let Some((subject, version, state)) = self.streams.get(&name) else {
                continue;
            };
            let state = serde_json::from_str(state).map_err(|e| LogError::state(stream, e))?;
            let row = StreamRow::checked(stream, subject.clone(), *version, state)?;
            streams.rows.insert(name.1, row);
        }
        let accepted = wanted.command.and_then(|id| self.accepted.get(&id));
        Ok(Seen {
            streams,
            accepted: accepted.cloned(),
        })
    }
}
