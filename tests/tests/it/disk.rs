//! Disks that run full, of Postgres and of the folder store: what does not fit is refused by its name, what was accepted
//! stays, and once there is room all goes on. The disks are small file systems in memory, which only root may mount.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::{Method, StatusCode};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tempfile::TempDir;
use testing::db::Database;
use testing::process::Child;
use testing::report::tell;
use testing::{clip, environment, port, wait};
use tokio::sync::watch;

use crate::client::{Client, Problems, assets_have_ended_once};
use crate::world::{LIMIT, World, end};

/// A small file system, which goes with this.
struct Disk(TempDir);

impl Disk {
    /// None, and says why, where nothing may be mounted.
    fn mount(test: &str, megabytes: u32) -> Option<Self> {
        let folder = TempDir::with_prefix("cinelog-disk").unwrap();
        // The user postgres passes through it.
        let size = format!("size={megabytes}m,mode=711");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output();
        let why = match mount {
            Ok(mounted) if mounted.status.success() => return Some(Self(folder)),
            Ok(refused) => String::from_utf8_lossy(&refused.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        // Past the test harness, which shows only what failing tests print.
        let told = format!("{test}: skipped: {}\n", why.trim());
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all room but `left` bytes, also what has become free since it was last called.
    fn fill(&self, left: u64) {
        let mut open = File::options();
        let ballast = open.create(true).append(true).open(self.ballast());
        let ballast = ballast.unwrap();
        let mut taken = ballast.metadata().unwrap().len();
        let mut parts = 1;
        loop {
            let disk = statvfs(self.path()).unwrap();
            let room = (disk.f_bavail * disk.f_frsize).saturating_sub(left);
            if room < disk.f_frsize || parts > room {
                return;
            }
            // Others take from it too, and the file system itself: then less is asked for, and the rest in the next round.
            let some = (room / parts).max(disk.f_frsize);
            if fallocate(&ballast, FallocateFlags::empty(), taken, some).is_ok() {
                taken += some;
            } else {
                parts *= 2;
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Every file on it besides.
    fn files(&self) -> Vec<PathBuf> {
        let (mut folders, mut files) = (vec![self.path().to_path_buf()], vec![]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path != self.ballast() {
                    files.push(path);
                }
            }
        }
        files
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what still runs on it ends soon.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A Postgres of a test's own.
struct Postgres {
    folder: PathBuf,
    url: String,
}

impl Postgres {
    async fn start(folder: PathBuf) -> Self {
        let mut postgres = Self {
            folder,
            url: String::new(),
        };
        postgres.run("start").await;
        let url = postgres.run("url").await;
        url.trim().clone_into(&mut postgres.url);
        postgres
    }

    async fn run(&self, action: &str) -> String {
        let program = environment::root().join("ops/dev/postgres");
        let arguments = [action, self.folder.to_str().unwrap()];
        let ran = Child::start(program, &arguments, &[]).finish(LIMIT).await;
        assert!(ran.status.success(), "{ran:?}");
        ran.stdout
    }

    async fn answers(&self) -> bool {
        PgConnection::connect(&self.url).await.is_ok()
    }

    /// Makes it go on to a new segment of its write-ahead log, unless it does not answer any more.
    async fn breaks_down(&self) -> bool {
        let Ok(mut admin) = PgConnection::connect(&self.url).await else {
            return true;
        };
        let fills = "SELECT pg_logical_emit_message(false, 'x', 'x'); SELECT pg_switch_wal()";
        let _ = sqlx::raw_sql(fills).execute(&mut admin).await;
        false
    }

    fn has_ended(&self) -> bool {
        !self.folder.join("data/postmaster.pid").exists()
    }

    /// Waits until it has recovered by itself, or starts it when it could not.
    async fn recovers(&self) {
        wait::until_true(LIMIT, "Postgres has recovered or ended", async || {
            self.answers().await || self.has_ended()
        })
        .await;
        if self.has_ended() {
            self.run("start").await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let program = environment::root().join("ops/dev/postgres");
        let _ = Command::new(program).arg("stop").arg(&self.folder).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_log_by_its_name_and_loses_nothing_that_was_accepted() {
    let Some(disk) = Disk::mount("full disk of Postgres", 320) else {
        return;
    };
    let postgres = Postgres::start(disk.path().join("postgres")).await;
    let database = Database::migrated_on(&postgres.url).await;
    let mut world = World::on(database, None, 1).await;
    world.life.go_on(50).await;
    let store = TempDir::new().unwrap();
    let storage = [("STORAGE_URL", store.path().to_str().unwrap())];
    let (api, url) = world.programs.api(&storage).await;
    let (_found, found) = watch::channel(url);
    let problems = Problems::default();
    let mut client = Client::new(&mut world, "ana", found, &problems).await;
    let stop = world.shutdown.child();
    let asking = world.shutdown.spawn({
        let stop = stop.clone();
        async move {
            client.go_on(&stop).await;
            client
        }
    });
    let told = |problem: &str| {
        assert!(!asking.is_finished(), "{}", api.stderr());
        problems.lock().unwrap().get(problem).copied()
    };
    // First a table cannot grow, which fails a statement; then the write-ahead log cannot, which ends the server,
    // for good where it cannot recover either.
    for breaks_the_server in [false, true] {
        let before = told("/problems/unavailable");
        disk.fill(0);
        if breaks_the_server {
            wait::until_true(LIMIT, "the server breaks down", async || {
                postgres.breaks_down().await
            })
            .await;
        }
        wait::until_true(LIMIT, "the client is told", async || {
            // A checkpoint may remove old segments of the write-ahead log.
            disk.fill(0);
            told("/problems/unavailable") > before
        })
        .await;
        disk.free();
        postgres.recovers().await;
        let kept = head(&world).await;
        wait::until_true(LIMIT, "commands are accepted again", async || {
            assert!(!asking.is_finished(), "{}", api.stderr());
            head(&world).await > kept + 20
        })
        .await;
    }
    stop.cancel();
    let client = asking.await.unwrap();
    let projectors = world.start(&["projectors"]);
    world.settle(projectors).await;
    let (accepted, _) = client.is_kept(&world.owner).await;
    assert!(accepted > 40);
    tell(format_args!(
        "full disk: Postgres ran out of room twice; {accepted} accepted over HTTP, {} facts, 1 comparison, 0 differences",
        head(&world).await
    ));
    end(api).await;
}

async fn head(world: &World) -> i64 {
    sqlx::query_scalar("SELECT max(position) FROM log.events")
        .fetch_one(&world.owner)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_into_the_folder_is_refused_and_leaves_nothing() {
    let Some(disk) = Disk::mount("full disk of the folder store", 8) else {
        return;
    };
    let mut world = World::new(None, 1).await;
    let (listen, store) = (port::free().to_string(), disk.path().join("store"));
    let public = format!("http://{listen}");
    let here = [
        ("STORAGE_URL", store.to_str().unwrap()),
        ("LISTEN", &listen),
        ("PUBLIC_URL", &public),
    ];
    let (api, url) = world.programs.api(&here).await;
    let (_found, found) = watch::channel(url);
    let mut client = Client::new(&mut world, "ana", found, &Problems::default()).await;
    let bytes = std::fs::read(clip::video(640, 360, "25", 2)).unwrap();

    let ticket = client.ticket(&bytes, "video/mp4").await;
    disk.fill(bytes.len() as u64 / 2);
    an_original_is_refused(&disk, &client, &ticket, &bytes).await;
    disk.free();
    let (status, told) = client.put(&ticket, &bytes).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{told}");
    let asset = client.complete(&ticket).await;

    let original = disk.files();
    assert_eq!(original.len(), 1);
    disk.fill(0);
    let worker = world.programs.worker(&here);
    outputs_wait(&world.owner).await;
    assert_eq!(disk.files(), original, "no part of an output is there");
    disk.free();
    sqlx::query("UPDATE jobs.jobs SET not_before = '-infinity'")
        .execute(&world.owner)
        .await
        .unwrap();
    wait::until_true(LIMIT, "the asset is ready", async || {
        count(&world.owner, "log.events WHERE type = 'asset.ready'").await == 1
    })
    .await;
    assert_eq!(assets_have_ended_once(&world.owner, &[asset]).await, 1);
    outputs_are_whole(&world.owner, &store).await;
    end(worker).await;
    end(api).await;
    assert!(world.shutdown.finish(LIMIT).await);
}

/// It is refused for now, nothing of it is there, and it is not taken for complete.
async fn an_original_is_refused(disk: &Disk, client: &Client, ticket: &Value, bytes: &[u8]) {
    let (status, told) = client.put(ticket, bytes).await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{told}");
    assert_eq!(told["type"], "/problems/unavailable");
    assert_eq!(disk.files(), Vec::<PathBuf>::new());
    let complete = format!("/uploads/{}/complete", ticket["id"].as_str().unwrap());
    // The connection on which too much was sent may just be ending.
    let answered = async {
        loop {
            let complete = client.request(Method::POST, &complete);
            if let Some(answer) = client.answer(complete).await {
                return answer;
            }
        }
    };
    let (status, told) = tokio::time::timeout(LIMIT, answered).await.unwrap();
    assert_eq!(status, StatusCode::CONFLICT, "{told}");
    assert_eq!(told["type"], "/problems/upload-missing");
}

/// Both jobs of the upload wait for another try, and nobody is told of what is not there.
async fn outputs_wait(owner: &PgPool) {
    let waiting =
        "jobs.jobs WHERE state = 'queued' AND attempts > 0 AND not_before > clock_timestamp()";
    wait::until_true(LIMIT, "both jobs wait", async || {
        count(owner, waiting).await == 2
    })
    .await;
    let told = "log.events WHERE type LIKE 'rendition.%' OR type LIKE 'asset.%'";
    assert_eq!(count(owner, told).await, 0);
}

async fn count(owner: &PgPool, of: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {of}")))
        .fetch_one(owner)
        .await
        .unwrap()
}

/// Each output lies in the folder as its fact says.
async fn outputs_are_whole(owner: &PgPool, store: &Path) {
    let named: Vec<(String, i64)> = sqlx::query_as(
        "SELECT payload ->> 'storage_key', (payload ->> 'bytes')::bigint FROM log.events WHERE type = 'rendition.completed'",
    )
    .fetch_all(owner)
    .await
    .unwrap();
    assert!(named.len() > 4, "{named:?}");
    for (key, bytes) in named {
        let there = std::fs::metadata(store.join(&key)).unwrap().len();
        assert_eq!(i64::try_from(there).unwrap(), bytes, "{key}");
    }
}
