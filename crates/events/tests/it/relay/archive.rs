//! The relay and `verify` beside an archive.

use std::time::Duration;

use events::archive::{ArchivingError, Done, Request, run};
use events::id::Position;
use events::log::{Kafka, Refusal, RelayError};
use events::verify;
use service::shutdown::Shutdown;
use tempfile::TempDir;
use testing::kafka;

use super::{LIMIT, Running, all, append, relayed_exactly, topics};
use crate::export::folder;
use crate::log::partitions_of;
use crate::support::World;

async fn archive(
    world: &World,
    kafka: Option<&Kafka>,
    out: &TempDir,
) -> Result<Done, ArchivingError> {
    let request = Request {
        before: Position::END,
        segment_rows: 1_000,
        keep_tables: false,
        older_than: Duration::ZERO,
    };
    let (store, end) = (folder(out.path()), Shutdown::new());
    run(&world.owner().await, kafka, &store, request, &|_| {}, &end).await
}

/// Facts up to 200 lie in the archive, 150 more in the log.
async fn nothing_differs_after_200(world: &World, kafka: &Kafka) {
    let mut owner = world.owner().await.acquire().await.unwrap();
    let report = verify::log(&mut owner, Some(kafka), Position(1), &|_| {})
        .await
        .unwrap();
    assert_eq!((report.first, report.facts), (Position(201), 150));
    assert_eq!(
        report.differences.first,
        [],
        "what was archived is no difference"
    );
    let in_the_log: i64 = sqlx::query_scalar("SELECT count(*) FROM log.streams")
        .fetch_one(&mut *owner)
        .await
        .unwrap();
    assert!(
        report.absent_streams > 60 && report.archived_streams == 0,
        "{report:?}"
    );
    assert_eq!(
        report.streams + report.absent_streams,
        in_the_log.unsigned_abs()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_stay_until_they_are_relayed_and_the_relay_goes_on_after_archived_ones() {
    let (world, kafka, out) = (World::new().await, topics(), TempDir::new().unwrap());
    partitions_of(&world, 100).await;
    append(&world, "relayed", 200).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
    let relayed = all(&world).await;
    append(&world, "not relayed", 150).await;

    let refused = archive(&world, Some(&kafka), &out).await.unwrap_err();
    assert!(
        matches!(
            refused,
            ArchivingError::RelayBehind {
                marker: Position(200),
                before: Position(301)
            }
        ),
        "{refused}"
    );
    // The relay's marker names position 200, which has just left.
    nothing_differs_after_200(&world, &kafka).await;
    let relay = Running::start(&world, &kafka).await;
    let records = testing::wait::until(LIMIT, "the rest is relayed", async || {
        let records = kafka::read_committed(&kafka.facts_topic()).await;
        (records.len() >= 350).then_some(records)
    });
    let records = records.await;
    relay.stop().await;
    let mut ids: Vec<_> = records
        .iter()
        .map(|record| record.header("ce_id").unwrap().to_owned())
        .collect();
    let facts = relayed
        .into_iter()
        .chain(world.log.read(Position(200), 1_000).await.unwrap());
    let mut wanted: Vec<_> = facts.map(|fact| fact.event_id.to_string()).collect();
    ids.sort();
    wanted.sort();
    assert_eq!(ids, wanted, "each once");

    // All is relayed: more may go. A relay into a new topic would leave them out, and says so.
    assert_eq!(
        archive(&world, Some(&kafka), &out).await.unwrap().floor,
        Position(301)
    );
    let other = Running::start(&world, &topics()).await;
    let refused = other.end().await.unwrap_err();
    assert!(
        matches!(refused, RelayError::Refused(Refusal::Archived { .. })),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_begins_in_the_archive_is_compared_by_version() {
    let (world, out) = (World::new().await, TempDir::new().unwrap());
    // Three facts to a stream: one stream lies across the floor.
    partitions_of(&world, 100).await;
    append(&world, "facts", 250).await;
    archive(&world, None, &out).await.unwrap();
    let mut owner = world.owner().await.acquire().await.unwrap();
    let report = verify::log(&mut owner, None, Position(1), &|_| {})
        .await
        .unwrap();
    assert_eq!(report.differences.first, []);
    assert_eq!((report.archived_streams, report.first), (1, Position(201)));
    sqlx::query("UPDATE log.streams SET version = version + 1 WHERE (tenant, stream_id) = (SELECT tenant, stream_id FROM log.events WHERE position = 201)")
        .execute(&mut *owner)
        .await
        .unwrap();
    let report = verify::log(&mut owner, None, Position(1), &|_| {})
        .await
        .unwrap();
    assert_eq!(report.differences.count, 1, "{report:?}");
}
