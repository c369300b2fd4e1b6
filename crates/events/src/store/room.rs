//! Partitions of the log, made long before positions reach them.

use std::time::Duration;

use service::retry::Backoff;
use service::shutdown::Shutdown;
use sqlx::{Executor, PgPool, Postgres};
use tokio::sync::watch;

use crate::id::Position;

/// Makes what partitions are missing, for `facts` at least; gives the first position that has no place then.
pub(super) async fn make<'c>(
    connection: impl Executor<'c, Database = Postgres>,
    facts: usize,
) -> Result<Position, sqlx::Error> {
    sqlx::query_scalar("SELECT log.make_room($1)")
        .bind(i64::try_from(facts).unwrap_or(i64::MAX))
        .fetch_one(connection)
        .await
}

/// Makes room at the start, and again whenever the log has used half of what was ahead, until `shutdown`. Says how far
/// the log has come through what it returns.
pub(super) fn keep(pool: PgPool, shutdown: &Shutdown) -> watch::Sender<Position> {
    let (at, mut head) = watch::channel(Position::START);
    let end = shutdown.clone();
    shutdown.spawn(async move {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        while !end.is_cancelled() {
            let wait = match make(&pool, 0).await {
                Ok(room) => {
                    backoff.reset();
                    let now = *head.borrow_and_update();
                    let half = Position(now.0 + (room.0 - now.0) / 2);
                    let ended = async { head.wait_for(|at| *at >= half).await.is_err() };
                    tokio::select! {
                        () = end.cancelled() => return,
                        ended = ended => if ended { return },
                    }
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "no partitions were made ahead of the log; tried again");
                    backoff.next_wait()
                }
            };
            end.sleep(wait).await;
        }
    });
    at
}
