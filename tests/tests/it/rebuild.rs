//! Read models are built anew while they are read: killed, gone on with, swapped and swapped back.

use std::time::Duration;

use rustix::process::Signal;
use service::db::{self, Role};
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::process::Finished;
use testing::wait;
use tokio::task::JoinHandle;

use crate::life::Life;
use crate::world::{LIMIT, Programs, World, end};

/// Two hundred reads a second, until the end is asked for: how many there were. None may fail, or see less than one before it.
fn read(pool: PgPool, tenant: String, shutdown: &Shutdown) -> JoinHandle<u64> {
    let end = shutdown.clone();
    shutdown.spawn(async move {
        let (mut reads, mut seen) = (0, 0);
        while end.sleep(Duration::from_millis(5)).await {
            let mut tx = db::begin(&pool, "BEGIN").await.unwrap();
            sqlx::query("SELECT set_config('app.tenant', $1, true)")
                .bind(&tenant)
                .execute(&mut *tx)
                .await
                .unwrap();
            let posts: i64 = sqlx::query_scalar("SELECT max(position) FROM feed.post")
                .fetch_one(&mut *tx)
                .await
                .unwrap();
            assert!(posts >= seen, "{posts} after {seen}");
            (reads, seen) = (reads + 1, posts);
        }
        reads
    })
}

async fn rebuild(programs: &Programs, options: &[&str], besides: &[(&str, &str)]) -> Finished {
    let command = [&["rebuild", "feed"], options].concat();
    programs.start(&command, besides).finish(LIMIT).await
}

async fn generations(world: &World) -> Vec<(i32, bool, bool)> {
    sqlx::query_as(
        "SELECT generation, live, kept FROM projection.generations WHERE projection = 'feed' ORDER BY generation",
    )
    .fetch_all(&world.owner)
    .await
    .unwrap()
}

async fn killed_twice(world: &mut World) {
    let point = [("CINELOG_FAILPOINTS", "subscription.before_commit=kill@1")];
    for _ in 0..2 {
        let killed = rebuild(&world.programs, &[], &point).await;
        assert!(!killed.status.success(), "{killed:?}");
        assert_eq!(
            generations(world).await,
            [(1, true, false), (2, false, false)]
        );
        world.life.go_on(20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_rebuild_goes_on_and_swaps_and_swaps_back_under_reads() {
    let mut world = World::new(None, 6).await;
    world.life.go_on(400).await;
    let projectors = world.start(&["projectors"]);
    world.caught_up().await;
    let nothing = rebuild(&world.programs, &["--rollback"], &[]).await;
    assert!(
        nothing.stderr.contains("there is no way back"),
        "{nothing:?}"
    );

    let reading = world.shutdown.child();
    let pool = world.database.pool(Role::Api).await;
    let reads = read(pool, world.life.tenant().to_string(), &reading);
    killed_twice(&mut world).await;
    let programs = world.programs.clone();
    let built = rebuild(&programs, &["--parallel", "3"], &[]);
    let built = tokio::select! {
        built = built => built,
        () = world.life.go_on(usize::MAX) => unreachable!("it goes on"),
    };
    assert!(built.status.success(), "{built:?}");
    assert!(built.stdout.contains("feed_g2 is read"), "{built:?}");
    assert!(!built.stdout.contains("was not what"), "{built:?}");
    assert_eq!(
        generations(&world).await,
        [(1, false, true), (2, true, false)]
    );
    world.life.go_on(40).await;
    world.caught_up().await;
    world.is_whole().await;

    let back = rebuild(&world.programs, &["--rollback"], &[]).await;
    assert!(back.status.success(), "{back:?}");
    assert_eq!(
        generations(&world).await,
        [(1, true, false), (2, false, true)]
    );
    world.life.go_on(20).await;
    world.caught_up().await;
    world.is_whole().await;

    // What has drifted is told, and mended.
    sqlx::query("UPDATE feed_g1.post SET place = 'elsewhere' WHERE position = (SELECT min(position) FROM feed_g1.post)")
        .execute(&world.owner)
        .await
        .unwrap();
    let mended = rebuild(&world.programs, &[], &[]).await;
    assert!(mended.status.success(), "{mended:?}");
    assert!(
        mended
            .stdout
            .contains("feed_g1.post was not what its facts say"),
        "{mended:?}"
    );
    assert_eq!(
        generations(&world).await,
        [(1, false, true), (3, true, false)],
        "the second is neither read nor kept any more"
    );
    assert!(reading.finish(LIMIT).await);
    let reads = reads.await.unwrap();
    assert!(reads > 100, "{reads}");
    world.settle(projectors).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_pauses_goes_on_and_runs_once() {
    let mut world = World::new(None, 7).await;
    world.life.go_on(200).await;
    let projectors = world.start(&["projectors"]);
    world.caught_up().await;
    let reader = Life::people().next().unwrap().to_string();
    let repaired = rebuild(&world.programs, &["--key", &reader], &[]).await;
    assert!(repaired.stdout.contains("feed_g1 has"), "{repaired:?}");
    let slow = [(
        "CINELOG_FAILPOINTS",
        "subscription.before_commit=sleep:1000",
    )];
    let builds = world.programs.start(&["rebuild", "feed"], &slow);
    wait::until_true(LIMIT, "it builds", async || {
        generations(&world).await.len() == 2
    })
    .await;
    let again = rebuild(&world.programs, &[], &[]).await;
    assert!(
        again.stderr.contains("another process rebuilds feed"),
        "{again:?}"
    );
    let paused = rebuild(&world.programs, &["--pause"], &[]).await;
    assert_eq!(paused.stdout, "it pauses\n", "{paused:?}");
    builds.signal(Signal::INT);
    let stopped = builds.finish(LIMIT).await;
    assert!(!stopped.status.success(), "{stopped:?}");

    // A pause outlasts the process.
    let builds = world.start(&["rebuild", "feed"]);
    wait::until_true(LIMIT, "it looks whether it may go on", async || {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
                            WHERE datname = current_database() AND query LIKE 'SELECT paused FROM%')",
        )
        .fetch_one(&world.owner)
        .await
        .unwrap()
    })
    .await;
    assert_eq!(
        generations(&world).await,
        [(1, true, false), (2, false, false)]
    );
    let resumed = rebuild(&world.programs, &["--resume"], &[]).await;
    assert_eq!(resumed.stdout, "it goes on\n", "{resumed:?}");
    let built = builds.finish(LIMIT).await;
    assert!(built.status.success(), "{built:?}");
    assert_eq!(
        generations(&world).await,
        [(1, false, true), (2, true, false)]
    );
    end(projectors).await;
    assert!(world.shutdown.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_version_made_is_read_until_it_is_replaced() {
    let mut world = World::new(None, 8).await;
    world.life.go_on(200).await;
    sqlx::query("UPDATE projection.generations SET version = 0 WHERE projection = 'feed'")
        .execute(&world.owner)
        .await
        .unwrap();
    let projectors = world.start(&["projectors"]);
    wait::until_true(LIMIT, "it is replaced", async || {
        generations(&world).await == [(1, false, true), (2, true, false)]
    })
    .await;
    let back = rebuild(&world.programs, &["--rollback"], &[]).await;
    assert!(
        back.stderr.contains("feed_g1 was made by another version"),
        "{back:?}"
    );
    let dropped = world.start(&["migrate", "--drop-replaced"]);
    let dropped = dropped.finish(LIMIT).await;
    assert!(dropped.stdout.contains("feed_g1 is dropped"), "{dropped:?}");
    world.settle(projectors).await;
}
