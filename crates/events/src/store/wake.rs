//! Tells the readers of this process that the log has grown: one listening connection for all of them.

use std::time::Duration;

use service::retry::Backoff;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

/// Readers look by themselves this often, should a notice be lost.
const POLL: Duration = Duration::from_secs(1);

/// Resolves whenever the log may have grown. Clones wake together.
#[derive(Clone, Debug)]
pub struct Wake(watch::Receiver<u64>);

impl Wake {
    /// Starts listening until `shutdown`.
    pub fn start(pool: PgPool, shutdown: &Shutdown) -> Self {
        let (grown, receiver) = watch::channel(0);
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
        Self(receiver)
    }

    /// Waits for a notice, at most `limit` and never longer than a second.
    pub async fn wait(&mut self, limit: Duration) {
        let told = self.0.changed();
        match tokio::time::timeout(limit.min(POLL), told).await {
            Ok(Ok(())) | Err(_) => {}
            // Nobody listens any more (shutdown): only the poll is left.
            Ok(Err(_)) => tokio::time::sleep(limit.min(POLL)).await,
        }
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
