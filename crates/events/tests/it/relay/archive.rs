//! The relay and `verify` beside an archive.

use std::time::Duration;

use events::archive::{Archive, ArchivingError, Done, Request, run};
use events::envelope::Sealed;
use events::id::Position;
use events::log::{Kafka, Refusal, RelayError};
use events::verify::{self, Difference, Report};
use service::db;
use service::shutdown::Shutdown;
use tempfile::TempDir;
use testing::kafka;

use super::verify::{send_again, tamper};
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

async fn compare(world: &World, kafka: Option<&Kafka>, archive: Option<&TempDir>) -> Report {
    let mut owner = world.owner().await.acquire().await.unwrap();
    let archive = archive.map(|out| Archive::new(folder(out.path()), world.log.id()));
    verify::log(&mut owner, archive, kafka, Position(1), &|_| {})
        .await
        .unwrap()
}

/// Facts up to 200 lie in the archive, 150 more in the log.
async fn nothing_differs_after_200(world: &World, kafka: &Kafka, out: &TempDir) {
    let streams: i64 = sqlx::query_scalar("SELECT count(*) FROM log.streams")
        .fetch_one(&world.owner().await)
        .await
        .unwrap();
    let report = compare(world, Some(kafka), None).await;
    assert_eq!((report.first, report.facts), (Position(201), 150));
    assert_eq!(
        report.differences.first,
        [],
        "what was archived is no difference"
    );
    assert!(
        report.absent_streams > 60 && report.archived_streams == 0,
        "{report:?}"
    );
    assert_eq!(
        report.streams + report.absent_streams,
        streams.unsigned_abs()
    );

    let report = compare(world, Some(kafka), Some(out)).await;
    assert_eq!((report.first, report.facts), (Position(1), 350));
    assert_eq!(report.differences.first, []);
    assert_eq!((report.absent_streams, report.archived_streams), (0, 0));
    assert_eq!(report.streams, streams.unsigned_abs());
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
    nothing_differs_after_200(&world, &kafka, &out).await;
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
    let report = compare(&world, None, None).await;
    assert_eq!(report.differences.first, []);
    assert_eq!((report.archived_streams, report.first), (1, Position(201)));
    tamper(&world, "UPDATE log.streams SET version = version + 1 WHERE (tenant, stream_id) = (SELECT tenant, stream_id FROM log.events WHERE position = 201)").await;
    let report = compare(&world, None, None).await;
    assert_eq!(report.differences.count, 1, "{report:?}");
}

/// Only without the archive may a stream begin later than with its first fact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_pretends_to_begin_in_the_archive_is_found() {
    let (world, out) = (World::new().await, TempDir::new().unwrap());
    partitions_of(&world, 100).await;
    append(&world, "facts", 250).await;
    archive(&world, None, &out).await.unwrap();
    let stream = "stream_id = (SELECT stream_id FROM log.events WHERE position = 250)";
    for sql in [
        format!("UPDATE log.streams SET version = version + 4 WHERE {stream}"),
        format!("UPDATE log.events SET version = version + 4 WHERE {stream}"),
    ] {
        tamper(&world, &sql).await;
    }
    let report = compare(&world, None, Some(&out)).await;
    assert!(
        matches!(
            report.differences.first[..],
            [Difference::Version { found: 5.., .. }]
        ),
        "{report:?}"
    );
}

/// The floor moves before the partition goes, and the partition may stay for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_below_the_floor_that_is_there_still_is_compared_once() {
    let (world, out) = (World::new().await, TempDir::new().unwrap());
    partitions_of(&world, 100).await;
    append(&world, "facts", 250).await;
    let mut reading = db::begin(&world.owner().await, "BEGIN").await.unwrap();
    sqlx::query("SELECT count(*) FROM log.events")
        .execute(&mut *reading)
        .await
        .unwrap();
    let held = archive(&world, None, &out).await.unwrap_err();
    assert!(matches!(held, ArchivingError::Held), "{held}");
    for archive in [None, Some(&out)] {
        let report = compare(&world, None, archive).await;
        assert_eq!(report.differences.first, []);
        assert_eq!(report.facts, if archive.is_some() { 250 } else { 150 });
    }
    reading.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_below_the_floor_is_found_with_the_archive() {
    let (world, kafka, out) = (World::new().await, topics(), TempDir::new().unwrap());
    partitions_of(&world, 100).await;
    append(&world, "facts", 250).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
    let facts = all(&world).await;
    archive(&world, Some(&kafka), &out).await.unwrap();

    let (altered, lost, across) = (&facts[0], &facts[60], &facts[200]);
    assert!(across.version > 1, "it begins in the archive");
    send_again(&facts[40], &world, &kafka);
    for fact in [altered, across] {
        let stream = &fact.stream;
        let state = "state = jsonb_set(state, '{kind}', '\"forged\"')";
        tamper(
            &world,
            &format!("UPDATE log.streams SET {state} WHERE stream_id = '{stream}'"),
        )
        .await;
    }
    tamper(
        &world,
        &format!(
            "DELETE FROM log.streams WHERE stream_id = '{}'",
            lost.stream
        ),
    )
    .await;

    let without = compare(&world, Some(&kafka), None).await.differences;
    assert_eq!(without.first, [], "it cannot know better");
    let mut found = compare(&world, Some(&kafka), Some(&out))
        .await
        .differences
        .first;
    found.sort_by_key(ToString::to_string);
    let row = |fact: &Sealed, what| Difference::Row {
        tenant: world.tenant.0,
        stream: fact.stream.clone(),
        what,
    };
    let mut wanted = [
        row(altered, "state"),
        row(across, "state"),
        row(lost, "existence"),
    ];
    wanted.sort_by_key(ToString::to_string);
    assert!(
        matches!(
            found[0],
            Difference::Doubled {
                position: Position(41),
                times: 2,
                ..
            }
        ),
        "{found:?}"
    );
    assert_eq!(found[1..], wanted);
}
