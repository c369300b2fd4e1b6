//! `cinelog projectors`.

use events::store::KeysConfig;
use service::health::Dependency;
use service::shutdown::Shutdown;

use crate::stack::{self, Admin, ArchiveAt, BucketKeys, Database, Facts};

/// Keeps read models true. Every process takes its share of the lanes: start more and lag falls.
#[derive(clap::Args)]
pub struct Projectors {
    /// Which read models; all unless named.
    names: Vec<String>,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    keys: KeysConfig,
    #[command(flatten)]
    kafka: events::log::Config,
    #[command(flatten)]
    archive: ArchiveAt,
    #[command(flatten)]
    bucket: BucketKeys,
    #[command(flatten)]
    config: projectors::config::Config,
    #[command(flatten)]
    admin: Admin,
}

impl Projectors {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let facts = Facts {
            kafka: self.kafka,
            keys: stack::keys(&self.keys)?,
            archive: self.archive,
            bucket: self.bucket,
        };
        let pool =
            stack::projectors(&self.database, &facts, &self.config, &self.names, shutdown).await?;
        self.admin
            .serve(vec![Dependency::Postgres(pool)], shutdown)
            .await?;
        shutdown.cancelled().await;
        Ok(())
    }
}
