//! `cinelog api`.

use anyhow::Context;
use events::store::KeysConfig;
use service::db::Role;
use service::health::Dependency;
use service::shutdown::Shutdown;
use tokio::net::TcpListener;

use crate::out::say;
use crate::stack::{self, Admin, ArchiveAt, BucketKeys, Database};

/// Serves the API alone; projectors, relay and transcoder run elsewhere.
#[derive(clap::Args)]
pub struct Api {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    storage: storage::Config,
    #[command(flatten)]
    keys: KeysConfig,
    #[command(flatten)]
    archive: ArchiveAt,
    #[command(flatten)]
    config: api::config::Config,
    #[command(flatten)]
    admin: Admin,
}

impl Api {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let pool = self.database.pool(Role::Api).await?;
        let needs = vec![Dependency::Postgres(pool.clone())];
        self.admin.serve(needs, shutdown).await?;
        let listener = TcpListener::bind(self.config.listen)
            .await
            .with_context(|| format!("listen on {}", self.config.listen))?;
        say(format_args!(
            "the API is on http://{}",
            listener.local_addr()?
        ));
        let credentials = self.database.few(Role::Accounts).await?;
        let keys = stack::keys(&self.keys)?;
        let bucket = BucketKeys::from(&self.storage);
        let log = self.archive.log(pool.clone(), &bucket, keys, shutdown);
        stack::api(
            log.await?,
            (pool, credentials),
            &self.storage,
            self.config,
            listener,
            None,
            shutdown,
        )
        .await?;
        shutdown.cancelled().await;
        Ok(())
    }
}
