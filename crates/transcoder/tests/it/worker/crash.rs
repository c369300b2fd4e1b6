//! Workers that are killed, asked to end, or on a broken machine.

use std::path::Path;
use std::process::Command as Program;
use std::time::Duration;

use events::fact::Fact;
use rustix::process::Signal;
use testing::{clip, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use transcoder::worker::Config;

use super::world::{LIMIT, World, assert_whole, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_machine_is_tried_again_later_and_not_for_ever() {
    let world = World::new().await;
    let worker = world.work_with(Config {
        scratch: Some("/nowhere/to/work".into()),
        ..Config::default()
    });
    let asset = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    wait::until_true(LIMIT, "the job waits", async || {
        let waits: Option<bool> = sqlx::query_scalar(
            "SELECT attempts = 1 AND not_before > clock_timestamp() FROM jobs.jobs WHERE state = 'queued'",
        )
        .fetch_optional(&world.pool)
        .await
        .unwrap();
        waits == Some(true)
    })
    .await;
    assert_eq!(world.facts(asset).await.len(), 2, "nobody is told yet");
    sqlx::query("UPDATE jobs.jobs SET attempts = 5, not_before = '-infinity'")
        .execute(&world.pool)
        .await
        .unwrap();
    let facts = world.settled(asset).await;
    let Some(Fact::AssetFailed(failed)) = facts.last() else {
        panic!("{facts:?}");
    };
    assert_eq!(failed.error.kind, "infrastructure");
    assert!(failed.error.retryable);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_postgres_has_gone_silent_still_ends_when_it_is_asked_to() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let silent = CancellationToken::new();
    let url = behind_a_proxy(&world, folder.path(), silent.clone());
    let worker = world.start_on(&url, &["--drain-seconds", "0"], "");
    wait::until_true(LIMIT, "the worker has asked for a job", async || {
        silent.is_cancelled()
    })
    .await;
    worker.signal(Signal::TERM);
    let ended = worker.finish(Duration::from_secs(30)).await;
    assert!(ended.status.success(), "{ended:?}");
}

/// The URL of the world's database by way of a proxy in `folder`. A connection that asks for a job gets no answer any
/// more, which `silent` tells.
fn behind_a_proxy(world: &World, folder: &Path, silent: CancellationToken) -> String {
    let (start, socket) = world.database.url().expose().rsplit_once("host=").unwrap();
    let name = ".s.PGSQL.5432";
    let (server, here) = (Path::new(socket).join(name), folder.join(name));
    let listener = UnixListener::bind(here).unwrap();
    let tasks = world.shutdown.child();
    world.shutdown.spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&server).await.unwrap();
            tasks.spawn(pass_on(client, server, silent.clone()));
        }
    });
    format!("{start}host={}", folder.display())
}

async fn pass_on(mut client: UnixStream, mut server: UnixStream, silent: CancellationToken) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let asking = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            if String::from_utf8_lossy(&buffer[..read]).contains("FROM jobs.claim(") {
                silent.cancel();
                std::future::pending::<()>().await;
            }
            to_server.write_all(&buffer[..read]).await.unwrap();
        }
    };
    tokio::select! {
        () = asking => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
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

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_slot_breaks_ends_as_a_failure() {
    let world = World::new().await;
    world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    let broken = world.start(&[], "worker.after_upload=panic");
    let ended = broken.finish(LIMIT).await;
    assert_eq!(ended.status.code(), Some(6), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: infra: "), "{ended:?}");
}

fn children_of(process: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let children = threads.flat_map(|thread| {
        // A thread may end while we look; then it has no children.
        let list = std::fs::read_to_string(thread.unwrap().path().join("children"));
        let list = list.unwrap_or_default();
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
