//! A clip goes in; what comes out is judged from outside. On one machine, and over Kafka and S3.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use service::db::Role;
use tempfile::TempDir;
use testing::db::Database;
use testing::process::Finished;
use testing::{clip, kafka, wait};

use crate::program::{cinelog, running, tool};
use crate::{outputs, topic};

const LIMIT: Duration = Duration::from_mins(2);

/// What the demo's users say and are called; only who holds their keys may read it.
const TEXTS: &[&str] = &[
    "conejo",
    "roedores",
    "bosque",
    "bigbuckbunny",
    "\"Ana\"",
    "\"Beto\"",
    "\"Carla\"",
    "\"carla\"",
];

/// A folder that the database's own user may pass through.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("cinelog-e2e")
        .tempdir()
        .unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

/// Runs the demo with its outputs and temporary files in `folder`; afterwards nothing of it may be left but outputs.
async fn demo(folder: &Path, more: &[&str], environment: &[(&str, &str)]) -> Finished {
    let (out, temporary) = (folder.join("out"), folder.join("tmp"));
    fs::create_dir(&temporary).unwrap();
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o711)).unwrap();
    let clip = clip::sample();
    let args = [
        &[
            "demo",
            "--out",
            out.to_str().unwrap(),
            "--clip",
            clip.to_str().unwrap(),
        ],
        more,
    ];
    let environment = [environment, &[("TMPDIR", temporary.to_str().unwrap())]];
    let child = cinelog(&args.concat(), &environment.concat());
    let group = child.id();
    let finished = child.finish(LIMIT).await;
    assert!(
        finished.status.success(),
        "{}\n{}",
        finished.stdout,
        finished.stderr
    );
    // All it starts inherits TMPDIR.
    wait::until_true(LIMIT, "nothing of it runs any more", async || {
        running(temporary.to_str().unwrap(), group).is_empty()
    })
    .await;
    let left: Vec<_> = fs::read_dir(&temporary)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new(), "it left files");
    finished
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clip_becomes_its_outputs_on_one_machine_alone() {
    let folder = folder();
    // The services of this test run are configured, and are not used.
    let told = demo(folder.path(), &[], &[]).await.stdout;
    assert!(told.contains("private Postgres, folder store"), "{told}");
    for kind in [
        "upload.completed",
        "rendition.completed",
        "asset.ready",
        "post.published",
        "match.made",
    ] {
        assert!(told.contains(kind), "no {kind} in: {told}");
    }
    outputs::check(&folder.path().join("out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_kafka_and_s3_the_topic_is_the_log_and_neither_shows_a_persons_words() {
    let (folder, database, prefix) = (folder(), Database::migrated().await, kafka::unique_prefix());
    let url = database.url().expose();
    let environment = [("DATABASE_URL", url), ("TOPIC_PREFIX", prefix.as_str())];
    demo(folder.path(), &["--full"], &environment).await;
    outputs::check(&folder.path().join("out"));

    // Whatever the demo's relay had not come to before it was stopped, the next one brings.
    let _relay = cinelog(&["relay"], &environment);
    let owner = database.pool(Role::Owner).await;
    let records = topic::equals_the_log(&prefix, &owner).await;
    let topic: String = records
        .iter()
        .map(|record| String::from_utf8_lossy(&record.payload).into_owned() + "\n")
        .collect();
    let log = tool("pg_dump", &["--schema=log", url]);
    for kind in ["post.published", "comment.added", "profile.updated"] {
        assert!(log.contains(kind), "the dump lacks {kind}");
    }
    for text in TEXTS {
        assert!(!log.contains(text), "the log's dump shows {text}");
        assert!(!topic.contains(text), "the topic shows {text}");
    }
    // The same look finds the words where they are meant to be.
    let shown = tool("pg_dump", &["--schema=feed_g1", url]);
    assert!(shown.contains("conejo"), "the read model shows the post");
}
