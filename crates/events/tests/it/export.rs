//! Exports into a folder and a bucket, killed and gone on with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use events::envelope::Sealed;
use events::export::{Format, Manifest, Request, Step, ndjson, run};
use events::id::{Position, TenantId};
use events::store::{About, Filter, Limits, LogError};
use service::db::Role;
use service::secret::Secret;
use service::shutdown::Shutdown;
use sha2::{Digest, Sha256};
use storage::{Config, Store};
use tempfile::TempDir;
use testing::s3::S3Server;

use crate::relay::{all, append};
use crate::support::World;

pub(crate) fn request(format: Format) -> Request {
    Request {
        format,
        from: Position(1),
        to: None,
        types: vec![],
        tenant: None,
        segment_rows: 1_000,
    }
}

pub(crate) fn folder(path: &Path) -> Store {
    Store::open_or_make(&config(path.to_str().unwrap().to_owned())).unwrap()
}

fn config(url: String) -> Config {
    Config {
        storage_url: Some(url),
        aws_access_key_id: None,
        aws_secret_access_key: None,
        public_url: None,
    }
}

fn bucket(server: &S3Server) -> Store {
    Store::open(&Config {
        aws_access_key_id: Some(server.access_key.clone()),
        aws_secret_access_key: Some(Secret::new(server.secret_key.clone())),
        ..config(server.storage_url())
    })
    .unwrap()
}

/// The bucket holds what the folder holds.
async fn same(bucket: &Store, folder: &Path, when: &str) {
    for (name, bytes) in files(folder) {
        let found = bucket.read(&name.parse().unwrap(), 1 << 30).await.unwrap();
        assert!(found == bytes, "{when}: {name} differs");
    }
}

async fn export(world: &World, store: &Store, request: &Request) -> (Manifest, bool) {
    let pool = world.database.pool(Role::Api).await;
    run(&pool, store, request, &|_| {}, &Shutdown::new())
        .await
        .unwrap()
}

async fn refused(world: &World, store: &Store, request: &Request) -> String {
    let pool = world.database.pool(Role::Api).await;
    let made = run(&pool, store, request, &|_| {}, &Shutdown::new()).await;
    made.expect_err("it must be refused").to_string()
}

/// Every file by name.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn lines(files: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let segments = files.iter().filter(|(name, _)| name.starts_with("facts-"));
    segments
        .flat_map(|(_, bytes)| {
            let text = String::from_utf8(zstd::decode_all(&**bytes).unwrap()).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

pub(crate) fn as_lines<'a>(facts: impl IntoIterator<Item = &'a Sealed>) -> Vec<String> {
    let facts = facts.into_iter();
    facts.map(|fact| ndjson::line(fact).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fact_is_exported_once_in_order_and_the_manifest_tells_the_truth() {
    let (world, out) = (World::new().await, TempDir::new().unwrap());
    append(&world, "facts", 2_345).await;
    let (manifest, before) = export(&world, &folder(out.path()), &request(Format::Ndjson)).await;
    assert!(!before && manifest.complete);
    assert_eq!(manifest.plan.log_id, world.log.id());
    let files = files(out.path());
    assert_eq!(lines(&files), as_lines(&all(&world).await));
    assert_eq!(
        Manifest::parse(&files["manifest.json"]).unwrap(),
        manifest,
        "what is returned is what is written"
    );
    let told: Vec<_> = manifest
        .segments
        .iter()
        .map(|segment| (segment.first.0, segment.last.0, segment.rows))
        .collect();
    let wanted = [
        (1, 1_000, 1_000),
        (1_001, 2_000, 1_000),
        (2_001, 2_345, 345),
    ];
    assert_eq!((told.as_slice(), manifest.rows), (&wanted[..], 2_345));
    assert_eq!(files.len(), 4, "three segments and the manifest");
    for segment in &manifest.segments {
        let bytes = &files[&segment.name];
        assert_eq!(segment.bytes, bytes.len() as u64);
        assert_eq!(segment.sha256, hex::encode(Sha256::digest(bytes)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_changes_nothing_and_another_folder_gets_the_same_bytes() {
    let (world, one, two) = (
        World::new().await,
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
    );
    append(&world, "facts", 1_500).await;
    for format in [Format::Ndjson, Format::Parquet] {
        let (one, two) = (
            one.path().join(format.to_string()),
            two.path().join(format.to_string()),
        );
        export(&world, &folder(&one), &request(format)).await;
        let made = files(&one);
        append(&world, &format!("later than {format}"), 10).await;
        let (_, before) = export(&world, &folder(&one), &request(format)).await;
        assert!(before, "its end stays where it was pinned");
        assert_eq!(files(&one), made);
        let pinned = Request {
            to: Some(Manifest::parse(&made["manifest.json"]).unwrap().plan.to),
            ..request(format)
        };
        export(&world, &folder(&two), &pinned).await;
        assert_eq!(files(&two), made);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_gets_what_a_folder_gets() {
    let (world, out, server) = (
        World::new().await,
        TempDir::new().unwrap(),
        S3Server::start().await,
    );
    append(&world, "facts", 1_200).await;
    let bucket = bucket(&server);
    export(&world, &folder(out.path()), &request(Format::Parquet)).await;
    export(&world, &bucket, &request(Format::Parquet)).await;
    let (_, before) = export(&world, &bucket, &request(Format::Parquet)).await;
    assert!(before);
    same(&bucket, out.path(), "undisturbed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_was_stopped_goes_on_and_ends_with_the_same_bytes() {
    let (world, whole, cut) = (
        World::new().await,
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
    );
    append(&world, "facts", 4_321).await;
    export(&world, &folder(whole.path()), &request(Format::Parquet)).await;
    let (pool, stop) = (world.database.pool(Role::Api).await, Shutdown::new());
    let tell = |step: Step<'_>| {
        if matches!(step, Step::Sealed(_)) {
            stop.cancel();
        }
    };
    let request = request(Format::Parquet);
    let stopped = run(&pool, &folder(cut.path()), &request, &tell, &stop).await;
    let told = stopped.expect_err("it was stopped").to_string();
    assert!(told.contains("stopped after 1 whole segments"), "{told}");
    let (manifest, before) = export(&world, &folder(cut.path()), &request).await;
    assert!(manifest.complete && !before);
    assert_eq!(files(cut.path()), files(whole.path()));
}

/// Exports in a process of its own, which dies at `point`.
#[cfg(feature = "failpoints")]
async fn killed(world: &World, format: Format, out: &[&str], point: &str) {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/export");
    let (url, format) = (world.database.url(), format.to_string());
    let arguments = [&[url.expose(), &format, "1000"], out].concat();
    let failpoints = [("CINELOG_FAILPOINTS", point)];
    let killed = testing::process::Child::start(&program, &arguments, &failpoints);
    let killed = killed.finish(std::time::Duration::from_mins(1)).await;
    assert!(!killed.status.success(), "{point}: {killed:?}");
}

#[cfg(feature = "failpoints")]
const POINTS: [&str; 6] = [
    "export.page=kill@1",
    "export.page=kill@2",
    "export.before_put=kill@2",
    "export.before_manifest=kill@2",
    "export.after_manifest=kill@3",
    "export.after_manifest=kill@4",
];

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_killed_at_each_of_its_points_ends_with_the_same_bytes() {
    let world = World::new().await;
    append(&world, "facts", 3_333).await;
    for format in [Format::Ndjson, Format::Parquet] {
        let whole = TempDir::new().unwrap();
        export(&world, &folder(whole.path()), &request(format)).await;
        for point in POINTS {
            let out = TempDir::new().unwrap();
            killed(&world, format, &[out.path().to_str().unwrap()], point).await;
            assert_ne!(files(out.path()), files(whole.path()), "{point} was late");
            export(&world, &folder(out.path()), &request(format)).await;
            assert_eq!(files(out.path()), files(whole.path()), "{point}");
        }
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_into_a_bucket_that_was_killed_ends_with_the_same_bytes() {
    let (world, whole) = (World::new().await, TempDir::new().unwrap());
    append(&world, "facts", 3_333).await;
    let format = Format::Parquet;
    export(&world, &folder(whole.path()), &request(format)).await;
    for point in POINTS {
        let server = S3Server::start().await;
        let (url, bucket) = (server.storage_url(), bucket(&server));
        let out = [&*url, &server.access_key, &server.secret_key];
        killed(&world, format, &out, point).await;
        export(&world, &bucket, &request(format)).await;
        same(&bucket, whole.path(), point).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_log_format_range_or_filter_is_refused_by_name() {
    let (world, other, out) = (
        World::new().await,
        World::new().await,
        TempDir::new().unwrap(),
    );
    append(&world, "facts", 100).await;
    append(&other, "facts", 100).await;
    // The databases of tests are copies of one.
    sqlx::query("UPDATE log.log SET log_id = gen_random_uuid()")
        .execute(&other.owner().await)
        .await
        .unwrap();
    let (store, asked) = (folder(out.path()), request(Format::Ndjson));
    export(&world, &store, &asked).await;
    let made = files(out.path());
    let to = |to| Request {
        to: Some(Position(to)),
        ..asked.clone()
    };
    assert!(refused(&other, &store, &asked).await.contains("log id"));
    assert!(
        refused(&world, &store, &request(Format::Parquet))
            .await
            .contains("format ndjson is there, and parquet")
    );
    assert!(refused(&world, &store, &to(50)).await.contains("--to 100"));
    let filtered = Request {
        types: vec!["reaction.added".to_owned()],
        ..asked.clone()
    };
    assert!(
        refused(&world, &store, &filtered)
            .await
            .contains("--type all")
    );
    let ahead = TempDir::new().unwrap();
    assert!(
        refused(&world, &folder(ahead.path()), &to(101))
            .await
            .contains("the log ends at 100")
    );
    assert_eq!(files(out.path()), made, "nothing was touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_choose_and_ranges_cut() {
    let (world, out) = (World::new().await, TempDir::new().unwrap());
    append(&world, "facts", 300).await;
    let facts = all(&world).await;
    let some = Request {
        from: Position(101),
        to: Some(Position(250)),
        types: vec!["reaction.added".to_owned()],
        tenant: Some(world.tenant),
        segment_rows: 100,
        ..request(Format::Ndjson)
    };
    export(&world, &folder(&out.path().join("some")), &some).await;
    let made = files(&out.path().join("some"));
    assert_eq!(lines(&made), as_lines(&facts[100..250]));
    assert!(made.contains_key("facts-000000000101-000000000200.ndjson.zst"));
    assert!(made.contains_key("facts-000000000201-000000000250.ndjson.zst"));
    let nobody = Request {
        tenant: Some(TenantId(uuid::Uuid::max())),
        ..some
    };
    let (manifest, _) = export(&world, &folder(&out.path().join("none")), &nobody).await;
    assert_eq!((manifest.rows, manifest.segments.len()), (0, 2));
    assert_eq!(lines(&files(&out.path().join("none"))), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_below_the_floor_is_refused_and_not_left_out() {
    let (world, out) = (World::new().await, TempDir::new().unwrap());
    append(&world, "facts", 100).await;
    sqlx::query("UPDATE log.log SET floor = 41")
        .execute(&world.owner().await)
        .await
        .unwrap();
    let told = refused(&world, &folder(out.path()), &request(Format::Ndjson)).await;
    assert!(told.contains("begins at 41"), "{told}");
    let filter = Filter::default();
    let page = async |after| world.log.page(Position(after), &filter, Limits::BULK).await;
    assert!(matches!(
        page(39).await,
        Err(LogError::TooOld {
            asked: 40,
            floor: 41
        })
    ));
    assert_eq!(page(40).await.unwrap().facts.len(), 60);
    let back = async |before| {
        let limits = Limits::BULK;
        world.log.page_back(Position(before), &filter, limits).await
    };
    let last = back(50).await.unwrap();
    assert_eq!((last.facts.len(), last.seen), (9, Position(41)));
    assert!(matches!(
        back(41).await,
        Err(LogError::TooOld {
            asked: 40,
            floor: 41
        })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_log_is_exported_as_a_manifest_without_segments() {
    let (world, out) = (World::new().await, TempDir::new().unwrap());
    let (manifest, _) = export(&world, &folder(out.path()), &request(Format::Parquet)).await;
    assert!(manifest.complete && manifest.segments.is_empty());
    assert_eq!(files(out.path()).len(), 1);
}

/// Pages of every size give the same facts, filtered or not, and say how far they looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_any_size_hold_every_fact_that_passes_once() {
    let world = World::new().await;
    append(&world, "facts", 500).await;
    let facts = all(&world).await;
    let subject = facts[7].subject.clone();
    let lane = facts[9].lane;
    let filters = [
        Filter::default(),
        Filter {
            types: vec!["reaction.added".to_owned(), "post.published".to_owned()],
            ..Filter::default()
        },
        Filter {
            about: About::Subject(subject),
            ..Filter::default()
        },
        Filter {
            lanes: vec![lane],
            tenant: Some(world.tenant),
            ..Filter::default()
        },
        Filter {
            types: vec!["post.deleted".to_owned()],
            ..Filter::default()
        },
    ];
    for filter in &filters {
        let wanted: Vec<_> = facts.iter().filter(|fact| filter.passes(fact)).collect();
        for (positions, most, bytes) in [
            (10_000, 10_000, 1 << 20),
            (7, 100, 1 << 20),
            (100, 3, 1 << 20),
            (100, 100, 1),
            (100, 100, 700),
        ] {
            let limits = Limits {
                positions,
                facts: most,
                bytes,
            };
            let found = forwards(&world, filter, limits).await;
            assert_eq!(
                found.iter().collect::<Vec<_>>(),
                wanted,
                "{filter:?} {limits:?}"
            );
            let mut found = backwards(&world, filter, limits).await;
            found.reverse();
            assert_eq!(
                found.iter().collect::<Vec<_>>(),
                wanted,
                "backwards {filter:?} {limits:?}"
            );
        }
    }
}

async fn forwards(world: &World, filter: &Filter, limits: Limits) -> Vec<Sealed> {
    let (mut after, mut found) = (Position::START, vec![]);
    while after < Position(500) {
        let page = world.log.page(after, filter, limits).await.unwrap();
        assert!(page.seen > after, "{filter:?} {limits:?} stands still");
        assert!(page.facts.iter().all(|fact| fact.position <= page.seen));
        after = page.seen;
        found.extend(page.facts);
    }
    found
}

async fn backwards(world: &World, filter: &Filter, limits: Limits) -> Vec<Sealed> {
    let (mut before, mut found) = (Position::END, vec![]);
    while before > Position(1) {
        let page = world.log.page_back(before, filter, limits).await.unwrap();
        assert!(page.seen < before, "{filter:?} {limits:?} stands still");
        assert!(page.facts.iter().all(|fact| fact.position >= page.seen));
        before = page.seen;
        found.extend(page.facts);
    }
    found
}
