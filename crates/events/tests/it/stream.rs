//! One stream's facts, also where some of them were archived.

use events::id::Position;
use events::store::{Limits, LogError};
use tempfile::TempDir;

use crate::archive::{archive_before, world};
use crate::relay::all;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streams_own_facts_read_forwards_and_backwards_and_none_is_left_out() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    // Three facts to a stream, so one lies across positions 1,000 and 1,001.
    let facts = all(&world).await;
    let one = facts[1_000].stream.clone();
    let of_it: Vec<_> = facts
        .iter()
        .filter(|fact| fact.stream == one)
        .cloned()
        .collect();
    assert_eq!((of_it.len(), of_it[0].position), (3, Position(1_000)));
    let forwards = async |after, facts| {
        let limits = Limits {
            facts,
            ..Limits::BULK
        };
        world
            .log
            .stream_facts(world.tenant, &one, after, limits)
            .await
    };
    let backwards = async |before, facts| {
        let limits = Limits {
            facts,
            ..Limits::BULK
        };
        world
            .log
            .stream_facts_back(world.tenant, &one, before, limits)
            .await
    };
    assert_eq!(forwards(0, 100).await.unwrap(), of_it);
    assert_eq!(forwards(1, 1).await.unwrap(), of_it[1..2]);
    assert_eq!(forwards(3, 100).await.unwrap(), []);
    let reversed: Vec<_> = of_it.iter().rev().cloned().collect();
    assert_eq!(backwards(i64::MAX, 100).await.unwrap(), reversed);
    assert_eq!(backwards(3, 1).await.unwrap(), of_it[1..2]);
    assert_eq!(backwards(1, 100).await.unwrap(), []);
    let nothing = world
        .log
        .stream_facts(world.tenant, "post-none", 0, Limits::BULK);
    assert_eq!(nothing.await.unwrap(), []);
    let small = Limits {
        bytes: 1,
        ..Limits::BULK
    };
    let first = world
        .log
        .stream_facts(world.tenant, &one, 0, small)
        .await
        .unwrap();
    assert_eq!(first, of_it[..1], "one fact always fits");

    archive_before(&world, 1_001, out.path()).await.unwrap();
    let told = forwards(0, 100).await.unwrap_err();
    assert!(
        matches!(
            told,
            LogError::StreamTooOld {
                version: 1,
                floor: 1_001,
                ..
            }
        ),
        "{told}"
    );
    assert_eq!(forwards(1, 100).await.unwrap(), of_it[1..]);
    assert_eq!(backwards(i64::MAX, 2).await.unwrap(), reversed[..2]);
    let told = backwards(2, 100).await.unwrap_err();
    assert!(
        matches!(told, LogError::StreamTooOld { version: 1, .. }),
        "{told}"
    );
}
