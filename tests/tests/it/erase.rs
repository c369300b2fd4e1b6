//! A person is forgotten: what they wrote is nowhere any more, and everything else goes on.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use chrono::DateTime;
use events::decide::{Decision, State, asset, comment, post, user};
use events::fact::asset::UploadRequested;
use events::fact::post::{CommentAdded, PostPublished, Visibility};
use events::fact::user::ProfileUpdated;
use events::id::{AssetId, CommandId, CommentId, PostId, StreamKey, TenantId, UserId};
use events::seal::{Key, Personal};
use events::store::{self, Emit, Keys, Log};
use service::db::Role;
use tempfile::TempDir;
use testing::process::Finished;
use testing::{environment, kafka, wait};
use uuid::Uuid;

use crate::topic;
use crate::world::{LIMIT, Programs, World, end};

/// It is in all that Axolotl writes, and in nothing else.
const WORD: &str = "axolotl";
const POST: PostId = PostId(Uuid::from_u128(0xE1));
const ASSET: AssetId = AssetId(Uuid::from_u128(0xE2));
const COMMENT: CommentId = CommentId(Uuid::from_u128(0xE3));

fn axolotl() -> UserId {
    UserId::of("cinelog", "axolotl")
}

fn text(what: &str) -> Personal {
    format!("{what} de {WORD}").into()
}

/// Writes wherever a person can write.
struct Writer {
    log: Log,
    tenant: TenantId,
}

impl Writer {
    async fn of(world: &World) -> Self {
        let pool = world.database.pool(Role::Api).await;
        let keys = Keys::new(Key::from_bytes([7; 32]));
        let log = Log::open(pool, keys, &world.shutdown).await.unwrap();
        let tenant = log.default_tenant().await.unwrap();
        Self { log, tenant }
    }

    async fn decide<S: State>(
        &self,
        key: &StreamKey,
        decide: impl Fn(&S) -> Decision + Send + Sync,
    ) {
        let command = store::Command {
            id: CommandId {
                tenant: self.tenant,
                actor: axolotl(),
                route: "test".to_owned(),
                key: Uuid::new_v4().to_string(),
            },
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let wanted = |streams: &store::Streams| Ok(Emit::all(key, decide(&streams.get(key))?));
        let written = self
            .log
            .execute(&command, std::slice::from_ref(key), wanted)
            .await;
        assert!(!written.unwrap().facts.is_empty());
    }

    async fn write(&self) {
        self.introduce().await;
        self.post().await;
        self.upload().await;
    }

    async fn introduce(&self) {
        let me = axolotl();
        self.decide(&StreamKey::user(me), |state| {
            user::register(state, "cinelog", WORD)
        })
        .await;
        let profile = ProfileUpdated {
            user: me,
            name: Some(text("nombre")),
            bio: Some(text("vida")),
            place: Some(text("casa")),
            language: None,
            private: None,
        };
        self.decide(&StreamKey::user(me), |state| {
            user::update_profile(state, profile.clone())
        })
        .await;
    }

    async fn post(&self) {
        let me = axolotl();
        let published = PostPublished {
            post: POST,
            author: me,
            text: format!("hola #{WORD} #gato").into(),
            place: Some(text("lago")),
            location: None,
            language: Some("es".to_owned()),
            assets: vec![],
            visibility: Visibility::Public,
        };
        self.decide(&StreamKey::post(POST), |state| {
            post::publish(state, published.clone(), &[])
        })
        .await;
        let on = post::PostState {
            author: Some(me),
            ..Default::default()
        };
        let added = CommentAdded {
            comment: COMMENT,
            post: POST,
            author: me,
            text: text("comentario"),
            parent: None,
        };
        self.decide(&StreamKey::comment(COMMENT, POST), |state| {
            comment::add(state, added.clone(), &on, None)
        })
        .await;
    }

    async fn upload(&self) {
        let requested = UploadRequested {
            asset: ASSET,
            owner: axolotl(),
            file_name: format!("{WORD}.mp4").into(),
            media_type: "video/mp4".to_owned(),
            bytes: 1,
            sha256: "aa".to_owned(),
            storage_key: "incoming".to_owned(),
            expires_at: DateTime::UNIX_EPOCH,
        };
        self.decide(&StreamKey::asset(ASSET), |state| {
            asset::request_upload(state, requested.clone())
        })
        .await;
    }
}

/// The person has written among others, read models hold it, and nothing runs any more.
async fn written(world: &mut World) -> Writer {
    let projectors = world.start(&["projectors"]);
    let writer = Writer::of(world).await;
    writer.write().await;
    world.life.go_on(20).await;
    world.caught_up().await;
    projectors.kill();
    writer
}

/// How often the word is in a dump of these schemas, in any letter case; the dump must hold something.
fn in_a_dump(world: &World, schemas: &str, must_hold: &str) -> usize {
    let dump = Command::new("pg_dump")
        .args([
            "--schema",
            schemas,
            "--dbname",
            world.database.url().expose(),
        ])
        .output()
        .unwrap();
    assert!(dump.status.success(), "{dump:?}");
    let dump = String::from_utf8_lossy(&dump.stdout).to_lowercase();
    assert!(dump.contains(must_hold), "the dump holds {must_hold}");
    dump.matches(WORD).count()
}

/// The texts of an export, as whoever has a copy of it reads them.
fn exported(folder: &Path) -> String {
    let read = "import duckdb, sys\n\
        print(duckdb.sql(f\"SELECT * EXCLUDE (recorded_at) FROM read_parquet('{sys.argv[1]}/**/*.parquet')\").fetchall())";
    let python = environment::root().join(".cinelog/python/bin/python");
    let output = Command::new(python).args(["-c", read]).arg(folder).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap().to_lowercase();
    assert!(text.contains("post.published"), "the export holds posts");
    text
}

/// A folder store with an object for the person and one for somebody else.
fn objects(tenant: TenantId) -> (TempDir, [std::path::PathBuf; 3]) {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join(".incoming")).unwrap();
    let files = [
        format!("incoming/{tenant}/{ASSET}"),
        format!("{tenant}/{ASSET}/fast@1/aa.jpg"),
        format!("{tenant}/{}/fast@1/aa.jpg", Uuid::from_u128(0xE9)),
    ];
    let files = files.map(|file| folder.path().join(file));
    for file in &files {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "x").unwrap();
    }
    (folder, files)
}

async fn export(programs: &Programs, folder: &TempDir) {
    let folder = folder.path().to_str().unwrap();
    let arguments = ["export", "--format", "parquet", "--out", folder];
    let done = programs.start(&arguments, &[]).finish(LIMIT).await;
    assert!(done.status.success(), "{done:?}");
}

fn refuses_a_stranger(done: &Finished) {
    assert_eq!(done.status.code(), Some(1));
    assert!(done.stderr.contains("there is no user"), "{done:?}");
}

fn reports(done: &Finished) {
    assert!(done.status.success(), "{done:?}");
    // The projectors may have taken the profile out before, at the fact.
    for line in [
        "key          destroyed",
        "log          user.erased at position",
        "feed_g1      1 rows purged",
        "engagement_g1 1 rows purged",
        "media_g1     1 rows purged",
        "media        1 assets deleted, 2 objects removed",
        "not reached",
    ] {
        assert!(
            done.stdout.contains(line),
            "it does not say `{line}`: {done:?}"
        );
    }
}

/// Neither in Postgres nor in the topic nor in a replay, while the facts are there.
async fn is_nowhere(world: &World, prefix: &str) {
    assert_eq!(in_a_dump(world, "log", "user.erased"), 0);
    assert_eq!(in_a_dump(world, "*", "create table feed_g1.post"), 0);
    for record in topic::equals_the_log(prefix, &world.owner).await {
        assert!(!format!("{record:?}").to_lowercase().contains(WORD));
        let payload = String::from_utf8_lossy(&record.payload).to_lowercase();
        assert!(!payload.contains(WORD));
    }
    let replay = ["replay", "--to", "stdout"];
    let replayed = world.start(&replay).finish(LIMIT).await;
    assert!(replayed.stdout.contains("user.erased"), "{replayed:?}");
    assert!(!replayed.stdout.to_lowercase().contains(WORD));
    let profiles: i64 =
        sqlx::query_scalar("SELECT count(*) FROM graph_g1.profile WHERE \"user\" = $1")
            .bind(axolotl())
            .fetch_one(&world.database.pool(Role::Projector).await)
            .await
            .unwrap();
    assert_eq!(profiles, 0, "nobody sees a profile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_persons_words_are_nowhere_and_everything_else_goes_on() {
    let prefix = kafka::unique_prefix();
    let mut world = World::new(Some(&prefix), 7).await;
    let (relay, projectors) = (world.start(&["relay"]), world.start(&["projectors"]));
    let (writer, programs) = (Writer::of(&world).await, world.programs.clone());
    world.life.go_on(30).await;
    writer.write().await;
    world.life.go_on(30).await;
    topic::equals_the_log(&prefix, &world.owner).await;
    world.caught_up().await;
    // What is looked for would be found.
    assert_eq!(in_a_dump(&world, "log", "post.published"), 0);
    assert!(in_a_dump(&world, "*_g1", "create table feed_g1.post") > 6);
    let (before, after) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    export(&programs, &before).await;

    let (store, files) = objects(writer.tenant);
    let url = [("STORAGE_URL", store.path().to_str().unwrap())];
    let erase = async |who: &str| {
        let arguments = ["erase", who, "--yes"];
        programs.start(&arguments, &url).finish(LIMIT).await
    };
    refuses_a_stranger(&erase("nobody").await);
    reports(&erase(WORD).await);
    assert_eq!(files.map(|file| file.exists()), [false, false, true]);
    let again = erase(&axolotl().to_string()).await;
    assert!(again.status.success(), "{again:?}");
    assert!(
        again.stdout.contains("user.erased was there before"),
        "{again:?}"
    );

    // Everything else goes on, also what reads from the beginning.
    world.life.go_on(30).await;
    world.caught_up().await;
    export(&programs, &after).await;
    for folder in [&before, &after] {
        assert!(!exported(folder.path()).contains(WORD));
    }
    is_nowhere(&world, &prefix).await;
    world.settle(projectors).await;
    relay.kill();
}

/// Whoever erases may die as soon as the key is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projectors_finish_an_erasure_that_nobody_finished() {
    let mut world = World::new(None, 8).await;
    let writer = written(&mut world).await;
    assert!(in_a_dump(&world, "*_g1", "create table feed_g1.post") > 6);
    sqlx::query("SELECT log.erase_person($1, $2)")
        .bind(writer.tenant)
        .bind(axolotl())
        .execute(&world.owner)
        .await
        .unwrap();
    let projectors = world.start(&["projectors"]);
    wait::until_true(LIMIT, "the erasure is finished", async || {
        sqlx::query_scalar("SELECT purged_at IS NOT NULL FROM log.person_keys WHERE person = $1")
            .bind(axolotl())
            .fetch_one(&world.owner)
            .await
            .unwrap()
    })
    .await;
    assert_eq!(in_a_dump(&world, "*", "create table feed_g1.post"), 0);
    world.settle(projectors).await;
}

/// A batch that holds the person's key is under way when the key is destroyed. It commits what it read, and the purge finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_read_the_key_before_is_waited_for() {
    let mut world = World::new(None, 9).await;
    let writer = Writer::of(&world).await;
    writer.write().await;
    let slow = [(
        "CINELOG_FAILPOINTS",
        "subscription.before_commit=sleep:2000",
    )];
    let projectors = world.programs.start(&["projectors"], &slow);
    wait::until_true(LIMIT, "a batch is under way", async || {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity a JOIN pg_locks l USING (pid)
                 WHERE a.datname = current_database() AND a.state = 'idle in transaction'
                   AND clock_timestamp() - a.state_change > interval '0.1 s'
                   AND l.relation = 'feed_g1.post'::regclass AND l.mode = 'RowExclusiveLock')",
        )
        .fetch_one(&world.owner)
        .await
        .unwrap()
    })
    .await;
    let (store, _) = objects(writer.tenant);
    let url = [("STORAGE_URL", store.path().to_str().unwrap())];
    let done = world.programs.start(&["erase", WORD, "--yes"], &url);
    let done = done.finish(LIMIT).await;
    assert!(done.status.success(), "{done:?}");
    let purged = done
        .stdout
        .lines()
        .filter(|line| line.ends_with("rows purged"));
    assert!(
        purged.filter(|line| !line.contains(" 0 rows")).count() > 0,
        "a batch had committed words: {done:?}"
    );
    assert_eq!(in_a_dump(&world, "*", "create table feed_g1.post"), 0);
    world.caught_up().await;
    assert_eq!(in_a_dump(&world, "*", "create table feed_g1.post"), 0);
    world.settle(projectors).await;
}

/// A build that a newer version replaced holds texts that no program can purge any more: it can be dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_ends_once_builds_that_were_replaced_are_dropped() {
    let mut world = World::new(None, 9).await;
    let writer = written(&mut world).await;
    let (store, _) = objects(writer.tenant);
    let url = [("STORAGE_URL", store.path().to_str().unwrap())];
    let programs = world.programs.clone();
    let cinelog = async |arguments: &[&str]| programs.start(arguments, &url).finish(LIMIT).await;
    // As if feed_g1 had been made by the version before this one.
    sqlx::query(
        "UPDATE projection.generations SET version = version - 1 WHERE projection = 'feed'",
    )
    .execute(&world.owner)
    .await
    .unwrap();
    let projectors = world.start(&["projectors"]);
    wait::until_true(LIMIT, "feed_g1 is replaced", async || {
        sqlx::query_scalar("SELECT NOT live FROM projection.generations WHERE projection = 'feed' AND generation = 1")
            .fetch_one(&world.owner)
            .await
            .unwrap()
    })
    .await;
    end(projectors).await;

    let erased = cinelog(&["erase", WORD, "--yes"]).await;
    assert_eq!(erased.status.code(), Some(1), "{erased:?}");
    assert!(
        erased.stdout.contains("feed_g1      not purged"),
        "{erased:?}"
    );
    assert!(erased.stderr.contains("--drop-replaced"), "{erased:?}");
    let dropped = cinelog(&["migrate", "--drop-replaced"]).await;
    assert!(dropped.status.success(), "{dropped:?}");
    assert!(dropped.stdout.contains("feed_g1 is dropped"), "{dropped:?}");
    let erased = cinelog(&["erase", WORD, "--yes"]).await;
    assert!(erased.status.success(), "{erased:?}");
    assert_eq!(in_a_dump(&world, "*", "create table feed_g2.post"), 0);
    let left: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM subscription.checkpoints WHERE subscription = 'feed_g1'",
    )
    .fetch_one(&world.owner)
    .await
    .unwrap();
    assert_eq!(left, 0, "nothing waits for it");

    let projectors = world.start(&["projectors"]);
    world.settle(projectors).await;
}

/// Whoever erases is killed at each of its commit points; a repeat goes on, and in the end nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_is_killed_anywhere_is_finished_by_a_repeat() {
    let mut world = World::new(None, 10).await;
    let writer = written(&mut world).await;
    let (store, files) = objects(writer.tenant);
    let url = store.path().to_str().unwrap();
    let erase = async |point: &str| {
        let environment = [("STORAGE_URL", url), ("CINELOG_FAILPOINTS", point)];
        let erase = world
            .programs
            .start(&["erase", WORD, "--yes"], &environment);
        erase.finish(LIMIT).await
    };
    for point in [
        "erase.key_destroyed",
        "erase.appended",
        "erase.build_purged",
        "erase.purged",
        "erase.asset_deleted",
    ] {
        let killed = erase(&format!("{point}=kill@1")).await;
        assert_eq!(killed.status.signal(), Some(9), "{point}: {killed:?}");
    }
    let finished = erase("").await;
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(files.map(|file| file.exists()), [false, false, true]);
    for (schemas, holds) in [("log", "user.erased"), ("*", "create table feed_g1.post")] {
        assert_eq!(in_a_dump(&world, schemas, holds), 0);
    }
    let erased = "SELECT count(*) FROM log.events WHERE type = 'user.erased'";
    let erased: i64 = sqlx::query_scalar(erased)
        .fetch_one(&world.owner)
        .await
        .unwrap();
    assert_eq!(erased, 1, "said once");
    let projectors = world.start(&["projectors"]);
    world.settle(projectors).await;
}
