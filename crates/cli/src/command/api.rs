//! `cinelog api`.

use anyhow::Context;
use events::store::KeysConfig;
use service::db::Role;
use service::health::Dependency;
use service::shutdown::Shutdown;
use tokio::net::TcpListener;

use crate::out::say;
use crate::stack::{self, Admin, Database};

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
    config: api::config::Config,
    #[command(flatten)]
    admin: Admin,
}

impl Api {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let needs = vec![Dependency::Postgres(self.database.pool(Role::Api).await?)];
        self.admin.serve(needs, shutdown).await?;
        let listener = TcpListener::bind(self.config.listen)
            .await
            .with_context(|| format!("listen on {}", self.config.listen))?;
        say(format_args!(
            "the API is on http://{}",
            listener.local_addr()?
        ));
        let keys = stack::keys(&self.keys)?;
        stack::api(
            &self.database,
            keys,
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
