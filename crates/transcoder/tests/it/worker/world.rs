//! A log, a queue and a store of a test's own, and workers for them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use events::decide::asset::{complete_upload, request_upload};
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::asset::{UploadCompleted, UploadRequested};
use events::id::{AssetId, CommandId, Position, StreamKey, TenantId, UserId};
use events::seal::Key as MasterKey;
use events::source::Source;
use events::store::{Command, Emit, Keys, Log, Streams, Wake};
use events::subscription::{Options, Runner as Reader, Subscriber, lag};
use service::clock::Clock;
use service::db::Role;
use service::secret::Secret;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use storage::{Checksum, Key, Store};
use testing::db::Database;
use testing::process::Child;
use testing::s3::S3Server;
use testing::wait;
use transcoder::job::{Class, Job, Jobs};
use transcoder::limits::Limits;
use transcoder::objects::ObjectFold;
use transcoder::run::Runner;
use transcoder::sandbox::Level;
use transcoder::subscription::JobFold;
use transcoder::worker::{Config, Worker};
use uuid::Uuid;

pub(super) const LIMIT: Duration = Duration::from_mins(3);
pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_cinelog-transcoder");
/// 32 bytes of seven, as `MASTER_KEY` has them.
pub(super) const MASTER_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

pub(super) fn owner() -> UserId {
    UserId::of("test", "ana")
}

/// A log, a queue and a store of a test's own.
pub(super) struct World {
    pub(super) database: Database,
    pub(super) pool: PgPool,
    pub(super) log: Log,
    pub(super) keys: Keys,
    pub(super) tenant: TenantId,
    pub(super) store: Store,
    pub(super) storage: storage::Config,
    pub(super) shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().to_str().unwrap().to_owned();
        Self::with(folder, storage_at(url)).await
    }

    pub(super) async fn on(server: &S3Server) -> Self {
        let config = storage::Config {
            aws_access_key_id: Some(server.access_key.clone()),
            aws_secret_access_key: Some(Secret::new(server.secret_key.clone())),
            ..storage_at(server.storage_url())
        };
        Self::with(tempfile::tempdir().unwrap(), config).await
    }

    pub(super) async fn with(folder: tempfile::TempDir, storage: storage::Config) -> Self {
        let database = Database::migrated().await;
        let pool = database.pool(Role::Transcoder).await;
        let shutdown = Shutdown::new();
        let keys = Keys::new(MasterKey::from_bytes([7; 32]));
        let log = Log::open(pool.clone(), keys.clone(), &shutdown)
            .await
            .unwrap();
        Self {
            tenant: log.default_tenant().await.unwrap(),
            store: Store::open_or_make(&storage).unwrap(),
            database,
            pool,
            log,
            keys,
            storage,
            shutdown,
            _folder: folder,
        }
    }

    pub(super) async fn execute(
        &self,
        key: &str,
        asset: AssetId,
        decide: impl Fn(&events::decide::asset::AssetState) -> events::decide::Decision + Send + Sync,
    ) {
        let id = CommandId {
            tenant: self.tenant,
            actor: owner(),
            route: "test".to_owned(),
            key: format!("{key} {asset}"),
        };
        let command = Command {
            id,
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let stream = StreamKey::asset(asset);
        let decide = |streams: &Streams| Ok(Emit::all(&stream, decide(&streams.get(&stream))?));
        let streams = [stream.clone()];
        let accepted = self.log.execute(&command, &streams, decide).await.unwrap();
        assert!(!accepted.facts.is_empty(), "{key}");
    }

    /// An upload whose bytes are in the store, with the jobs that every upload gets.
    pub(super) async fn upload(&self, bytes: Vec<u8>) -> AssetId {
        self.upload_for(bytes, &["fast@1", "proxy720@1"]).await
    }

    pub(super) async fn upload_for(&self, bytes: Vec<u8>, profiles: &[&str]) -> AssetId {
        self.upload_by(owner(), bytes, profiles).await
    }

    pub(super) async fn upload_by(
        &self,
        owner: UserId,
        bytes: Vec<u8>,
        profiles: &[&str],
    ) -> AssetId {
        let asset = AssetId(Uuid::now_v7());
        let key = Key::original(self.tenant.0, asset.0);
        let (size, sha256) = (bytes.len() as u64, Checksum::of(&bytes).to_string());
        self.store
            .put(&key, bytes.into(), "video/mp4")
            .await
            .unwrap();
        let requested = UploadRequested {
            asset,
            owner,
            file_name: "gato.mp4".into(),
            media_type: "video/mp4".to_owned(),
            bytes: size,
            sha256: sha256.clone(),
            storage_key: key.as_str().to_owned(),
            expires_at: Clock::System.now(),
        };
        let completed = UploadCompleted {
            asset,
            owner,
            storage_key: key.as_str().to_owned(),
            bytes: size,
            sha256,
            etag: None,
            media_type: "video/mp4".to_owned(),
            profiles: profiles.iter().map(|&name| name.to_owned()).collect(),
        };
        self.execute("request", asset, |state| {
            request_upload(state, requested.clone())
        })
        .await;
        self.execute("complete", asset, |state| {
            complete_upload(state, completed.clone(), chrono::DateTime::UNIX_EPOCH)
        })
        .await;
        asset
    }

    /// Runs the folds in this process.
    pub(super) fn fold(&self) -> Shutdown {
        let end = self.shutdown.child();
        let wake = Wake::start(self.pool.clone(), &end);
        let subscribers: [Arc<dyn Subscriber>; 2] = [Arc::new(JobFold), Arc::new(ObjectFold)];
        for subscriber in subscribers {
            let source = Source::postgres(&self.pool, wake.clone());
            let (pool, keys) = (self.pool.clone(), self.keys.clone());
            let reader = Reader::new(subscriber, pool, source, keys, Options::default());
            let stop = end.clone();
            end.spawn(async move { reader.run(&stop).await });
        }
        end
    }

    /// Runs the fold and a worker in this process.
    pub(super) fn work(&self) -> Shutdown {
        self.work_with(Config::default())
    }

    pub(super) fn work_with(&self, config: Config) -> Shutdown {
        self.work_by(Path::new(BINARY), config)
    }

    /// The same with another program as the child.
    pub(super) fn work_by(&self, exe: &Path, config: Config) -> Shutdown {
        let end = self.fold();
        let runner = Runner {
            exe: exe.into(),
            sandbox: Level::BestEffort,
            limits: Limits::default(),
        };
        let config = Config {
            slots: std::num::NonZeroUsize::new(2),
            ..config
        };
        let (pool, log, store) = (self.pool.clone(), self.log.clone(), self.store.clone());
        let worker = Worker::new(pool, log, store, runner, config);
        let stop = end.clone();
        end.spawn(async move { worker.run(&stop).await });
        end
    }

    /// Starts the worker as a process of its own.
    pub(super) fn start(&self, options: &[&str], failpoints: &str) -> Child {
        self.start_on(self.database.url().expose(), options, failpoints)
    }

    pub(super) fn start_on(&self, database: &str, options: &[&str], failpoints: &str) -> Child {
        let fixed = ["worker", "--slots", "1", "--sandbox", "best-effort"];
        let storage = self.storage.storage_url.clone().unwrap();
        Child::start(
            BINARY,
            &[&fixed[..], options].concat(),
            &[
                ("DATABASE_URL", database),
                ("DATABASE_CONNECTIONS", "6"),
                ("MASTER_KEY", MASTER_KEY),
                ("STORAGE_URL", &storage),
                ("KAFKA_BROKERS", ""),
                ("CINELOG_FAILPOINTS", failpoints),
                ("LOG", "info"),
            ],
        )
    }

    pub(super) async fn facts(&self, asset: AssetId) -> Vec<Recorded> {
        let stored = self.log.read(Position::START, 10_000).await.unwrap();
        let mut facts = self.log.open_facts(stored).await.unwrap();
        facts.retain(|fact| fact.stream == StreamKey::asset(asset).stream);
        facts
    }

    /// The asset's facts, once it is ready or has failed.
    pub(super) async fn settled(&self, asset: AssetId) -> Vec<Fact> {
        wait::until(LIMIT, "the asset's jobs ended", async || {
            let facts: Vec<Fact> = self
                .facts(asset)
                .await
                .into_iter()
                .map(|f| f.fact)
                .collect();
            let last = facts.last()?;
            matches!(last, Fact::AssetReady(_) | Fact::AssetFailed(_)).then_some(facts)
        })
        .await
    }

    /// What follows from facts alone, as text; what workers note down besides is left out.
    pub(super) async fn rows(&self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT row(job_id, tenant, asset, owner, profile, class, source_key, source_bytes, source_sha256, state,
                 asked_at, asked_on, run, error)::text FROM jobs.jobs ORDER BY asked_at, profile",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    pub(super) async fn states(&self) -> Vec<(String, String, i32)> {
        sqlx::query_as("SELECT profile, state, attempts FROM jobs.jobs ORDER BY asked_at, profile")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    pub(super) async fn folded(&self) {
        wait::until_true(LIMIT, "the fold has caught up", async || {
            let mut connection = self.pool.acquire().await.unwrap();
            let lags = lag(&mut connection).await.unwrap();
            [JobFold::NAME, ObjectFold::NAME].iter().all(|name| {
                lags.iter()
                    .any(|lag| lag.subscription == *name && lag.lanes_behind == 0)
            })
        })
        .await;
    }

    /// Waits until `worker` makes a proxy.
    pub(super) async fn rendering(&self, worker: &Child) {
        wait::until_true(LIMIT, "a proxy is on its way", async || {
            let bad: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM jobs.jobs WHERE attempts > 1 OR state = 'failed')",
            )
            .fetch_one(&self.pool)
            .await
            .unwrap();
            assert!(!bad, "{}", worker.stderr());
            let stage: Option<String> = sqlx::query_scalar(
                "SELECT stage FROM jobs.progress WHERE stage = 'proxy' AND done < 1",
            )
            .fetch_optional(&self.pool)
            .await
            .unwrap();
            stage.is_some()
        })
        .await;
    }

    /// Lets the time go by after which a dead worker's jobs are anyone's.
    pub(super) async fn outlive_leases(&self) {
        sqlx::query("UPDATE jobs.jobs SET lease_until = '-infinity' WHERE state = 'running'")
            .execute(&self.pool)
            .await
            .unwrap();
    }
}

pub(super) fn storage_at(url: String) -> storage::Config {
    storage::Config {
        storage_url: Some(url),
        aws_access_key_id: None,
        aws_secret_access_key: None,
        public_url: None,
    }
}

pub(super) fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap()
}

/// Names and types of facts in order, without what an upload begins with.
pub(super) fn outline(facts: &[Fact]) -> Vec<String> {
    facts[2..]
        .iter()
        .map(|fact| match fact {
            // Which job makes sprites is told by how far the clip's keyframes are apart.
            Fact::RenditionCompleted(made) if made.name.starts_with("sprite") => made.name.clone(),
            Fact::RenditionCompleted(made) => format!("{} {}", made.profile, made.name),
            other => other.fact_type().to_owned(),
        })
        .collect()
}

pub(super) const WHOLE: [&str; 12] = [
    "asset.probed",
    "asset.ready",
    "fast@1 manifest-fast-1.json",
    "fast@1 poster.jpg",
    "fast@1 waveform.dat",
    "fast@1 waveform.json",
    "fast@1 waveform.png",
    "proxy720@1 manifest-proxy720-1.json",
    "proxy720@1 proxy.mp4",
    "sprite-001.jpg",
    "sprite.json",
    "sprite.vtt",
];

/// Asserts that every output was recorded once, and the asset ready once, as the last of all.
#[track_caller]
pub(super) fn assert_whole(facts: &[Fact]) {
    assert!(
        matches!(facts.last(), Some(Fact::AssetReady(_))),
        "{facts:?}"
    );
    let mut outline = outline(facts);
    outline.sort();
    // The job that listens to loudness says so even after another has looked at the original.
    if outline.starts_with(&["asset.probed".to_owned(), "asset.probed".to_owned()]) {
        outline.remove(0);
    }
    assert_eq!(outline, WHOLE);
}

/// The next job, if there is one.
pub(super) async fn claim(jobs: &Jobs, class: Option<Class>) -> Option<Job> {
    let mut claimed = jobs.claim(class, 1).await.unwrap();
    assert!(claimed.len() <= 1);
    claimed.pop()
}
