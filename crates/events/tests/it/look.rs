//! Looks that wait together share a statement, and nothing else.

use std::time::Duration;

use events::id::{StreamKey, TenantId};
use events::store::LogError;
use futures::future::join_all;
use service::db;
use testing::db::locked_out;
use testing::wait::until_true;
use uuid::Uuid;

use crate::support::{World, post, user};

const PEOPLE: u128 = 30;
const SOON: Duration = Duration::from_secs(20);

fn stream(n: u128) -> String {
    StreamKey::post_reaction(post(1), user(n)).stream
}

fn kind(n: u128) -> &'static str {
    if n.is_multiple_of(2) { "like" } else { "love" }
}

/// A log in which people have reacted, and which this process does not remember.
async fn world() -> World {
    let world = World::new().await;
    for n in 0..PEOPLE {
        let key = format!("k{n}");
        world.react(&key, user(n), post(1), kind(n)).await.unwrap();
    }
    World::on(world.database).await
}

#[tokio::test]
async fn of_those_who_look_at_once_everybody_sees_what_they_asked_for() {
    let world = world().await;
    let owner = world.owner().await;
    let other = TenantId(Uuid::from_u128(77));
    // The same names, to somebody else.
    sqlx::query(
        "INSERT INTO log.streams (tenant, stream_id, subject, lane, version, state)
         SELECT $1, stream_id, subject, lane, 70, state FROM log.streams",
    )
    .bind(other)
    .execute(&owner)
    .await
    .unwrap();
    sqlx::query("UPDATE log.streams SET state = '[7]' WHERE stream_id = $1 AND tenant = $2")
        .bind(stream(3))
        .bind(world.tenant)
        .execute(&owner)
        .await
        .unwrap();
    // Everybody twice, and some of whom nothing is known.
    let asked = (0..PEOPLE + 5).flat_map(|n| [(n, world.tenant), (n, other), (n, world.tenant)]);
    let asked: Vec<(u128, TenantId)> = asked.collect();
    let looks = asked.iter().map(|(n, tenant)| {
        let (log, name) = (&world.log, stream(*n));
        async move { log.stream(*tenant, &name).await }
    });
    for ((n, tenant), seen) in asked.iter().zip(join_all(looks).await) {
        match seen {
            Err(LogError::State { stream: told, .. }) => {
                assert_eq!((*n, *tenant, told), (3, world.tenant, stream(3)));
            }
            Ok(Some(row)) => {
                assert!(*n < PEOPLE && (*n, *tenant) != (3, world.tenant), "{n}");
                assert_eq!(row.state["kind"], kind(*n), "{n}: {row:?}");
                let version = if *tenant == other { 70 } else { 1 };
                assert_eq!(row.version, version, "{n}: {row:?}");
            }
            Ok(None) => assert!(*n >= PEOPLE, "{n}"),
            Err(error) => panic!("{n}: {error}"),
        }
    }
}

#[tokio::test]
async fn commands_that_look_at_once_are_told_what_became_of_each_before() {
    let world = world().await;
    let asked: Vec<(u128, String)> = (0..PEOPLE)
        .flat_map(|n| [(n, format!("k{n}")), (n, format!("new{n}"))])
        .collect();
    let reacted = asked
        .iter()
        .map(|(n, key)| world.react(key, user(*n), post(1), kind(*n)));
    for ((n, key), accepted) in asked.iter().zip(join_all(reacted).await) {
        let accepted = accepted.unwrap();
        assert_eq!(accepted.repeated, key.starts_with('k'), "{n} {key}");
        assert_eq!(accepted.facts.len(), usize::from(accepted.repeated));
    }
    assert_eq!(world.head().await, i64::try_from(PEOPLE).unwrap());
}

#[tokio::test]
async fn looks_share_a_connection_until_it_does_not_answer() {
    let world = world().await;
    let owner = world.owner().await;
    let mut lock = db::begin(&owner, "BEGIN").await.unwrap();
    sqlx::query("LOCK TABLE log.streams")
        .execute(&mut *lock)
        .await
        .unwrap();
    let looks = (0..PEOPLE).map(|n| {
        let name = stream(n);
        let (log, tenant) = (&world.log, world.tenant);
        async move { log.stream(tenant, &name).await }
    });
    let looks = join_all(looks);
    let watched = async {
        until_true(SOON, "one looks", async || {
            locked_out(&owner, "%").await > 0
        })
        .await;
        // All of them have asked by now; it would have been time for others to look, too.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(locked_out(&owner, "%").await, 1);
        until_true(SOON, "others look alone", async || {
            locked_out(&owner, "%").await > 2
        })
        .await;
        lock.rollback().await.unwrap();
    };
    let (seen, ()) = tokio::join!(looks, watched);
    for seen in seen {
        assert_eq!(seen.unwrap().unwrap().version, 1);
    }
}

#[tokio::test]
async fn a_look_whose_connection_was_lost_is_made_on_another() {
    let world = world().await;
    let mut owner = world.owner().await.acquire().await.unwrap();
    for _ in 0..3 {
        let seen = world.log.stream(world.tenant, &stream(1)).await.unwrap();
        assert_eq!(seen.unwrap().version, 1);
        let ended: Vec<bool> = sqlx::query_scalar(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'SELECT t.*%'",
        )
        .fetch_all(&mut *owner)
        .await
        .unwrap();
        assert!(!ended.is_empty() && ended.iter().all(|gone| *gone));
    }
}

#[tokio::test]
async fn who_looks_while_the_process_ends_looks_alone() {
    let world = world().await;
    world.shutdown.cancel();
    assert!(world.shutdown.finish(SOON).await);
    let seen = world.log.stream(world.tenant, &stream(1)).await.unwrap();
    assert_eq!(seen.unwrap().version, 1);
}
