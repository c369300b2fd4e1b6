//! Partitions leave the log, and nothing is missing.

#[cfg(feature = "failpoints")]
mod crash;
mod restored;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use events::archive::{Archive, ArchivingError, Done, Request, run};
use events::envelope::Sealed;
use events::export::{self, Format, ndjson};
use events::id::{Lane, Position};
use events::source::{LaneStart, Source, SourceError};
use events::store::{Filter, Limits, LogError, Reader, Wake};
use events::subscription::{lag, reached};
use service::db::{self, Role};
use service::shutdown::Shutdown;
use tempfile::TempDir;
use testing::wait;

use crate::export::{files, folder, request as export_request};
use crate::log::partitions_of;
use crate::relay::{all, append};
use crate::subscription;
use crate::support::World;

const LIMIT: Duration = Duration::from_mins(1);

/// A log of 3,500 facts in partitions of 1,000.
pub(crate) async fn world() -> World {
    let world = subscription::world().await;
    partitions_of(&world, 1_000).await;
    append(&world, "facts", 3_500).await;
    world
}

fn request(before: i64) -> Request {
    Request {
        before: Position(before),
        older_than: Duration::ZERO,
        segment_rows: 400,
        keep_tables: false,
    }
}

pub(crate) async fn archive_before(
    world: &World,
    before: i64,
    out: &Path,
) -> Result<Done, ArchivingError> {
    let owner = world.owner().await;
    let shutdown = Shutdown::new();
    run(
        &owner,
        None,
        &folder(out),
        request(before),
        &|_| {},
        &shutdown,
    )
    .await
}

pub(crate) async fn reader(world: &World, out: &Path) -> Reader {
    let archive = Archive::new(folder(out), world.log.id());
    Reader::new(world.database.pool(Role::Projector).await, Some(archive))
}

/// What `reader` gives after `after`, up to the end.
pub(crate) async fn read(
    mut reader: Reader,
    after: i64,
    filter: &Filter,
    limits: Limits,
) -> Vec<Sealed> {
    let (mut at, mut facts) = (Position(after), vec![]);
    loop {
        let page = reader.page(at, filter, limits).await.unwrap();
        facts.extend(page.facts);
        if page.seen >= page.head {
            return facts;
        }
        assert!(page.seen > at, "it stands still at {at}");
        at = page.seen;
    }
}

fn lines(facts: &[Sealed]) -> Vec<String> {
    facts
        .iter()
        .map(|fact| ndjson::line(fact).unwrap())
        .collect()
}

pub(crate) async fn floor(world: &World) -> i64 {
    let floor = sqlx::query_scalar("SELECT floor FROM log.log");
    floor.fetch_one(&world.owner().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_reads_from_the_archive_and_the_table_as_it_did_from_the_table() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    let before = all(&world).await;
    let places = [out.path().join("before"), out.path().join("after")];
    let asked = export_request(Format::Parquet);
    let pool = world.database.pool(Role::Api).await;
    let end = Shutdown::new();
    export::run(&pool, &folder(&places[0]), &asked, &|_| {}, &end)
        .await
        .unwrap();

    let done = archive_before(&world, 3_400, out.path()).await.unwrap();
    assert_eq!((done.partitions, done.floor), (3, Position(3_001)));
    assert_eq!(floor(&world).await, 3_001);
    assert_eq!(all_tables(&world).await[0], "log.events_at_3001");

    let reader = reader(&world, out.path()).await;
    let everything = Filter::default();
    for after in [0, 1, 399, 400, 999, 1_000, 2_999, 3_000, 3_499, 3_500] {
        let found = read(reader.clone(), after, &everything, Limits::BULK).await;
        assert!(
            lines(&found) == lines(&before[usize::try_from(after).unwrap()..]),
            "after {after}"
        );
    }
    let some = Filter {
        lanes: vec![before[0].lane, before[7].lane],
        ..Filter::default()
    };
    let small = Limits {
        positions: 333,
        facts: 7,
        bytes: 900,
    };
    let wanted: Vec<_> = before
        .iter()
        .filter(|fact| some.passes(fact))
        .cloned()
        .collect();
    assert_eq!(read(reader.clone(), 0, &some, small).await, wanted);

    export::run(reader, &folder(&places[1]), &asked, &|_| {}, &end)
        .await
        .unwrap();
    assert!(
        files(&places[0]) == files(&places[1]),
        "the same export, byte for byte"
    );

    append(&world, "more", 10).await;
    assert_eq!(world.head().await, 3_510, "numbering goes on");
    let again = archive_before(&world, 3_400, out.path()).await.unwrap();
    assert_eq!(again.partitions, 0, "nothing is left to do");
}

pub(crate) async fn all_tables(world: &World) -> Vec<String> {
    sqlx::query_scalar("SELECT partition::text FROM log.partitions() ORDER BY first")
        .fetch_all(&world.owner().await)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_fact_and_what_is_to_be_kept_stay() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    let done = archive_before(&world, 2_000, out.path()).await.unwrap();
    assert_eq!(done.floor, Position(1_001), "only whole partitions go");
    append(&world, "to the end of a partition", 500).await;
    let owner = world.owner().await;
    let keeping = Request {
        keep_tables: true,
        ..request(i64::MAX / 2)
    };
    let done = run(
        &owner,
        None,
        &folder(out.path()),
        keeping,
        &|_| {},
        &Shutdown::new(),
    )
    .await
    .unwrap();
    assert_eq!(
        done.floor,
        Position(3_001),
        "position 4,000 is the last one, and its partition stays"
    );
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM log.events_at_2001")
        .fetch_one(&owner)
        .await
        .unwrap();
    assert_eq!(kept, 1_000, "--keep-tables");
    assert!(
        sqlx::query("SELECT log.move_floor(4001)")
            .execute(&owner)
            .await
            .is_err()
    );
    assert!(
        sqlx::query("SELECT log.move_floor(3500)")
            .execute(&owner)
            .await
            .is_err()
    );
    let api = world.database.pool(Role::Api).await;
    assert!(
        sqlx::query("SELECT log.move_floor(3001)")
            .execute(&api)
            .await
            .is_err(),
        "only the owner"
    );
}

fn lanes_at(after: i64) -> Vec<LaneStart> {
    let start = |lane| LaneStart {
        lane,
        after: Position(after),
        offset: 0,
    };
    Lane::all().map(start).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_whose_one_lane_lacks_archived_facts_is_told() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    archive_before(&world, 3_400, out.path()).await.unwrap();
    let log = world
        .log
        .page(Position(2_999), &Filter::default(), Limits::BULK)
        .await;
    assert!(matches!(
        log,
        Err(LogError::TooOld {
            asked: 3_000,
            floor: 3_001
        })
    ));

    // All others know everything: only one lane lags, and it has no facts in the table.
    let pool = world.database.pool(Role::Projector).await;
    let wake = Wake::start(pool.clone(), &world.shutdown);
    let mut source = Source::postgres(&pool, wake);
    let lagging: i16 = sqlx::query_scalar("SELECT min(lane) FROM log.archived")
        .fetch_one(&pool)
        .await
        .unwrap();
    let lagging = Lane::new(lagging.into()).unwrap();
    let mut starts = lanes_at(3_500);
    for start in &mut starts {
        if start.lane == lagging {
            start.after = Position(0);
        }
    }
    source.assign(starts).await.unwrap();
    let read = source.next(100, Duration::from_millis(10)).await;
    assert!(
        matches!(
            read,
            Err(SourceError::Log(LogError::TooOld { asked: 1, .. }))
        ),
        "{read:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_lacks_archived_facts_is_behind_until_the_archive_gave_them() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    archive_before(&world, 3_400, out.path()).await.unwrap();
    // A subscription that begins: behind in every lane that ever had a fact, by at least the age of the oldest one kept.
    let mut owner = world.owner().await.acquire().await.unwrap();
    sqlx::query("INSERT INTO subscription.checkpoints (subscription, lane) SELECT 'ledger', generate_series(0, 63)")
        .execute(&mut *owner).await.unwrap();
    let archived = "SELECT min(lane), count(*) FROM log.archived";
    let (lagging, lanes): (i16, i64) = sqlx::query_as(archived)
        .fetch_one(&mut *owner)
        .await
        .unwrap();
    let lagging = Lane::new(lagging.into()).unwrap();
    assert!(
        !reached(
            &mut owner,
            "ledger",
            &BTreeMap::from([(lagging, Position(10))])
        )
        .await
        .unwrap()
    );
    let told = &lag(&mut owner).await.unwrap()[0];
    assert_eq!(told.lanes_behind, lanes);
    assert!(told.behind > Duration::ZERO);

    // With the archive it takes everything in, each fact once.
    let runner = subscription::run_from(&world, None, reader(&world, out.path()).await, 300).await;
    wait::until_true(LIMIT, "every fact", async || {
        subscription::applied(&world).await == 3_500
    })
    .await;
    assert!(runner.finish(LIMIT).await);
    assert!(
        reached(
            &mut owner,
            "ledger",
            &BTreeMap::from([(lagging, Position(3_500))])
        )
        .await
        .unwrap()
    );
    assert_eq!(lag(&mut owner).await.unwrap()[0].lanes_behind, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_that_a_subscription_needs_stay() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    let runner = subscription::run_on(&world, None, 1_000).await;
    wait::until_true(LIMIT, "the facts", async || {
        subscription::applied(&world).await == 3_500
    })
    .await;
    assert!(runner.finish(LIMIT).await);
    append(&world, "unread", 1_000).await;
    let refused = archive_before(&world, 5_000, out.path()).await.unwrap_err();
    assert!(
        matches!(&refused, ArchivingError::Behind { subscription, before: Position(4_001), .. } if subscription == "ledger"),
        "{refused}"
    );
    assert_eq!(floor(&world).await, 3_001, "what it knows has gone");
    let by_hand = sqlx::query("SELECT log.move_floor(4001)")
        .execute(&world.owner().await)
        .await;
    assert!(
        by_hand
            .unwrap_err()
            .to_string()
            .contains("has not taken in")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_come_back_as_it_is_stays_in_the_log() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    // Another archiver, or another tool, has put something there.
    let part = out.path().join("facts-000000000001-000000001000");
    std::fs::create_dir_all(&part).unwrap();
    std::fs::write(
        part.join("facts-000000000401-000000000800.ndjson.zst"),
        b"not it",
    )
    .unwrap();
    let refused = archive_before(&world, 2_000, out.path()).await.unwrap_err();
    assert!(
        refused.to_string().contains("is there with other bytes"),
        "{refused}"
    );
    assert_eq!(floor(&world).await, 1);
    assert_eq!(all_tables(&world).await[0], "log.events_at_1");
    std::fs::remove_dir_all(&part).unwrap();
    archive_before(&world, 2_000, out.path()).await.unwrap();

    // Later damage is told by whoever reads it.
    let segment = part.join("facts-000000000401-000000000800.ndjson.zst");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let mut reader = reader(&world, out.path()).await;
    let everything = Filter::default();
    assert_eq!(
        reader
            .page(Position(0), &everything, Limits::BULK)
            .await
            .unwrap()
            .seen,
        Position(400)
    );
    let read = reader.page(Position(400), &everything, Limits::BULK).await;
    assert!(matches!(read, Err(LogError::Archive(_))), "{read:?}");

    // And an archive that is not this log's, or lacks what left it, is refused.
    let other = TempDir::new().unwrap();
    let refused = archive_before(&world, 3_001, other.path())
        .await
        .unwrap_err();
    assert!(matches!(
        refused,
        ArchivingError::Gap {
            end: Position(0),
            floor: 1_001
        }
    ));
    sqlx::query("UPDATE log.log SET log_id = gen_random_uuid()")
        .execute(&world.owner().await)
        .await
        .unwrap();
    let refused = archive_before(&world, 3_001, out.path()).await.unwrap_err();
    assert!(refused.to_string().contains("set ARCHIVE_URL"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_and_readers_go_on_while_partitions_leave() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    let appending = async {
        for n in 0..6 {
            append(&world, &format!("meanwhile {n}"), 500).await;
        }
    };
    let reading = async {
        let reader = reader(&world, out.path()).await;
        for _ in 0..10 {
            let facts = read(reader.clone(), 0, &Filter::default(), Limits::BULK).await;
            assert!(
                facts.len() >= 3_500 && facts.iter().zip(1..).all(|(fact, n)| fact.position.0 == n)
            );
        }
    };
    let archiving = async {
        for before in [1_001, 2_001, 3_001] {
            archive_before(&world, before, out.path()).await.unwrap();
        }
    };
    tokio::join!(appending, reading, archiving);
    assert_eq!((floor(&world).await, world.head().await), (3_001, 6_500));
    let facts = read(
        reader(&world, out.path()).await,
        0,
        &Filter::default(),
        Limits::BULK,
    )
    .await;
    assert_eq!(facts.len(), 6_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_runs_for_long_holds_the_partition_and_not_the_appends() {
    let (world, out) = (world().await, TempDir::new().unwrap());
    let owner = world.owner().await;
    let mut reads = db::begin(&owner, "BEGIN").await.unwrap();
    sqlx::query("SELECT count(*) FROM log.events")
        .execute(&mut *reads)
        .await
        .unwrap();
    let archiving = archive_before(&world, 1_001, out.path());
    let meanwhile = async {
        wait::until_true(LIMIT, "the floor moves", async || {
            floor(&world).await == 1_001
        })
        .await;
        append(&world, "while it waits", 100).await;
        assert_eq!(
            all_tables(&world).await[0],
            "log.events_at_1",
            "still attached"
        );
        reads.rollback().await.unwrap();
    };
    let (done, ()) = tokio::join!(archiving, meanwhile);
    assert_eq!(done.unwrap().floor, Position(1_001));
    assert!(
        !all_tables(&world)
            .await
            .contains(&"log.events_at_1".to_owned())
    );
}
