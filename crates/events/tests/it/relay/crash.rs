//! The relay loses its process, its lock or its transactional id, at any moment.

use std::time::Duration;

use events::log::{Kafka, ensure};
use rdkafka::producer::Producer;
use testing::process::Child;
use testing::{kafka, wait};

use super::{LIMIT, Running, append, put, relayed_exactly, rival, topics};
use crate::support::World;

/// A relay in a process of its own.
fn process(world: &World, kafka: &Kafka, failpoints: &str) -> Child {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/relay");
    let topic = kafka.relay_topic();
    let prefix = topic.strip_suffix(".relay").unwrap();
    Child::start(
        program,
        &[world.database.url().expose(), &kafka::brokers(), prefix],
        &[("CINELOG_FAILPOINTS", failpoints)],
    )
}

/// Waits until the topic has more than `known` records, and returns how many.
async fn grown(kafka: &Kafka, known: usize) -> usize {
    wait::until(LIMIT, "the topic grows", async || {
        let count = kafka::read_committed(&kafka.facts_topic()).await.len();
        (count > known).then_some(count)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_killed_again_and_again_loses_and_doubles_nothing() {
    let (world, kafka) = (World::new().await, topics());
    ensure(&kafka).await.unwrap();
    let mut known = 0;
    for round in 0..5 {
        append(&world, &format!("round {round}"), 2_000).await;
        let relay = process(&world, &kafka, "");
        known = grown(&kafka, known).await;
        // It is in the middle of something else now.
        append(&world, &format!("more of {round}"), 200).await;
        relay.kill();
    }
    let last = process(&world, &kafka, "");
    relayed_exactly(&world, &kafka).await;
    last.kill();
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_killed_at_each_of_its_points_loses_and_doubles_nothing() {
    let (world, kafka) = (World::new().await, topics());
    ensure(&kafka).await.unwrap();
    for point in [
        "relay.before_init",
        "relay.before_commit",
        "relay.after_commit",
    ] {
        append(&world, point, 700).await;
        let killed = process(&world, &kafka, &format!("{point}=kill@1"));
        let finished = killed.finish(LIMIT).await;
        assert!(!finished.status.success(), "{point}: {finished:?}");
    }
    let last = process(&world, &kafka, "");
    relayed_exactly(&world, &kafka).await;
    last.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_relay_left_open_is_aborted() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "facts", 100).await;
    ensure(&kafka).await.unwrap();
    let dead = rival(&kafka);
    dead.begin_transaction().unwrap();
    put(&dead, &kafka.facts_topic(), 3, "never committed");
    put(&dead, &kafka.relay_topic(), 0, "nor this");
    dead.flush(LIMIT).unwrap();
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
    assert!(dead.commit_transaction(LIMIT).is_err(), "it was fenced");
    relayed_exactly(&world, &kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_relay_begins_anew_at_the_marker() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "before", 300).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    for round in 0..3 {
        drop(rival(&kafka));
        append(&world, &format!("fenced {round}"), 50).await;
        relayed_exactly(&world, &kafka).await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_lost_its_lock_stands_back_for_the_other() {
    let (world, kafka) = (World::new().await, topics());
    let owner = world.owner().await;
    let (one, two) = tokio::join!(
        Running::start(&world, &kafka),
        Running::start(&world, &kafka)
    );
    for round in 0..3 {
        append(&world, &format!("round {round}"), 200).await;
        relayed_exactly(&world, &kafka).await;
        let ended: Vec<bool> = sqlx::query_scalar(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
             WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 7157 AND d.datname = current_database()",
        )
        .fetch_all(&owner)
        .await
        .unwrap();
        assert_eq!(ended, [true], "one relay holds the lock");
    }
    append(&world, "last", 200).await;
    relayed_exactly(&world, &kafka).await;
    let both = async { tokio::join!(one.stop(), two.stop()) };
    tokio::time::timeout(Duration::from_secs(30), both)
        .await
        .unwrap();
}
