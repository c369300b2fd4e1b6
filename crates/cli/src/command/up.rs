//! `cinelog up`: one machine, one command.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use events::log::Judgement;
use events::store::{KeysConfig, Log};
use service::db::Role;
use service::health::Dependency;
use service::secret::Secret;
use service::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::data::DataFolder;
use crate::out::say;
use crate::postgres::Cluster;
use crate::stack::{self, Admin, ArchiveAt, BucketKeys, Database, Facts};
use crate::transcoder;

/// Runs everything on this machine. What is configured (`DATABASE_URL`, `KAFKA_BROKERS`, `STORAGE_URL`) is used; what
/// is not is made in the data folder.
#[derive(Clone, Debug, clap::Args)]
pub struct Up {
    /// Where secrets, the private Postgres and stored objects are; made when it is not there.
    #[arg(long, env = "DATA", default_value = ".cinelog/data")]
    pub data: PathBuf,
    #[command(flatten)]
    pub(crate) database: Database,
    #[command(flatten)]
    pub(crate) storage: storage::Config,
    #[command(flatten)]
    pub(crate) keys: KeysConfig,
    #[command(flatten)]
    pub(crate) kafka: events::log::Config,
    #[command(flatten)]
    pub(crate) archive: ArchiveAt,
    #[command(flatten)]
    pub(crate) api: api::config::Config,
    #[command(flatten)]
    pub(crate) projectors: projectors::config::Config,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

/// A Cinelog that runs.
#[derive(Debug)]
pub struct Running {
    /// Where its public listener is.
    pub address: SocketAddr,
    /// Signs its tokens.
    pub secret: Secret,
    /// Its log.
    pub log: Log,
    /// Its database.
    pub database: Database,
    cluster: Option<Cluster>,
    _folder: DataFolder,
}

impl Up {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let data = self.data.display().to_string();
        let running = Box::pin(self.start(shutdown)).await?;
        say(format_args!(
            "Cinelog is up on http://{}  (data in {data}, Ctrl-C stops it)",
            running.address
        ));
        say(format_args!(
            "a token to call it with:  cinelog token --data {data} --user ana"
        ));
        shutdown.cancelled().await;
        running.stop(shutdown).await
    }

    /// Forgets what is configured: everything comes from the data folder.
    pub(crate) fn alone(&mut self) {
        self.database.forget();
        self.kafka.kafka_brokers = None;
        self.archive.archive_url = None;
        self.storage.storage_url = None;
    }

    /// Starts everything, in the order in which one needs the other.
    pub async fn start(mut self, shutdown: &Shutdown) -> anyhow::Result<Running> {
        let folder = DataFolder::open(&self.data)?;
        let secret = self.fill_in(&folder)?;
        let cluster = match self.database.url() {
            Some(_) => None,
            None => Some(Cluster::start(&folder.postgres(), shutdown).await?),
        };
        if let Some(cluster) = &cluster {
            self.database = self.database.at(cluster.url());
        }
        match Box::pin(self.start_on(folder, secret, shutdown)).await {
            Ok(running) => Ok(Running { cluster, ..running }),
            Err(error) => {
                if let Some(cluster) = cluster {
                    cluster.stop().await.ok();
                }
                Err(error)
            }
        }
    }

    async fn start_on(
        mut self,
        folder: DataFolder,
        secret: Secret,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Running> {
        stack::migrate(&self.database).await?;
        let listen = self.api.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listen on {listen}"))?;
        let address = listener.local_addr()?;
        if self.storage.public_url.is_none() {
            self.storage.public_url = Some(reachable(address).parse()?);
        }

        // Not the brokers: while they are away, commands are accepted and what is known is told.
        let pool = self.database.pool(Role::Api).await?;
        let needs = vec![Dependency::Postgres(pool.clone())];
        let health = self.admin.serve(needs, shutdown).await?;
        let keys = stack::keys(&self.keys)?;
        let facts = Facts {
            kafka: self.kafka.clone(),
            keys: keys.clone(),
            archive: self.archive.clone(),
            bucket: BucketKeys::from(&self.storage),
        };
        if let Some(judged) = stack::relay(&self.database, &self.kafka, shutdown).await? {
            wait_for(judged, shutdown).await?;
        }
        stack::projectors(&self.database, &facts, &self.projectors, &[], shutdown).await?;
        let transcoder = self.environment(folder.empty_scratch()?);
        let log = self
            .archive
            .log(pool.clone(), &facts.bucket, keys, shutdown)
            .await?;
        stack::api(
            log.clone(),
            (pool, self.database.few(Role::Accounts).await?),
            &self.storage,
            self.api,
            listener,
            Some(&health),
            shutdown,
        )
        .await?;
        // After the API, which makes the folder of objects.
        transcoder::keep(transcoder, shutdown);
        Ok(Running {
            address,
            secret,
            log,
            database: self.database,
            cluster: None,
            _folder: folder,
        })
    }

    /// Fills in what is not configured from the data folder; returns the secret that signs.
    fn fill_in(&mut self, folder: &DataFolder) -> anyhow::Result<Secret> {
        if !self.keys.is_set() {
            self.keys.master_key = Some(folder.master_key()?);
        }
        if self.storage.storage_url.is_none() {
            self.storage.storage_url = Some(folder.storage().display().to_string());
        }
        if self.api.accounts.mail.is_none() {
            self.api.accounts.mail = Some(Secret::new(folder.mail().display().to_string()));
        }
        let secret = match &self.api.secret_key {
            Some(secret) => secret.clone(),
            None => folder.secret_key()?,
        };
        self.api.secret_key = Some(secret.clone());
        Ok(secret)
    }

    /// The transcoder's configuration: its own process, so its own environment.
    fn environment(&self, scratch: PathBuf) -> Vec<transcoder::Variable> {
        let secret = |secret: Option<&Secret>| secret.map(|secret| secret.expose().into());
        let file = |path: Option<&PathBuf>| path.map(|path| path.clone().into_os_string());
        [
            ("DATABASE_URL", secret(self.database.url())),
            ("MASTER_KEY", secret(self.keys.master_key.as_ref())),
            ("MASTER_KEY_FILE", file(self.keys.master_key_file.as_ref())),
            (
                "SECOND_MASTER_KEY",
                secret(self.keys.second_master_key.as_ref()),
            ),
            (
                "SECOND_MASTER_KEY_FILE",
                file(self.keys.second_master_key_file.as_ref()),
            ),
            (
                "STORAGE_URL",
                self.storage.storage_url.as_ref().map(Into::into),
            ),
            (
                "AWS_ACCESS_KEY_ID",
                self.storage.aws_access_key_id.as_ref().map(Into::into),
            ),
            (
                "AWS_SECRET_ACCESS_KEY",
                secret(self.storage.aws_secret_access_key.as_ref()),
            ),
            ("SCRATCH", Some(scratch.into())),
            // It signs nothing, and reads strangers' files.
            ("SECRET_KEY", None),
            // Its own listener would want our port.
            ("ADMIN_LISTEN", None),
        ]
        .into_iter()
        .chain(self.kafka.environment())
        .collect()
    }
}

impl Running {
    /// Ends every part, then the private Postgres under them.
    pub async fn stop(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        // The log's writer ends with the last way to it.
        drop(self.log);
        if !shutdown.finish(END).await {
            tracing::warn!("something did not end in time");
        }
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}

/// How long the API waits for the relay to look at the topic. Brokers that are away hold nobody up for longer.
const JUDGED: std::time::Duration = std::time::Duration::from_secs(10);

/// Nothing may be appended to a restored backup before the relay has seen that it is one: until then what only the topic
/// has can be brought back.
async fn wait_for(
    mut judged: watch::Receiver<Judgement>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let mut doubted = judged.clone();
    let too_long = async {
        tokio::time::sleep(JUDGED).await;
        doubted
            .wait_for(|so| *so != Judgement::Doubted)
            .await
            .is_ok()
    };
    tokio::select! {
        // A relay that has given up says why through `shutdown`.
        Ok(_) = judged.wait_for(|so| *so == Judgement::Passed) => {}
        true = too_long => {
            tracing::warn!("nothing is known of the topic yet; commands are taken all the same");
        }
        () = shutdown.cancelled() => {}
    }
    match shutdown.failure() {
        Some(why) => Err(anyhow::anyhow!("{why}")),
        None => Ok(()),
    }
}

/// How long the parts may take to end.
const END: std::time::Duration = std::time::Duration::from_secs(30);

/// How this machine reaches a listener on `address`; one on all addresses is on the loopback too.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("http://127.0.0.1:{}", address.port());
    }
    format!("http://{address}")
}
