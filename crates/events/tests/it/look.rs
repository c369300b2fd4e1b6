//! Looks that wait together share a statement, and nothing else.

use std::time::Duration;

use events::id::StreamKey;
use events::store::LogError;
use futures::future::join_all;
use testing::wait::until_true;

use crate::support::{World, post, user};

const PEOPLE: u128 = 30;

#[tokio::test]
async fn of_those_who_look_at_once_everybody_sees_what_they_asked_for() {
    let world = World::new().await;
    for n in 0..PEOPLE {
        let kind = if n % 2 == 0 { "like" } else { "love" };
        let key = format!("k{n}");
        world.react(&key, user(n), post(1), kind).await.unwrap();
    }
    let stream = |n| StreamKey::post_reaction(post(1), user(n)).stream;
    sqlx::query("UPDATE log.streams SET state = '[7]' WHERE stream_id = $1")
        .bind(stream(3))
        .execute(&world.owner().await)
        .await
        .unwrap();
    // Twice each, and some of whom nothing is known.
    let asked: Vec<u128> = (0..PEOPLE + 5).flat_map(|n| [n, n]).collect();
    let names: Vec<String> = asked.iter().map(|n| stream(*n)).collect();
    let looks = names
        .iter()
        .map(|name| world.log.stream(world.tenant, name));
    for (n, seen) in asked.into_iter().zip(join_all(looks).await) {
        match seen {
            Err(LogError::State { stream: told, .. }) => assert_eq!((n, told), (3, stream(3))),
            Ok(Some(row)) => {
                let kind = if n % 2 == 0 { "like" } else { "love" };
                assert_eq!(row.state["kind"], kind, "{n}: {row:?}");
                assert!(n < PEOPLE && n != 3, "{n}");
            }
            Ok(None) => assert!(n >= PEOPLE, "{n}"),
            Err(error) => panic!("{n}: {error}"),
        }
    }
    let other = events::id::TenantId(uuid::Uuid::from_u128(77));
    assert_eq!(world.log.stream(other, &stream(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_look_whose_connection_was_lost_is_made_on_another() {
    let world = World::new().await;
    world.react("k1", user(1), post(1), "like").await.unwrap();
    let stream = StreamKey::post_reaction(post(1), user(1)).stream;
    let owner = world.owner().await;
    for _ in 0..3 {
        let seen = world.log.stream(world.tenant, &stream).await.unwrap();
        assert_eq!(seen.unwrap().version, 1);
        until_true(Duration::from_secs(10), "nobody is connected", async || {
            let others: Vec<bool> = sqlx::query_scalar(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND usename IS NOT NULL AND pid <> pg_backend_pid()
                   AND query LIKE '%log.streams%'",
            )
            .fetch_all(&owner)
            .await
            .unwrap();
            others.is_empty()
        })
        .await;
    }
}
