//! One stream's facts, also where some of them were archived.

use events::envelope::Sealed;
use events::id::Position;
use events::store::{Limits, LogError};
use tempfile::TempDir;

use crate::archive::{archive_before, world};
use crate::relay::all;
use crate::support::World;

/// The name of a stream whose three facts lie across positions 1,000 and 1,001, and these.
async fn one_across(world: &World) -> (String, Vec<Sealed>) {
    let facts = all(world).await;
    let one = facts[1_000].stream.clone();
    let of_it = facts.into_iter().filter(|fact| fact.stream == one);
    let of_it: Vec<_> = of_it.collect();
    assert_eq!((of_it.len(), of_it[0].position), (3, Position(1_000)));
    (one, of_it)
}

fn at_most(facts: i64) -> Limits {
    Limits {
        facts,
        ..Limits::BULK
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streams_own_facts_read_forwards_and_backwards() {
    let world = world().await;
    let (one, of_it) = one_across(&world).await;
    let (log, tenant) = (&world.log, world.tenant);
    let forwards = async |after, limits| log.stream_facts(tenant, &one, after, limits).await;
    let backwards =
        async |before, limits| log.stream_facts_back(tenant, &one, before, limits).await;
    assert_eq!(forwards(0, Limits::BULK).await.unwrap(), of_it);
    assert_eq!(forwards(1, at_most(1)).await.unwrap(), of_it[1..2]);
    assert_eq!(forwards(3, Limits::BULK).await.unwrap(), []);
    let reversed: Vec<_> = of_it.iter().rev().cloned().collect();
    assert_eq!(backwards(i64::MAX, Limits::BULK).await.unwrap(), reversed);
    assert_eq!(backwards(3, at_most(1)).await.unwrap(), of_it[1..2]);
    assert_eq!(backwards(1, Limits::BULK).await.unwrap(), []);
    let nothing = log.stream_facts(tenant, "post-none", 0, Limits::BULK);
    assert_eq!(nothing.await.unwrap(), []);
    let small = Limits {
        bytes: 1,
        ..Limits::BULK
    };
    assert_eq!(
        forwards(0, small).await.unwrap(),
        of_it[..1],
        "one fact always fits"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_archived_of_a_stream_is_told_and_never_left_out() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    let (one, of_it) = one_across(&world).await;
    archive_before(&world, 1_001, out.path()).await.unwrap();
    let (log, tenant) = (&world.log, world.tenant);
    let told = log.stream_facts(tenant, &one, 0, Limits::BULK).await;
    let told = told.unwrap_err();
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
    let rest = log.stream_facts(tenant, &one, 1, Limits::BULK).await;
    assert_eq!(rest.unwrap(), of_it[1..]);
    let newest = log
        .stream_facts_back(tenant, &one, i64::MAX, at_most(1))
        .await;
    assert_eq!(newest.unwrap(), of_it[2..]);
    let told = log.stream_facts_back(tenant, &one, 2, Limits::BULK).await;
    let told = told.unwrap_err();
    assert!(
        matches!(told, LogError::StreamTooOld { version: 1, .. }),
        "{told}"
    );
}
