//! Tells the readers of this process that the log has grown, and by what: one listening connection, and one reader, for all of them.

use std::sync::Arc;
use std::time::Duration;

use service::retry::Backoff;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

use super::read::{Filter, Limits, Newest, Page};
use crate::id::Position;

/// Readers ask by themselves this often, should a notice be lost.
const POLL: Duration = Duration::from_secs(1);
/// Who has not been read to for so long reads by itself.
const READ_TO: Duration = Duration::from_secs(5);

/// Resolves whenever the log may have grown. Clones wake together.
#[derive(Clone, Debug)]
pub struct Wake {
    /// How often that was told.
    told: watch::Receiver<u64>,
    newest: Arc<Newest>,
}

impl Wake {
    /// Starts listening until `shutdown`, and reads through `pool`, of the log that its readers read.
    pub fn start(pool: PgPool, shutdown: &Shutdown) -> Self {
        let (grown, told) = watch::channel(0);
        let newest = Arc::new(Newest::new(pool.clone()));
        let end = shutdown.clone();
        shutdown.spawn(async move {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
            while !end.is_cancelled() {
                let lost = tokio::select! {
                    () = end.cancelled() => return,
                    lost = listen(&pool, &grown) => lost,
                };
                tracing::warn!(error = %lost, "not listening to the log; polling until it answers");
                end.sleep(backoff.next_wait()).await;
            }
        });
        Self { told, newest }
    }

    /// Waits for a notice, at most `limit` and never longer than a second.
    pub async fn wait(&mut self, limit: Duration) {
        let told = self.told.changed();
        match tokio::time::timeout(limit.min(POLL), told).await {
            Ok(Ok(())) | Err(_) => {}
            // Nobody listens any more (shutdown): only the poll is left.
            Ok(Err(_)) => tokio::time::sleep(limit.min(POLL)).await,
        }
    }

    /// The next facts for who has come so far that there is little after `after`, read once for all who ask; none where a reader has to
    /// look by itself. The filter names no tenant: those are read as the tenant.
    pub(super) async fn page(
        &mut self,
        after: Position,
        filter: &Filter,
        limits: Limits,
    ) -> Option<Page> {
        self.told.mark_unchanged();
        let page = self.newest.page(&self.told, after, filter, limits);
        tokio::time::timeout(READ_TO, page).await.ok()?
    }
}

async fn listen(pool: &PgPool, grown: &watch::Sender<u64>) -> sqlx::Error {
    let heard = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen("cinelog_log").await?;
        loop {
            listener.recv().await?;
            grown.send_modify(|count| *count += 1);
        }
    };
    match heard.await {
        Ok(never) => never,
        Err(error) => error,
    }
}
