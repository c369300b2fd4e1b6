//! What the data team does: exports, replays, and the worked examples of docs/data.md, run as they are written there.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use service::db::Role;
use tempfile::TempDir;
use testing::db::Database;
use testing::{environment, kafka};

use crate::program;
use crate::world::{Programs, end};

const LIMIT: Duration = Duration::from_mins(2);

/// A log with `facts` facts, and its database.
async fn filled(facts: i64) -> Database {
    let database = Database::migrated().await;
    let owner = database.pool(Role::Owner).await;
    // The shape of real ones; no command made them, so their streams have no state.
    sqlx::query(
        "INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                 event_id, recorded_at)
         SELECT n, n % 64, (SELECT tenant FROM log.tenants), 'post-' || n, 1,
                CASE n % 3 WHEN 0 THEN 'post.published' ELSE 'reaction.added' END, 1, 'post-' || n,
                jsonb_build_object('kind', CASE n % 2 WHEN 0 THEN 'like' ELSE 'love' END, 'n', n),
                jsonb_build_object('actor', gen_random_uuid(), 'command', 'c-' || n),
                gen_random_uuid(), '2026-01-01 00:00:00+00'::timestamptz + n * interval '1 second'
         FROM generate_series(1, $1) n",
    )
    .bind(facts)
    .execute(&owner)
    .await
    .unwrap();
    database
}

async fn cinelog(database: &Database, arguments: &[&str]) -> String {
    let url = database.url();
    let child = program::cinelog(arguments, &[("DATABASE_URL", url.expose())]);
    let finished = child.finish(LIMIT).await;
    assert!(finished.status.success(), "{arguments:?}: {finished:?}");
    finished.stdout
}

/// Runs an example as the documentation says to, and returns what it prints.
fn example(name: &str, arguments: &[&str]) -> String {
    let python = environment::root().join(".cinelog/python/bin/python");
    assert!(
        python.exists(),
        "{} is not there: run ops/dev/setup data",
        python.display()
    );
    let script: PathBuf = environment::root().join("docs/examples").join(name);
    let output = Command::new(python).arg(script).args(arguments).output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_and_pandas_read_an_export_and_find_it_whole() {
    let (database, out) = (filled(2_500).await, TempDir::new().unwrap());
    let folder = out.path().to_str().unwrap();
    let export = [
        "export",
        "--format",
        "parquet",
        "--segment-rows",
        "1000",
        "--out",
        folder,
    ];
    let told = cinelog(&database, &export).await;
    assert!(
        told.contains("2500 facts of positions 1 to 2500 are in 3 segments"),
        "{told}"
    );
    let told = cinelog(&database, &export).await;
    assert!(told.contains("nothing was left to do"), "{told}");
    for script in ["duckdb_export.py", "pandas_export.py"] {
        let told = example(script, &[folder]);
        for line in [
            "2500 facts, positions 1 to 2500, none missing",
            "post.published 833",
            "reaction.added 1667",
            "reactions of kind like 834",
        ] {
            assert!(
                told.contains(line),
                "{script} does not say `{line}`: {told}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_to_standard_output_is_the_log_and_ends_quietly_when_nobody_reads() {
    let database = filled(25_000).await;
    let arguments = [
        "replay",
        "--to",
        "stdout",
        "--from",
        "3",
        "--until",
        "12",
        "--type",
        "post.published",
    ];
    let told = cinelog(&database, &arguments).await;
    let positions: Vec<_> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].clone())
        .collect();
    assert_eq!(positions, [3, 6, 9, 12]);
    let told = cinelog(&database, &["replay", "--to", "stdout"]).await;
    assert_eq!(told.lines().count(), 25_000);

    let mut replay = Command::new(program::path("cinelog"))
        .args(["replay", "--to", "stdout"])
        .env("DATABASE_URL", database.url().expose())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(replay.stdout.take());
    let ended = tokio::task::spawn_blocking(move || replay.wait_with_output());
    let ended = tokio::time::timeout(LIMIT, ended).await.unwrap().unwrap();
    let ended = ended.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(
        !String::from_utf8_lossy(&ended.stderr).contains("error"),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_gives_the_same_bytes_before_and_after_the_archive_took_its_part() {
    let (database, out) = (filled(2_500).await, TempDir::new().unwrap());
    let owner = database.pool(Role::Owner).await;
    // The log has been filled in its first partition: what comes is in partitions of a thousand.
    for sql in [
        "UPDATE log.log SET partition_rows = 1000",
        "ALTER TABLE log.events DETACH PARTITION log.events_0",
        "ALTER TABLE log.events DETACH PARTITION log.events_1",
        "SELECT log.make_room(3000)",
        "INSERT INTO log.events SELECT * FROM log.events_0",
    ] {
        sqlx::query(sql).execute(&owner).await.unwrap();
    }
    let before = cinelog(&database, &["replay", "--to", "stdout"]).await;
    let path = out.path().join("archive");
    let place = path.to_str().unwrap();
    let told = cinelog(
        &database,
        &[
            "log",
            "archive",
            "--no-kafka",
            "--out",
            place,
            "--keep",
            "400",
        ],
    )
    .await;
    assert!(told.contains("the log begins at 2001"), "{told}");
    let told = cinelog(
        &database,
        &[
            "log",
            "archive",
            "--no-kafka",
            "--out",
            place,
            "--before",
            "2001",
        ],
    )
    .await;
    assert!(told.contains("0 partitions were archived"), "{told}");

    let environment = [("DATABASE_URL", database.url().expose())];
    let refused = program::cinelog(&["replay", "--to", "stdout"], &environment);
    let refused = refused.finish(LIMIT).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("set ARCHIVE_URL"), "{refused:?}");
    let after = ["replay", "--to", "stdout", "--archive-url", place];
    assert!(cinelog(&database, &after).await == before, "a seam");
    let facts = over_http(&database, place).await;
    assert!(facts == before, "a seam over HTTP");
}

/// The whole log as `GET /v1/facts` gives it, page by page, where the archive is at `place`.
async fn over_http(database: &Database, place: &str) -> String {
    let (programs, store) = (Programs::of(database, None), TempDir::new().unwrap());
    let token = programs.token("ana", "data-global").await;
    let places = [
        ("STORAGE_URL", store.path().to_str().unwrap()),
        ("ARCHIVE_URL", place),
    ];
    let (api, url) = programs.api(&places).await;
    let (mut facts, mut from) = (String::new(), 1);
    loop {
        let page = reqwest::Client::new()
            .get(format!("{url}/v1/facts?limit=1000&from={from}"))
            .bearer_auth(&token)
            .timeout(LIMIT)
            .send();
        let page = page.await.unwrap().error_for_status().unwrap();
        let page = page.text().await.unwrap();
        let Some(last) = page.lines().last() else {
            end(api).await;
            return facts;
        };
        let last: Value = serde_json::from_str(last).unwrap();
        from = last["position"].as_i64().unwrap() + 1;
        facts.push_str(&page);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_in_python_finds_a_replayed_topic_whole() {
    let (database, prefix) = (filled(1_500).await, kafka::unique_prefix());
    let (topic, brokers) = (format!("{prefix}.again"), kafka::brokers());
    let to = format!("kafka://{topic}");
    let own = format!("kafka://{prefix}.facts");
    let url = database.url();
    let environment = [("DATABASE_URL", url.expose()), ("TOPIC_PREFIX", &prefix)];
    let refused = program::cinelog(&["replay", "--to", &own], &environment);
    let refused = refused.finish(LIMIT).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("a relay's own"), "{refused:?}");
    for (from, until) in [("1", "700"), ("701", "1500")] {
        let arguments = ["replay", "--to", &to, "--from", from, "--until", until];
        let sent = program::cinelog(&arguments, &environment)
            .finish(LIMIT)
            .await;
        assert!(sent.status.success(), "{sent:?}");
    }
    let told = example("kafka_consumer.py", &[&brokers, &topic]);
    assert!(
        told.contains("1500 facts, positions 1 to 1500, none missing"),
        "{told}"
    );
}
