//! `cinelog bench seed`: the same history however often, and however it was interrupted.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use events::envelope::Recorded;
use events::id::Position;
use events::seal::Key;
use events::store::{Keys, Log};
use rustix::process::Signal;
use service::db::Role;
use service::shutdown::Shutdown;
use testing::db::Database;
use testing::process::{Child, Finished};
use testing::wait::until_true;

const LIMIT: Duration = Duration::from_mins(1);
const MASTER: [u8; 32] = [7; 32];

fn seed(database: &Database, size: &[&str]) -> Child {
    let args: Vec<&str> = ["bench", "seed"].iter().chain(size).copied().collect();
    let environment = [
        ("DATABASE_URL", database.url().expose()),
        ("MASTER_KEY", &*BASE64.encode(MASTER)),
    ];
    Child::start(env!("CARGO_BIN_EXE_cinelog"), &args, &environment)
}

async fn seeded(database: &Database, size: &[&str]) -> Finished {
    let finished = seed(database, size).finish(LIMIT).await;
    assert!(finished.status.success(), "{}", finished.stderr);
    finished
}

/// Every fact by its place, opened: what is there but for when and in which order it came.
async fn facts(database: &Database) -> BTreeMap<(String, i64), String> {
    let shutdown = Shutdown::new();
    let keys = Keys::new(Key::from_bytes(MASTER));
    let log = Log::open(database.pool(Role::Api).await, keys, &shutdown)
        .await
        .unwrap();
    let (mut facts, mut at) = (BTreeMap::new(), Position::START);
    loop {
        let page = log.read(at, 1_000).await.unwrap();
        let Some(last) = page.last() else { break };
        at = last.position;
        for Recorded {
            stream,
            version,
            meta,
            fact,
            ..
        } in log.open_facts(page).await.unwrap()
        {
            let said = format!("{} {} {fact:?}", meta.actor, meta.command);
            assert_eq!(facts.insert((stream, version), said), None);
        }
    }
    shutdown.finish(LIMIT).await;
    facts
}

const SMALL: &[&str] = &["--users", "600", "--posts", "300", "--seed", "7"];

#[tokio::test]
async fn a_seed_is_the_same_history_wherever_it_is_and_once() {
    let (one, other) = tokio::join!(Database::migrated(), Database::migrated());
    tokio::join!(seeded(&one, SMALL), seeded(&other, SMALL));
    let first = facts(&one).await;
    assert!(first.len() > 5_000, "{}", first.len());
    assert_eq!(facts(&other).await, first);

    let again = seeded(&one, SMALL).await;
    assert!(
        again.stdout.starts_with("nothing was left to do"),
        "{}",
        again.stdout
    );
    assert_eq!(facts(&one).await, first);
}

#[tokio::test]
async fn a_killed_seed_goes_on_where_it_was() {
    let (whole, killed) = tokio::join!(Database::migrated(), Database::migrated());
    seeded(&whole, SMALL).await;
    let owner = killed.pool(Role::Owner).await;
    for (signal, upto) in [
        (Signal::KILL, 100),
        (Signal::TERM, 3_000),
        (Signal::KILL, 6_000),
    ] {
        let child = seed(&killed, SMALL);
        until_true(LIMIT, "some of it is there", async || {
            let head: Option<i64> = sqlx::query_scalar("SELECT max(position) FROM log.events")
                .fetch_one(&owner)
                .await
                .unwrap();
            head >= Some(upto)
        })
        .await;
        child.signal(signal);
        let finished = child.finish(LIMIT).await;
        assert!(!finished.status.success(), "{}", finished.stdout);
    }
    // As if so long had passed that the log has forgotten who asked for what.
    sqlx::query("DELETE FROM log.commands")
        .execute(&owner)
        .await
        .unwrap();
    seeded(&killed, SMALL).await;
    assert_eq!(facts(&killed).await, facts(&whole).await);
}

#[tokio::test]
async fn a_log_of_others_is_refused() {
    let database = Database::migrated().await;
    let tiny = ["--users", "3", "--posts", "5"];
    seeded(&database, &tiny).await;
    let other = ["--users", "3", "--posts", "5", "--seed", "2"];
    let finished = seed(&database, &other).finish(LIMIT).await;
    assert_eq!(finished.status.code(), Some(1));
    assert!(
        finished.stderr.contains("--among-others"),
        "{}",
        finished.stderr
    );
    seeded(&database, &[&other[..], &["--among-others"]].concat()).await;
}
