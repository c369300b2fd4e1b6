//! The tests' own ground: what it promises to the others, it must keep.

use std::time::Duration;

use rustix::process::{Pid, Signal, test_kill_process};
use service::db::Role;
use testing::db::Database;
use testing::process::Child;
use testing::wait;

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_s3_server_says_when_it_is_ready_and_stops_on_sigterm() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().join("new").display().to_string();
    let args = [
        "--root",
        &root,
        "--bucket",
        "b",
        "--access-key",
        "K",
        "--secret-key",
        "S",
    ];
    let mut server = Child::start(env!("CARGO_BIN_EXE_s3-server"), &args, &[]);
    let line = server.line("listening on", LIMIT).await;
    let address = line
        .strip_prefix("s3-server: listening on http://")
        .expect("the promised line");
    // An idle connection must not hold it up.
    let idle = tokio::net::TcpStream::connect(address).await.unwrap();
    server.signal(Signal::TERM);
    let finished = server.finish(LIMIT).await;
    assert!(finished.status.success(), "{finished:?}");
    drop(idle);
}

#[tokio::test]
async fn a_dropped_child_takes_what_it_started_along() {
    let mut child = Child::start("sh", &["-c", "sleep 600 & echo started $!; wait"], &[]);
    let line = child.line("started", LIMIT).await;
    let grandchild = line.trim_start_matches("started ").parse().unwrap();
    let grandchild = Pid::from_raw(grandchild).unwrap();
    assert!(test_kill_process(grandchild).is_ok());
    drop(child);
    wait::until_true(LIMIT, "the grandchild is gone", async || {
        is_gone(grandchild)
    })
    .await;
}

/// Gone, or dead and waiting for a parent to look at it, which in a container may take for ever.
fn is_gone(process: Pid) -> bool {
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_pid())).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

#[tokio::test]
async fn a_child_leaves_its_output_and_its_status() {
    let finished = Child::start("sh", &["-c", "echo out; echo err >&2; exit 3"], &[])
        .finish(LIMIT)
        .await;
    assert_eq!(
        (
            finished.status.code(),
            finished.stdout.as_str(),
            finished.stderr.as_str()
        ),
        (Some(3), "out\n", "err\n")
    );
}

#[tokio::test]
#[should_panic(expected = "within 30ms it did not happen that it does")]
async fn waiting_has_an_end_even_when_the_condition_hangs() {
    wait::until_true(Duration::from_millis(30), "it does", async || {
        std::future::pending().await
    })
    .await;
}

#[tokio::test]
async fn each_test_has_a_migrated_database_of_its_own_which_goes_with_it() {
    let migrate = async |pool: &sqlx::PgPool| {
        sqlx::query("CREATE TABLE probe (n integer)")
            .execute(pool)
            .await?;
        Ok(())
    };
    let set = "testing self-test";
    let (one, two) = tokio::join!(
        Database::create(set, migrate),
        Database::create(set, migrate)
    );
    let (one_pool, two_pool) = (one.pool(Role::Owner).await, two.pool(Role::Owner).await);
    sqlx::query("INSERT INTO probe VALUES (1)")
        .execute(&one_pool)
        .await
        .unwrap();
    let count = "SELECT count(*) FROM probe";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(count)
            .fetch_one(&one_pool)
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        sqlx::query_scalar::<_, i64>(count)
            .fetch_one(&two_pool)
            .await
            .unwrap(),
        0
    );

    let name: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&one_pool)
        .await
        .unwrap();
    drop(one);
    let left = "SELECT count(*) FROM pg_database WHERE datname = $1";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(left)
            .bind(name)
            .fetch_one(&two_pool)
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn the_migrations_make_the_roles() {
    let database = Database::migrated().await;
    for role in [Role::Projector, Role::Transcoder, Role::Api] {
        let user: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(&database.pool(role).await)
            .await
            .unwrap();
        assert_eq!(Some(user.as_str()), role.name());
    }
}

#[tokio::test]
async fn only_committed_records_are_read() {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

    let topic = format!("{}-committed", testing::kafka::unique_prefix());
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", testing::kafka::brokers());
    let admin: AdminClient<_> = config.create().unwrap();
    let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(1));
    admin
        .create_topics([&new], &AdminOptions::new())
        .await
        .unwrap()[0]
        .as_ref()
        .unwrap();

    let producer: ThreadedProducer<DefaultProducerContext> =
        config.set("transactional.id", &topic).create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    for (value, partition, commit) in [("lost", 0, false), ("kept", 0, true), ("kept too", 1, true)]
    {
        producer.begin_transaction().unwrap();
        producer
            .send(
                BaseRecord::<(), _>::to(&topic)
                    .payload(value)
                    .partition(partition),
            )
            .map_err(|e| e.0)
            .unwrap();
        if commit {
            producer.commit_transaction(LIMIT).unwrap();
        } else {
            producer.abort_transaction(LIMIT).unwrap();
        }
    }
    let read = testing::kafka::read_committed(&topic).await;
    let read: Vec<_> = read
        .iter()
        .map(|r| {
            (
                r.partition,
                String::from_utf8_lossy(&r.payload).into_owned(),
            )
        })
        .collect();
    assert_eq!(read, [(0, "kept".into()), (1, "kept too".into())]);
}

#[tokio::test]
async fn clips_are_made_once() {
    let clip = testing::clip::tone(1);
    let made = clip.metadata().unwrap().modified().unwrap();
    assert_eq!(testing::clip::tone(1), clip);
    assert_eq!(clip.metadata().unwrap().modified().unwrap(), made);
    // One second of 16-bit mono at 48 kHz and a header.
    assert!((96_000..97_000).contains(&clip.metadata().unwrap().len()));
}
