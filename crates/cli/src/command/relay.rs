//! `cinelog relay`.

use anyhow::ensure;
use service::db::Role;
use service::health::Dependency;
use service::shutdown::Shutdown;

use crate::stack::{self, Admin, Database};

/// Relays the log into Kafka. Start as many as you like: one works, the others wait for its place.
#[derive(clap::Args)]
pub struct Relay {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    kafka: events::log::Config,
    #[command(flatten)]
    admin: Admin,
}

impl Relay {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        ensure!(
            self.kafka.kafka_brokers.is_some(),
            "set KAFKA_BROKERS: there is nothing to relay to"
        );
        let needs = vec![Dependency::Postgres(self.database.pool(Role::Api).await?)];
        self.admin.serve(needs, shutdown).await?;
        stack::relay(&self.database, &self.kafka, shutdown).await?;
        shutdown.cancelled().await;
        Ok(())
    }
}
