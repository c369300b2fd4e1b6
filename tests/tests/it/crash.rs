//! Projectors and relays are killed with `kill -9` again and again while people go on; then nothing may be missing,
//! doubled or different from what a rebuild from zero gives.

use rustix::process::Signal;
use testing::{kafka, wait};

use crate::topic;
use crate::world::{LIMIT, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_projectors_lose_and_double_nothing() {
    let mut world = World::new(None, 1).await;
    world.life.go_on(200).await;
    for projectors in [1, 1, 2, 1] {
        let victims: Vec<_> = (0..projectors)
            .map(|_| world.start(&["projectors"]))
            .collect();
        let moves = 1 + world.life.chance().below(12);
        world.kill_in_the_middle(&victims, moves).await;
    }
    let last = world.start(&["projectors"]);
    world.settle(last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_relays_and_projectors_lose_and_double_nothing() {
    let prefix = kafka::unique_prefix();
    let mut world = World::new(Some(&prefix), 1).await;
    world.life.go_on(200).await;
    for _ in 0..3 {
        let victims = [world.start(&["relay"]), world.start(&["projectors"])];
        let moves = 1 + world.life.chance().below(12);
        world.kill_in_the_middle(&victims, moves).await;
    }
    let (relay, projectors) = (world.start(&["relay"]), world.start(&["projectors"]));
    world.settle(projectors).await;
    topic::equals_the_log(&prefix, &world.owner).await;
    relay.signal(Signal::TERM);
    let ended = relay.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_sees_nothing_in_a_living_log_and_what_was_tampered_with() {
    let mut world = World::new(None, 1).await;
    world.life.go_on(150).await;
    let projectors = world.start(&["projectors"]);
    world.caught_up().await;
    // Facts and projectors go on while read models are built once more and compared.
    let looked = world.start(&["verify", "--rebuild"]).finish(LIMIT);
    let looked = tokio::select! {
        looked = looked => looked,
        () = world.life.go_on(usize::MAX) => unreachable!("it goes on"),
    };
    assert!(looked.status.success(), "{looked:?}");
    world.caught_up().await;
    projectors.signal(Signal::TERM);
    projectors.finish(LIMIT).await;

    let post = "UPDATE feed_g1.post SET place = 'elsewhere' WHERE position = (SELECT min(position) FROM feed_g1.post)";
    sqlx::query(post).execute(&world.owner).await.unwrap();
    let looked = world.verify().await;
    assert_eq!(looked.status.code(), Some(1), "{looked:?}");
    let told = "feed_g1.post: 1 rows that a rebuild does not have, 1 that it has besides";
    assert!(looked.stdout.contains(told), "{looked:?}");
    assert!(
        looked.stderr.ends_with("error: 1 difference\n"),
        "{looked:?}"
    );
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM projection.generations WHERE NOT live")
            .fetch_one(&world.owner)
            .await
            .unwrap();
    assert_eq!(left, 0, "what was built for comparing is gone");
    assert!(world.shutdown.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_verify_has_built_is_dropped_by_the_next() {
    let mut world = World::new(None, 3).await;
    world.life.go_on(60).await;
    let projectors = world.start(&["projectors"]);
    world.caught_up().await;
    let generations = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM projection.generations WHERE NOT live")
            .fetch_one(&world.owner)
            .await
            .unwrap()
    };
    let point = [("CINELOG_FAILPOINTS", "subscription.before_commit=kill@1")];
    let killed = world.programs.start(&["verify", "--rebuild"], &point);
    killed.finish(LIMIT).await;
    assert_eq!(generations().await, 1, "it was killed in the middle");

    world.is_whole().await;
    assert_eq!(generations().await, 0);

    let slow = [("CINELOG_FAILPOINTS", "subscription.before_commit=sleep:500")];
    let stopped = world.programs.start(&["verify", "--rebuild"], &slow);
    wait::until_true(LIMIT, "it builds", async || generations().await == 1).await;
    stopped.signal(Signal::INT);
    let stopped = stopped.finish(LIMIT).await;
    assert!(!stopped.status.success(), "{stopped:?}");
    assert_eq!(generations().await, 0, "also one that is stopped");
    projectors.signal(Signal::TERM);
    projectors.finish(LIMIT).await;
    assert!(world.shutdown.finish(LIMIT).await);
}
