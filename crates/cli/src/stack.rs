//! The parts of a running Cinelog, each started by one function, so that a process is a list of calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context;
use api::ApiState;
use events::archive::Archive;
use events::log::{Judgement, Kafka, Relay};
use events::store::{Keys, KeysConfig, Log, Reader, Wake};
use service::clock::Clock;
use service::db::{self, Role};
use service::health::{Dependency, Health};
use service::secret::Secret;
use service::shutdown::Shutdown;
use service::telemetry;
use sqlx::PgPool;
use storage::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::data::DataFolder;
use crate::erasure;
use crate::kept::Kept;
use crate::postgres::Cluster;

/// What every command that talks to Postgres takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Database {
    #[command(flatten)]
    db: db::Config,
}

impl Database {
    /// Of `url` in place of what is configured.
    #[must_use]
    pub fn at(self, url: Secret) -> Self {
        Self {
            db: db::Config {
                database_url: Some(url),
                ..self.db
            },
        }
    }

    /// What is configured, else the private Postgres in `folder`, if there is one.
    #[must_use]
    pub(crate) fn or_in(self, folder: Option<&DataFolder>) -> Self {
        match (self.url(), folder) {
            (None, Some(folder)) => self.at(Cluster::url_in(&folder.postgres())),
            _ => self,
        }
    }

    /// Forgets the URL.
    pub(crate) fn forget(&mut self) {
        self.db.database_url = None;
    }

    /// The URL, when one is configured.
    pub fn url(&self) -> Option<&Secret> {
        let url = self.db.database_url.as_ref();
        url.filter(|url| !url.expose().is_empty())
    }

    /// A pool with the rights of `role`.
    pub async fn pool(&self, role: Role) -> anyhow::Result<PgPool> {
        self.connect(role, self.db.connections(role)).await
    }

    /// The same with a quarter of the connections, or four, for what is seldom asked.
    pub async fn few(&self, role: Role) -> anyhow::Result<PgPool> {
        let all = self.db.connections(role);
        self.connect(role, all.div_ceil(4).max(all.min(4))).await
    }

    async fn connect(&self, role: Role, connections: u32) -> anyhow::Result<PgPool> {
        let url = self
            .url()
            .context("set DATABASE_URL, or use `cinelog up` for a private Postgres")?;
        db::connect(url, role, connections)
            .await
            .context("connect to Postgres")
    }
}

/// The keys of a bucket, for commands that take no other store.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct BucketKeys {
    /// The bucket's access key.
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    pub aws_access_key_id: Option<String>,
    /// The bucket's secret key.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub aws_secret_access_key: Option<Secret>,
}

impl From<&storage::Config> for BucketKeys {
    fn from(storage: &storage::Config) -> Self {
        Self {
            aws_access_key_id: storage.aws_access_key_id.clone(),
            aws_secret_access_key: storage.aws_secret_access_key.clone(),
        }
    }
}

impl BucketKeys {
    /// The store at `url`.
    pub fn store(&self, url: &str) -> storage::Config {
        storage::Config {
            storage_url: Some(url.to_owned()),
            aws_access_key_id: self.aws_access_key_id.clone(),
            aws_secret_access_key: self.aws_secret_access_key.clone(),
            public_url: None,
        }
    }
}

/// Where facts are that have left Postgres.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct ArchiveAt {
    /// The archive that `cinelog log archive` made: a folder or a bucket, as `STORAGE_URL`. Facts below the log's floor are
    /// read from there; without it they are refused.
    #[arg(long, env = "ARCHIVE_URL")]
    pub archive_url: Option<String>,
}

impl ArchiveAt {
    /// A reader of the log that `pool` leads to, and of its archive where there is one.
    pub async fn reader(&self, pool: &PgPool, keys: &BucketKeys) -> anyhow::Result<Reader> {
        Ok(Reader::new(pool.clone(), self.archive(pool, keys).await?))
    }

    /// The archive of the log that `pool` leads to, where there is one.
    pub async fn archive(
        &self,
        pool: &PgPool,
        keys: &BucketKeys,
    ) -> anyhow::Result<Option<Archive>> {
        let Some(store) = self.store(keys)? else {
            return Ok(None);
        };
        let log_id = events::store::bounds(pool).await?.log_id;
        Ok(Some(Archive::new(store, log_id)))
    }

    /// The log that `pool` leads to, open to be written, and to be read with its archive where there is one.
    pub async fn log(
        &self,
        pool: PgPool,
        bucket: &BucketKeys,
        keys: Keys,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Log> {
        let store = self.store(bucket)?;
        let log = Log::open(pool, keys, shutdown).await?;
        let archive = store.map(|store| Archive::new(store, log.id()));
        Ok(log.with_archive(archive))
    }

    /// Where the archive lies, if there is one.
    fn store(&self, keys: &BucketKeys) -> anyhow::Result<Option<Store>> {
        let url = self.archive_url.as_deref().filter(|url| !url.is_empty());
        url.map(|url| {
            Store::open(&keys.store(url)).with_context(|| format!("open the archive {url}"))
        })
        .transpose()
    }
}

/// The admin listener's option.
#[derive(Clone, Debug, clap::Args)]
pub struct Admin {
    /// Where `/health`, `/ready` and `/metrics` of this process are; nowhere unless set.
    #[arg(long, env = "ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
}

impl Admin {
    /// Serves the admin routes if asked to, over the dependencies this process needs.
    pub async fn serve(
        &self,
        needs: Vec<Dependency>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Health> {
        let health = Health::new(needs, telemetry::init_metrics(shutdown));
        if let Some(address) = self.admin_listen {
            let bound = health
                .clone()
                .serve(address, shutdown)
                .await
                .context("open the admin listener")?;
            tracing::info!(%bound, "admin listener");
        }
        Ok(health)
    }
}

/// Brings the database to the newest shape, read models included.
pub async fn migrate(database: &Database) -> anyhow::Result<()> {
    let owner = database.pool(Role::Owner).await?;
    service::migrate::run(&owner)
        .await
        .context("migrate the database")?;
    projectors::registry::prepare(&owner)
        .await
        .context("prepare the read models")?;
    owner.close().await;
    Ok(())
}

/// The keys of persons under the configured master key.
pub fn keys(config: &KeysConfig) -> anyhow::Result<Keys> {
    Ok(Keys::new(config.read()?))
}

/// What a relay, projectors and a transcoder read from.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The topics' brokers; none: the log in Postgres.
    pub kafka: events::log::Config,
    /// The keys of persons.
    pub keys: Keys,
    /// Where facts are that have left Postgres.
    pub archive: ArchiveAt,
    /// The keys of a bucket there.
    pub bucket: BucketKeys,
}

/// Starts the relay, when there are brokers. What it cannot mend ends the process: an operator must decide. Gives what
/// the relay knows of the topic.
pub async fn relay(
    database: &Database,
    kafka: &events::log::Config,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<watch::Receiver<Judgement>>> {
    let Some(kafka) = Kafka::from_config(kafka) else {
        return Ok(None);
    };
    let pool = database.pool(Role::Api).await?;
    let relay = Relay::new(
        pool.clone(),
        Wake::start(pool, shutdown),
        kafka,
        Clock::System,
    );
    let (end, judged) = (shutdown.clone(), relay.judged());
    shutdown.spawn(async move {
        if let Err(error) = relay.run(&end).await {
            tracing::error!(%error, "the relay gives up");
            end.fail(error);
        }
    });
    Ok(Some(judged))
}

/// Starts the projectors called `names`; none named: all. Builds of read models that come or go
/// later are noticed, and what another version made is replaced.
pub async fn projectors(
    database: &Database,
    facts: &Facts,
    config: &projectors::config::Config,
    names: &[String],
    shutdown: &Shutdown,
) -> anyhow::Result<PgPool> {
    let pool = database.pool(Role::Projector).await?;
    facts.keys.check(&pool).await?;
    projectors::erase::keep(pool.clone(), config.clone(), shutdown);
    let keys = facts.keys.clone();
    erasure::keep(database, keys, pool.clone(), config.clone(), shutdown).await?;
    let mut kept = Kept {
        wake: Wake::start(pool.clone(), shutdown),
        log_id: events::store::bounds(&pool).await?.log_id,
        reader: facts.archive.reader(&pool, &facts.bucket).await?,
        kafka: Kafka::from_config(&facts.kafka),
        keys: facts.keys.clone(),
        config: config.clone(),
        names: names.to_vec(),
        pool: pool.clone(),
        running: BTreeMap::new(),
    };
    kept.refuse_unknown().await?;
    kept.look(shutdown).await?;
    kept.replace(database.pool(Role::Owner).await?, shutdown);
    kept.keep(shutdown);
    events::subscription::watch_lag(pool.clone(), shutdown);
    Ok(pool)
}

/// Serves the API on `listener`; of `pools` the first has the rights of the API, the second those of accounts.
pub async fn api(
    log: Log,
    pools: (PgPool, PgPool),
    storage: &storage::Config,
    config: api::config::Config,
    listener: TcpListener,
    health: Option<&Health>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let store = Store::open_or_make(storage).context("open the object store")?;
    let proxies = config.trusted_proxies.clone();
    let state = ApiState::new(config, log, pools, store, Clock::System, shutdown.clone()).await?;
    let more = health.map(Health::public_routes).unwrap_or_default();
    service::http::serve(listener, api::router(state, more), &proxies, shutdown);
    Ok(())
}
