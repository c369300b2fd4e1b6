//! The parts of a running Cinelog, each started by one function, so that a process is a list of calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::ApiState;
use events::archive::Archive;
use events::log::{Judgement, Kafka, Relay};
use events::source::Source;
use events::store::{Keys, KeysConfig, Log, Reader, Wake};
use events::subscription::{Options, Runner, Subscriber};
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
use uuid::Uuid;

use crate::data::DataFolder;
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

    /// What is configured, else the private Postgres in `folder`.
    #[must_use]
    pub(crate) fn or_in(self, folder: &DataFolder) -> Self {
        match self.url() {
            Some(_) => self,
            None => self.at(Cluster::url_in(&folder.postgres())),
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
        let url = self
            .url()
            .context("set DATABASE_URL, or use `cinelog up` for a private Postgres")?;
        db::connect(url, role, self.db.database_connections)
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

/// Starts the projectors called `names`; none named: all. Builds of read models that come or go later are noticed.
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
    let end = shutdown.clone();
    shutdown.spawn(async move {
        while end.sleep(LOOK).await {
            if let Err(error) = kept.look(&end).await {
                tracing::warn!(%error, "builds of read models could not be looked for");
            }
        }
        for running in kept.running.values() {
            running.finish(LAST_BATCH).await;
        }
    });
    Ok(pool)
}

/// How often builds of read models are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last batch of a build that is not kept any more may take.
const LAST_BATCH: Duration = Duration::from_mins(1);

/// The builds of read models that this process keeps true.
struct Kept {
    pool: PgPool,
    config: projectors::config::Config,
    names: Vec<String>,
    kafka: Option<Kafka>,
    reader: Reader,
    keys: Keys,
    wake: Wake,
    log_id: Uuid,
    running: BTreeMap<String, Shutdown>,
}

impl Kept {
    async fn refuse_unknown(&self) -> anyhow::Result<()> {
        let known = projectors::registry::live(&self.pool).await?;
        anyhow::ensure!(
            !known.is_empty(),
            "there are no read models yet: run `cinelog migrate`"
        );
        if let Some(unknown) = self.names.iter().find(|name| !known.contains_key(*name)) {
            let known: Vec<_> = known.into_keys().collect();
            anyhow::bail!(
                "no projector is called `{unknown}`; there are {}",
                known.join(", ")
            );
        }
        Ok(())
    }

    /// Starts what is there now, and ends what is not any more.
    async fn look(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut there = projectors::registry::subscribers(&self.pool, &self.config).await?;
        let of =
            |one: &Arc<dyn Subscriber>, name: &String| one.name().starts_with(&format!("{name}_g"));
        there.retain(|one| self.names.is_empty() || self.names.iter().any(|name| of(one, name)));
        let is_there = |name: &String| there.iter().any(|one| one.name() == name);
        let gone: Vec<_> = self
            .running
            .extract_if(.., |name, _| !is_there(name))
            .collect();
        for (name, running) in gone {
            tracing::info!(subscription = name, "not kept any more");
            running.finish(LAST_BATCH).await;
        }
        for subscriber in there {
            let name = subscriber.name().to_owned();
            if self.running.contains_key(&name) {
                continue;
            }
            let source = Source::open(
                self.kafka.as_ref(),
                self.reader.clone(),
                &self.wake,
                self.log_id,
                &name,
            )?;
            let runner = Runner::new(
                subscriber,
                self.pool.clone(),
                source,
                self.keys.clone(),
                Options::default(),
            );
            let own = shutdown.child();
            let end = own.clone();
            own.spawn(async move { runner.run(&end).await });
            self.running.insert(name, own);
        }
        Ok(())
    }
}

/// Serves the API on `listener`.
pub fn api(
    log: Log,
    pool: PgPool,
    storage: &storage::Config,
    config: api::config::Config,
    listener: TcpListener,
    health: Option<&Health>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let store = Store::open_or_make(storage).context("open the object store")?;
    let state = ApiState::new(config, log, pool, store, Clock::System, shutdown.clone())?;
    let routes = api::router(state);
    let routes = match health {
        Some(health) => routes.merge(health.public_routes()),
        None => routes,
    };
    service::http::serve(listener, routes, shutdown);
    Ok(())
}
