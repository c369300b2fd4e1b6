//! Who relays: the one that holds an advisory lock in Postgres. That is for liveness only; two that both believe to
//! hold it are kept apart by Kafka's fencing.

use std::io;
use std::time::Duration;

use service::shutdown::Shutdown;
use sqlx::{Connection, PgConnection, PgPool};

use crate::id::{EventId, Position};
use crate::store::{Bounds, Filter, Limits, LogError, Page, bounds, page};

/// How often one that waits tries again.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// How long Postgres may take for an answer before it counts as gone.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Sets the relay's locks apart from other two-part advisory locks.
const LOCK_CLASS: i32 = 7157;
/// Of the lock that a leader holds besides once it has found the topic to be this log's.
const JUDGED_CLASS: i32 = 7158;

/// The lock, held as long as its own connection lives. Every question about what to do next is asked on it, so that a
/// lost lock is noticed before the next transaction.
#[derive(Debug)]
pub(super) struct Lock(PgConnection);

impl Lock {
    /// Waits for the lock called `name`, saying so by `held` when another has it, and whether that one has judged the topic;
    /// none when `shutdown` came first.
    pub(super) async fn take(
        pool: &PgPool,
        name: &str,
        held: impl Fn(bool),
        shutdown: &Shutdown,
    ) -> Result<Option<Self>, sqlx::Error> {
        // Should this machine vanish, the server notices within seconds and frees the lock.
        let keepalive = [
            ("tcp_keepalives_idle", "2"),
            ("tcp_keepalives_interval", "1"),
            ("tcp_keepalives_count", "3"),
        ];
        let options = pool.connect_options().as_ref().clone().options(keepalive);
        let mut connection = within(PgConnection::connect_with(&options)).await?;
        loop {
            let taken = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
                .bind(LOCK_CLASS)
                .bind(name)
                .fetch_one(&mut connection);
            if within(taken).await? {
                return Ok(Some(Self(connection)));
            }
            // Tried for as long as the statement takes.
            let free = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1, hashtext($2))")
                .bind(JUDGED_CLASS)
                .bind(name)
                .fetch_one(&mut connection);
            held(!within::<bool, _>(free).await?);
            if !shutdown.sleep(TRY_EVERY).await {
                return Ok(None);
            }
        }
    }

    /// Tells those that wait that the topic is this log's.
    pub(super) async fn judged(&mut self, name: &str) -> Result<(), sqlx::Error> {
        let told = sqlx::query("SELECT pg_advisory_lock($1, hashtext($2))")
            .bind(JUDGED_CLASS)
            .bind(name)
            .execute(&mut self.0);
        within(told).await.map(drop)
    }

    /// Frees the lock. Asked for, because the server ends a closed connection in its own time.
    pub(super) async fn release(mut self) {
        let free = sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut self.0);
        within(free).await.ok();
        // A connection that cannot say goodbye is gone, and the lock with it.
        within(self.0.close()).await.ok();
    }

    /// Which log this is, and what it holds.
    pub(super) async fn log(&mut self) -> Result<Bounds, LogError> {
        within(bounds(&mut self.0)).await
    }

    /// The fact at a position, if it is there, or just left for the archive: then the next one is still there.
    pub(super) async fn event_at(
        &mut self,
        position: Position,
    ) -> Result<Option<EventId>, sqlx::Error> {
        let event = sqlx::query_scalar(
            "SELECT event_id FROM log.events WHERE position = $1
             UNION
             SELECT a.event_id FROM log.archived a JOIN log.log l ON a.position = l.floor - 1 WHERE a.position = $1",
        )
        .bind(position)
        .fetch_optional(&mut self.0);
        within(event).await
    }

    /// The facts after `after` that make one transaction: at most `facts`, and no more than fit in `bytes`, but one at
    /// least.
    pub(super) async fn page(
        &mut self,
        after: Position,
        facts: i64,
        bytes: i64,
    ) -> Result<Page, LogError> {
        let limits = Limits {
            positions: facts,
            facts,
            bytes,
        };
        page(&mut self.0, after, &Filter::default(), limits).await
    }
}

/// Whether a relay holds a lock of this database, whatever its topics are called.
pub(super) async fn somebody_relays(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
             WHERE l.locktype = 'advisory' AND l.classid = $1 AND l.objsubid = 2 AND l.granted
               AND d.datname = current_database())",
    )
    .bind(sqlx::postgres::types::Oid(LOCK_CLASS.unsigned_abs()))
    .fetch_one(connection)
    .await
}

async fn within<T, E: From<sqlx::Error>>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let silent = || sqlx::Error::Io(io::Error::from(io::ErrorKind::TimedOut));
    tokio::time::timeout(ANSWER_LIMIT, answer)
        .await
        .unwrap_or_else(|_| Err(silent().into()))
}
