//! The worker against a real log, a real queue and a real store: every job ends once, whoever dies on the way.

use std::path::Path;
use std::process::Command as Program;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::decide::asset::{complete_upload, delete, request_rendition, request_upload};
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::asset::{UploadCompleted, UploadRequested};
use events::id::{AssetId, CommandId, Position, StreamKey, TenantId, UserId};
use events::seal::Key as MasterKey;
use events::source::Source;
use events::store::{Command, Emit, Keys, Log, Streams, Wake};
use events::subscription::{Options, Runner as Reader, lag};
use service::db::Role;
use service::secret::Secret;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use storage::{Checksum, Key, Store};
use testing::clip;
use testing::db::Database;
use testing::process::Child;
use testing::s3::S3Server;
use testing::wait;
use transcoder::job::{Class, Jobs};
use transcoder::limits::Limits;
use transcoder::run::Runner;
use transcoder::sandbox::Level;
use transcoder::subscription::JobFold;
use transcoder::worker::{Config, Worker};
use uuid::Uuid;

const LIMIT: Duration = Duration::from_mins(3);
const BINARY: &str = env!("CARGO_BIN_EXE_cinelog-transcoder");
/// 32 bytes of seven, as `MASTER_KEY` has them.
const MASTER_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

fn owner() -> UserId {
    UserId::of("test", "ana")
}

/// A log, a queue and a store of a test's own.
struct World {
    database: Database,
    pool: PgPool,
    log: Log,
    keys: Keys,
    tenant: TenantId,
    store: Store,
    storage: storage::Config,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().to_str().unwrap().to_owned();
        Self::with(folder, storage_at(url)).await
    }

    async fn on(server: &S3Server) -> Self {
        let config = storage::Config {
            aws_access_key_id: Some(server.access_key.clone()),
            aws_secret_access_key: Some(Secret::new(server.secret_key.clone())),
            ..storage_at(server.storage_url())
        };
        Self::with(tempfile::tempdir().unwrap(), config).await
    }

    async fn with(folder: tempfile::TempDir, storage: storage::Config) -> Self {
        let database = Database::migrated().await;
        let pool = database.pool(Role::Transcoder).await;
        let shutdown = Shutdown::new();
        let keys = Keys::new(MasterKey::from_bytes([7; 32]));
        let log = Log::open(pool.clone(), keys.clone(), &shutdown)
            .await
            .unwrap();
        Self {
            tenant: log.default_tenant().await.unwrap(),
            store: Store::open(&storage).unwrap(),
            database,
            pool,
            log,
            keys,
            storage,
            shutdown,
            _folder: folder,
        }
    }

    async fn execute(
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
    async fn upload(&self, bytes: Vec<u8>) -> AssetId {
        self.upload_for(bytes, &["fast@1", "proxy720@1"]).await
    }

    async fn upload_for(&self, bytes: Vec<u8>, profiles: &[&str]) -> AssetId {
        let asset = AssetId(Uuid::now_v7());
        let key = Key::original(self.tenant.0, asset.0);
        let (size, sha256) = (bytes.len() as u64, Checksum::of(&bytes).to_string());
        self.store
            .put(&key, bytes.into(), "video/mp4")
            .await
            .unwrap();
        let requested = UploadRequested {
            asset,
            owner: owner(),
            file_name: "gato.mp4".into(),
            media_type: "video/mp4".to_owned(),
            bytes: size,
            sha256: sha256.clone(),
            storage_key: key.as_str().to_owned(),
            expires_at: DateTime::<Utc>::MAX_UTC,
        };
        let completed = UploadCompleted {
            asset,
            owner: owner(),
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
            complete_upload(state, completed.clone())
        })
        .await;
        asset
    }

    /// Runs the fold in this process.
    fn fold(&self) -> Shutdown {
        let end = self.shutdown.child();
        let wake = Wake::start(self.pool.clone(), &end);
        let source = Source::postgres(self.pool.clone(), wake);
        let reader = Reader::new(
            Arc::new(JobFold),
            self.pool.clone(),
            source,
            self.keys.clone(),
            Options::default(),
        );
        let stop = end.clone();
        end.spawn(async move { reader.run(&stop).await });
        end
    }

    /// Runs the fold and a worker in this process.
    fn work(&self) -> Shutdown {
        let end = self.fold();
        let runner = Runner {
            exe: BINARY.into(),
            sandbox: Level::BestEffort,
            limits: Limits::default(),
        };
        let config = Config {
            slots: std::num::NonZeroUsize::new(2),
            ..Config::default()
        };
        let (pool, log, store) = (self.pool.clone(), self.log.clone(), self.store.clone());
        let worker = Worker::new(pool, log, store, runner, config);
        let stop = end.clone();
        end.spawn(async move { worker.run(&stop).await });
        end
    }

    /// Starts the worker as a process of its own.
    fn start(&self, options: &[&str], failpoints: &str) -> Child {
        let fixed = ["worker", "--slots", "1", "--sandbox", "best-effort"];
        let storage = self.storage.storage_url.clone().unwrap();
        Child::start(
            BINARY,
            &[&fixed[..], options].concat(),
            &[
                ("DATABASE_URL", self.database.url().expose()),
                ("DATABASE_CONNECTIONS", "6"),
                ("MASTER_KEY", MASTER_KEY),
                ("STORAGE_URL", &storage),
                ("KAFKA_BROKERS", ""),
                ("CINELOG_FAILPOINTS", failpoints),
                ("LOG", "info"),
            ],
        )
    }

    async fn facts(&self, asset: AssetId) -> Vec<Recorded> {
        let stored = self.log.read(Position::START, 10_000).await.unwrap();
        let mut facts = self.log.open_facts(stored).await.unwrap();
        facts.retain(|fact| fact.stream == StreamKey::asset(asset).stream);
        facts
    }

    /// The asset's facts, once it is ready or has failed.
    async fn settled(&self, asset: AssetId) -> Vec<Fact> {
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
    async fn rows(&self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT row(job_id, tenant, asset, owner, profile, class, source_key, source_bytes, source_sha256, state,
                 asked_at, error)::text FROM jobs.jobs ORDER BY asked_at, profile",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    async fn states(&self) -> Vec<(String, String, i32)> {
        sqlx::query_as("SELECT profile, state, attempts FROM jobs.jobs ORDER BY asked_at, profile")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    async fn folded(&self) {
        wait::until_true(LIMIT, "the fold has caught up", async || {
            let mut connection = self.pool.acquire().await.unwrap();
            let lags = lag(&mut connection).await.unwrap();
            lags.iter()
                .any(|lag| lag.subscription == JobFold::NAME && lag.lanes_behind == 0)
        })
        .await;
    }

    /// Waits until `worker` makes a proxy.
    async fn rendering(&self, worker: &Child) {
        wait::until_true(LIMIT, "a proxy is on its way", async || {
            let tried: Option<i32> = sqlx::query_scalar("SELECT max(attempts) FROM jobs.jobs")
                .fetch_one(&self.pool)
                .await
                .unwrap();
            assert!(tried.is_none_or(|tried| tried < 2), "{}", worker.stderr());
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
    async fn outlive_leases(&self) {
        sqlx::query("UPDATE jobs.jobs SET lease_until = '-infinity' WHERE state = 'running'")
            .execute(&self.pool)
            .await
            .unwrap();
    }
}

fn storage_at(url: String) -> storage::Config {
    storage::Config {
        storage_url: Some(url),
        aws_access_key_id: None,
        aws_secret_access_key: None,
        public_url: "http://127.0.0.1:8080".parse().unwrap(),
    }
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap()
}

/// Names and types of facts in order, without what an upload begins with.
fn outline(facts: &[Fact]) -> Vec<String> {
    facts[2..]
        .iter()
        .map(|fact| match fact {
            Fact::RenditionCompleted(made) => format!("{} {}", made.profile, made.name),
            other => other.fact_type().to_owned(),
        })
        .collect()
}

const WHOLE: [&str; 8] = [
    "asset.probed",
    "asset.ready",
    "fast@1 manifest.json",
    "fast@1 poster.jpg",
    "fast@1 waveform.dat",
    "fast@1 waveform.json",
    "proxy720@1 manifest.json",
    "proxy720@1 proxy.mp4",
];

/// Asserts that every output was recorded once, and the asset ready once, as the last of all.
#[track_caller]
fn assert_whole(facts: &[Fact]) {
    assert!(
        matches!(facts.last(), Some(Fact::AssetReady(_))),
        "{facts:?}"
    );
    let mut outline = outline(facts);
    outline.sort();
    assert_eq!(outline, WHOLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_becomes_outputs_in_the_bucket_and_one_ready_asset() {
    let server = S3Server::start().await;
    let world = World::on(&server).await;
    let worker = world.work();
    let asset = world.upload(read(&clip::video(320, 180, "25", 2))).await;
    let facts = world.settled(asset).await;
    assert_whole(&facts);
    for fact in &facts {
        match fact {
            Fact::RenditionCompleted(made) => {
                let key: Key = made.storage_key.parse().unwrap();
                let bytes = world.store.read(&key, 1 << 24).await.unwrap();
                assert_eq!(
                    Checksum::of(&bytes).to_string(),
                    made.sha256,
                    "{}",
                    made.name
                );
                assert_eq!(bytes.len() as u64, made.bytes, "{}", made.name);
            }
            Fact::AssetProbed(probed) => {
                let media = &probed.media;
                assert_eq!((media.width, media.height), (Some(320), Some(180)));
                assert_eq!(media.frame_rate, Some(25.0));
                assert_eq!(media.video_codec.as_deref(), Some("h264"));
                assert_eq!(
                    (media.audio_codec.as_deref(), media.channels),
                    (Some("aac"), Some(1))
                );
                assert!(media.duration_ms.unwrap().abs_diff(2000) < 50, "{media:?}");
            }
            _ => {}
        }
    }
    world.folded().await;
    let done = |profile: &str| (profile.to_owned(), "done".to_owned(), 1);
    assert_eq!(world.states().await, [done("fast@1"), done("proxy720@1")]);
    let progress: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs.progress")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(progress, 0, "an ended job has no progress");
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_media_fails_once_per_job_and_is_not_tried_again() {
    let world = World::new().await;
    let worker = world.work();
    let text = world
        .upload(b"To be, or not to be: that is the question.\n".repeat(200))
        .await;
    let silent = world.upload(vec![0; 64]).await;
    for asset in [text, silent] {
        let facts = world.settled(asset).await;
        assert_eq!(
            outline(&facts),
            ["rendition.failed", "rendition.failed", "asset.failed"]
        );
        for fact in &facts {
            if let Fact::RenditionFailed(failed) = fact {
                assert_eq!(failed.error.kind, "input");
                assert!(failed.error.message.contains("not media"), "{failed:?}");
                assert!(!failed.error.retryable);
            }
        }
    }
    world.folded().await;
    assert!(
        world
            .states()
            .await
            .iter()
            .all(|(_, state, attempts)| state == "failed" && *attempts == 1)
    );
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_those_that_were_uploaded_are_the_input_s_fault() {
    let world = World::new().await;
    let asset = world.upload(read(&clip::tone(1))).await;
    let other = read(&clip::tone(2));
    let folder = Path::new(world.storage.storage_url.as_deref().unwrap());
    let key = Key::original(world.tenant.0, asset.0);
    std::fs::write(folder.join(key.as_str()), other).unwrap();
    let gone = world.upload_for(read(&clip::tone(3)), &["fast@1"]).await;
    let key = Key::original(world.tenant.0, gone.0);
    world.store.delete(&key).await.unwrap();

    let worker = world.work();
    for asset in [asset, gone] {
        let facts = world.settled(asset).await;
        let Some(Fact::AssetFailed(failed)) = facts.last() else {
            panic!("{facts:?}");
        };
        assert_eq!(failed.error.kind, "input");
        assert_eq!(
            failed.error.message,
            "the stored object is not what was uploaded"
        );
    }
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_alone_is_ready_with_a_waveform_and_says_nothing_of_posters() {
    let world = World::new().await;
    let worker = world.work();
    let asset = world.upload(read(&clip::tone(1))).await;
    let facts = world.settled(asset).await;
    let mut outline = outline(&facts);
    outline.sort();
    assert!(
        outline.contains(&"fast@1 waveform.dat".to_owned()),
        "{outline:?}"
    );
    assert!(outline.contains(&"asset.ready".to_owned()), "{outline:?}");
    assert!(
        !outline.contains(&"rendition.failed".to_owned()),
        "{outline:?}"
    );
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_s_jobs_are_done_once_by_the_next_and_its_children_die() {
    let world = World::new().await;
    let asset = world.upload(read(&clip::video(1280, 720, "30", 20))).await;
    let worker = world.start(&[], "");
    world.rendering(&worker).await;
    let children = children_of(worker.id());
    assert!(!children.is_empty());
    // Only the worker itself: the kernel ends its children.
    assert!(
        Program::new("kill")
            .args(["-9", &worker.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    wait::until_true(LIMIT, "the children died", async || {
        children.iter().all(|child| !is_alive(*child))
    })
    .await;

    world.outlive_leases().await;
    let next = world.start(&["--exit-when-idle"], "");
    let ended = next.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
    assert_whole(&world.settled(asset).await);
    let states = world.states().await;
    assert_eq!(states[0], ("fast@1".to_owned(), "done".to_owned(), 1));
    assert_eq!(states[1], ("proxy720@1".to_owned(), "done".to_owned(), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_asked_to_end_gives_its_job_back_untried() {
    let world = World::new().await;
    world
        .upload_for(read(&clip::video(1280, 720, "30", 20)), &["proxy720@1"])
        .await;
    let worker = world.start(&["--drain-seconds", "0"], "");
    world.rendering(&worker).await;
    assert!(
        Program::new("kill")
            .args(["-TERM", &worker.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let ended = worker.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(
        world.states().await,
        [("proxy720@1".to_owned(), "queued".to_owned(), 0)]
    );
    let progress: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs.progress")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(progress, 0);
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_commit_point_every_job_still_ends_once() {
    for point in [
        "worker.after_upload",
        "worker.before_append",
        "worker.after_append",
    ] {
        let world = World::new().await;
        let asset = world.upload(read(&clip::video(320, 180, "25", 1))).await;
        let killed = world
            .start(&["--exit-when-idle"], &format!("{point}=kill"))
            .finish(LIMIT)
            .await;
        assert!(!killed.status.success(), "{point}: {killed:?}");
        world.outlive_leases().await;
        let next = world.start(&["--exit-when-idle"], "").finish(LIMIT).await;
        assert!(next.status.success(), "{point}: {next:?}");
        assert_whole(&world.settled(asset).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_folded_again_from_nothing_is_the_same() {
    let world = World::new().await;
    let bad = world.upload(b"hello, world".to_vec()).await;
    let worker = world.work();
    world.settled(bad).await;
    let ready = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    world.settled(ready).await;
    world.folded().await;
    assert!(worker.finish(LIMIT).await);
    world
        .execute("more", ready, |state| {
            request_rendition(state, ready, owner(), "edit@1")
        })
        .await;
    let waiting = world.upload_for(b"still here".to_vec(), &["fast@1"]).await;
    let deleted = world.upload(b"soon gone".to_vec()).await;
    world
        .execute("delete", deleted, |state| delete(state, deleted, owner()))
        .await;

    let fold = world.fold();
    world.folded().await;
    let before = world.rows().await;
    assert!(fold.finish(LIMIT).await);
    let states: Vec<String> = world
        .states()
        .await
        .into_iter()
        .map(|(_, state, _)| state)
        .collect();
    let expected = [
        "failed",
        "failed",
        "done",
        "queued",
        "queued",
        "cancelled",
        "cancelled",
    ];
    assert_eq!(states, expected);

    let owner_pool = world.database.pool(Role::Owner).await;
    sqlx::raw_sql("TRUNCATE jobs.jobs; UPDATE subscription.checkpoints SET position = 0 WHERE subscription = 'jobs'")
        .execute(&owner_pool)
        .await
        .unwrap();
    let fold = world.fold();
    world.folded().await;
    assert_eq!(world.rows().await, before);
    assert!(fold.finish(LIMIT).await);

    // Folded once more over what is there: nothing comes back to life.
    sqlx::query("UPDATE subscription.checkpoints SET position = 0 WHERE subscription = 'jobs'")
        .execute(&owner_pool)
        .await
        .unwrap();
    let fold = world.fold();
    world.folded().await;
    assert_eq!(world.rows().await, before);
    assert!(fold.finish(LIMIT).await);
    let _ = waiting;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ended_before_its_end_was_folded_again_is_not_done_again() {
    let world = World::new().await;
    let worker = world.work();
    let asset = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    let facts = world.settled(asset).await;
    world.folded().await;
    // As a replay that has come to the upload but not to its end.
    sqlx::query("UPDATE jobs.jobs SET state = 'queued'")
        .execute(&world.pool)
        .await
        .unwrap();
    wait::until_true(LIMIT, "the job is settled", async || {
        world.states().await == [("fast@1".to_owned(), "done".to_owned(), 2)]
    })
    .await;
    assert_eq!(world.settled(asset).await, facts);
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_are_exclusive_and_the_urgent_come_first() {
    let world = World::new().await;
    for _ in 0..6 {
        world.upload(b"anything".to_vec()).await;
    }
    let fold = world.fold();
    world.folded().await;
    let jobs = Jobs::new(world.pool.clone());
    let claims = (0..20).map(|_| jobs.claim(None));
    let claimed: Vec<_> = futures::future::join_all(claims)
        .await
        .into_iter()
        .filter_map(Result::unwrap)
        .collect();
    let mut ids: Vec<_> = claimed.iter().map(|job| job.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((claimed.len(), ids.len()), (12, 12));
    let first_six: Vec<_> = claimed
        .iter()
        .filter(|job| job.profile == "fast@1")
        .collect();
    assert_eq!(first_six.len(), 6);

    jobs.give_back(&claimed[0], Duration::ZERO, true)
        .await
        .unwrap();
    assert!(
        !jobs.hold(&claimed[0]).await.unwrap(),
        "given back is not ours"
    );
    assert!(jobs.claim(Some(Class::Bulk)).await.unwrap().is_none());
    let again = jobs.claim(None).await.unwrap().unwrap();
    assert_eq!((again.id, again.attempts), (claimed[0].id, 2));
    jobs.give_back(&again, Duration::from_hours(1), true)
        .await
        .unwrap();
    assert!(jobs.claim(None).await.unwrap().is_none(), "it waits first");

    let held = &claimed[1];
    assert!(jobs.hold(held).await.unwrap());
    world
        .execute("delete", held.asset, |state| {
            delete(state, held.asset, owner())
        })
        .await;
    world.folded().await;
    assert!(
        !jobs.hold(held).await.unwrap(),
        "a deleted asset's jobs are nobody's"
    );
    assert!(fold.finish(LIMIT).await);
}

fn children_of(process: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let children = threads.flat_map(|thread| {
        let list = std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap();
        list.split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect::<Vec<u32>>()
    });
    children.collect()
}

/// Whether it runs: one that is dead and not yet waited for does not.
fn is_alive(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
