//! Postgres is restored to an older state: what only the topic has is taken back, or the log becomes another.

use events::fact::user::UserErased;
use events::id::{Position, StreamKey};
use events::log::{
    ForkError, ImportError, Imported, Kafka, Refusal, RelayError, fork, forkable, import,
    to_headers,
};
use events::store::Emit;
use events::verify::Report;
use rdkafka::producer::{BaseRecord, Producer};
use service::shutdown::Shutdown;
use testing::db::{Database, Dump};

use super::check::refusal;
use super::verify::report;
use super::{LIMIT, Running, all, append, put, relayed_exactly, rival, topics};
use crate::forgetting::publish;
use crate::support::{World, user};

/// A log whose topic goes on behind the backup: `before` facts are in both, `after` only in the topic.
async fn restored(before: usize, after: usize) -> (World, World, Kafka) {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "before", before).await;
    let dump = world.database.dump();
    append(&world, "after", after).await;
    relayed(&world, &kafka).await;
    (world, restore(&dump).await, kafka)
}

async fn restore(dump: &Dump) -> World {
    World::on(Database::restored(dump).await).await
}

/// Relays everything, and ends.
async fn relayed(world: &World, kafka: &Kafka) {
    let relay = Running::start(world, kafka).await;
    relayed_exactly(world, kafka).await;
    relay.stop().await;
}

async fn imported(
    world: &World,
    kafka: &Kafka,
    without_keys: bool,
) -> Result<Imported, ImportError> {
    let (pool, shutdown) = (world.owner().await, Shutdown::new());
    import(&pool, kafka, without_keys, &|_| {}, &shutdown).await
}

async fn is_whole(world: &World, kafka: &Kafka) -> Report {
    let report = report(world, Some(kafka), 1).await;
    assert_eq!(report.differences.first, []);
    report
}

async fn may_append(world: &World) -> bool {
    sqlx::query_scalar(
        "SELECT has_function_privilege('cinelog_api', oid, 'EXECUTE') FROM pg_proc
         WHERE pronamespace = 'log'::regnamespace AND proname = 'append'",
    )
    .fetch_one(&world.owner().await)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_topic_has_comes_back_as_it_was() {
    let (was, world, kafka) = restored(300, 400).await;
    let refused = refusal(&world, &kafka).await;
    let position = Position(700);
    assert_eq!(refused, Refusal::PostgresBehind { position });
    for way in [
        "`cinelog log import`",
        "`TOPIC_PREFIX=NEW cinelog log fork`",
    ] {
        assert!(refused.to_string().contains(way), "{refused}");
    }

    let done = imported(&world, &kafka, false).await.unwrap();
    let wanted = Imported {
        after: Position(300),
        upto: position,
        ..Imported::default()
    };
    assert_eq!(done, wanted);
    assert_eq!(all(&world).await, all(&was).await);
    is_whole(&world, &kafka).await;
    let again = imported(&world, &kafka, false).await.unwrap();
    assert_eq!((again.after, again.upto), (position, position));

    // Streams of both halves go on where they were, and the relay too.
    append(&world, "later", 50).await;
    relayed(&world, &kafka).await;
    let found = is_whole(&world, &kafka).await;
    assert_eq!(found.topic.unwrap().records, 750);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_from_before_the_first_fact_gets_all_of_them_across_partitions() {
    let (world, kafka) = (World::new().await, topics());
    let dump = world.database.dump();
    append(&world, "all", 2_500).await;
    relayed(&world, &kafka).await;
    let empty = restore(&dump).await;
    // Two more partitions than there are must be made on the way.
    let owner = empty.owner().await;
    for sql in [
        "ALTER TABLE log.events DETACH PARTITION log.events_0",
        "ALTER TABLE log.events DETACH PARTITION log.events_1",
        "UPDATE log.log SET partition_rows = 1000",
    ] {
        sqlx::query(sql).execute(&owner).await.unwrap();
    }
    imported(&empty, &kafka, false).await.unwrap();
    assert_eq!(all(&empty).await, all(&world).await);
    is_whole(&empty, &kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_something_was_appended_only_a_fork_goes_on() {
    let (_was, world, kafka) = restored(30, 40).await;
    append(&world, "another history", 5).await;
    let refused = imported(&world, &kafka, false).await.unwrap_err();
    let ImportError::Refused(Refusal::TwoHistories { position, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!(position, Position(35), "where Postgres ends");
    assert!(
        refused.to_string().contains("cinelog log fork"),
        "{refused}"
    );
    assert!(may_append(&world).await);

    let (pool, old) = (world.owner().await, world.log.id());
    let refused = forkable(&pool, Some(&kafka)).await.unwrap_err();
    assert!(matches!(refused, ForkError::TopicInUse { .. }), "{refused}");
    let new = topics();
    let plan = forkable(&pool, Some(&new)).await.unwrap();
    assert_eq!((plan.log_id, plan.head), (old, Position(35)));
    let stranger = fork(&pool, Some(&new), uuid::Uuid::nil())
        .await
        .unwrap_err();
    assert!(matches!(stranger, ForkError::AnotherLog { found, .. } if found == old));
    let forked = fork(&pool, Some(&new), old).await.unwrap();
    assert_ne!(forked.log_id, old);
    relayed(&world, &new).await;
    is_whole(&world, &new).await;
    // Done is done, also when there is something in the topic by now.
    assert_eq!(fork(&pool, Some(&new), old).await.unwrap(), forked);
    // And the old topic is another log's.
    assert!(matches!(
        Running::start(&world, &kafka).await.end().await,
        Err(RelayError::Refused(Refusal::ForeignLog { .. }))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_forked_while_a_relay_works_or_a_read_model_knows_more() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "facts", 10).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    let (pool, new) = (world.owner().await, topics());
    let refused = fork(&pool, Some(&new), world.log.id()).await.unwrap_err();
    assert!(matches!(refused, ForkError::RelayRuns), "{refused}");
    relay.stop().await;
    sqlx::query("INSERT INTO subscription.checkpoints VALUES ('feed_g1', 7, 11)")
        .execute(&pool)
        .await
        .unwrap();
    let refused = fork(&pool, Some(&new), world.log.id()).await.unwrap_err();
    let ahead = Position(11);
    assert!(
        matches!(&refused, ForkError::Ahead { subscription, lane: 7, position } if subscription == "feed_g1" && *position == ahead),
        "{refused}"
    );
    let bounds = events::store::bounds(&pool).await.unwrap();
    assert_eq!(bounds.log_id, world.log.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_whose_keys_are_lost_are_counted_and_given_up_only_when_asked_to() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "before", 10).await;
    let dump = world.database.dump();
    publish(&world, 1).await.unwrap();
    publish(&world, 2).await.unwrap();
    relayed(&world, &kafka).await;
    let keys: (uuid::Uuid, uuid::Uuid, Vec<u8>) =
        sqlx::query_as("SELECT tenant, person, wrapped FROM log.person_keys")
            .fetch_one(&world.owner().await)
            .await
            .unwrap();

    let given_up = restore(&dump).await;
    let refused = imported(&given_up, &kafka, false).await.unwrap_err();
    let ImportError::KeysLost { facts, persons } = refused else {
        panic!("{refused}");
    };
    assert_eq!((facts, persons), (2, 1));
    assert_eq!(given_up.head().await, 10, "before anything was written");
    let done = imported(&given_up, &kafka, true).await.unwrap();
    assert_eq!((done.unreadable, done.persons), (2, 1));
    is_whole(&given_up, &kafka).await;
    // A new key would not open what the lost one sealed, so there is none.
    assert!(publish(&given_up, 3).await.is_err());

    let kept = restore(&dump).await;
    sqlx::query("INSERT INTO log.person_keys (tenant, person, wrapped) VALUES ($1, $2, $3)")
        .bind(keys.0)
        .bind(keys.1)
        .bind(keys.2)
        .execute(&kept.owner().await)
        .await
        .unwrap();
    let done = imported(&kept, &kafka, false).await.unwrap();
    assert_eq!(done.unreadable, 0);
    publish(&kept, 3).await.unwrap();
    is_whole(&kept, &kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_erased_after_the_backup_is_erased_again() {
    let (world, kafka) = (World::new().await, topics());
    publish(&world, 1).await.unwrap();
    let dump = world.database.dump();
    let erased = UserErased { user: user(1) };
    let (command, stream) = (
        world.command(user(1), "erase", "1"),
        StreamKey::user(user(1)),
    );
    let emit = Emit {
        stream: stream.clone(),
        fact: erased.into(),
    };
    let accepted = world
        .log
        .execute(&command, std::slice::from_ref(&stream), |_| {
            Ok(vec![emit.clone()])
        });
    accepted.await.unwrap();
    relayed(&world, &kafka).await;
    let restored = restore(&dump).await;
    assert_eq!(readable_keys(&restored).await, 1);
    imported(&restored, &kafka, false).await.unwrap();
    assert_eq!(readable_keys(&restored).await, 0);
    is_whole(&restored, &kafka).await;
}

async fn readable_keys(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(wrapped) FROM log.person_keys")
        .fetch_one(&world.owner().await)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_lacks_a_fact_is_not_imported() {
    let (was, world, kafka) = restored(10, 10).await;
    // The marker says that there is more than there is.
    let producer = rival(&kafka);
    producer.begin_transaction().unwrap();
    let last = all(&was).await.pop().unwrap();
    let mut after = last.clone();
    after.position = Position(last.position.0 + 2);
    let marker = serde_json::json!({
        "log_id": world.log.id(), "position": after.position, "event_id": after.event_id, "lane": after.lane
    });
    let topic = kafka.facts_topic();
    let record = BaseRecord::to(&topic)
        .partition(after.lane.number().into())
        .key(&after.subject)
        .payload(&after.payload)
        .timestamp(after.recorded_at.timestamp_millis())
        .headers(to_headers(&after, world.log.id()));
    producer.send(record).map_err(|(error, _)| error).unwrap();
    put(&producer, &kafka.relay_topic(), 0, &marker.to_string());
    producer.commit_transaction(LIMIT).unwrap();
    let refused = imported(&world, &kafka, false).await.unwrap_err();
    let ImportError::Gap { missing } = refused else {
        panic!("{refused}");
    };
    assert_eq!(missing, Position(21));
    assert_eq!(world.head().await, 10, "before anything was written");
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_killed_at_each_of_its_points_is_ended_by_a_repeat() {
    let (was, world, kafka) = restored(100, 12_000).await;
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/import");
    let topic = kafka.relay_topic();
    let prefix = topic.strip_suffix(".relay").unwrap();
    for (point, head) in [
        ("import.fenced=kill@1", 100),
        ("import.before_commit=kill@2", 5_100),
        ("import.after_commit=kill@1", 10_100),
    ] {
        let killed = testing::process::Child::start(
            &program,
            &[
                world.database.url().expose(),
                &testing::kafka::brokers(),
                prefix,
            ],
            &[("CINELOG_FAILPOINTS", point)],
        );
        let finished = killed.finish(LIMIT).await;
        assert!(!finished.status.success(), "{point}: {finished:?}");
        assert_eq!(world.head().await, head, "{point}");
        assert!(
            !may_append(&world).await,
            "{point}: nothing may get in between"
        );
        is_behind(&world, &kafka).await;
    }
    imported(&world, &kafka, false).await.unwrap();
    assert!(may_append(&world).await);
    assert_eq!(all(&world).await, all(&was).await);
    append(&world, "later", 5).await;
    relayed(&world, &kafka).await;
    is_whole(&world, &kafka).await;
}

#[cfg(feature = "failpoints")]
async fn is_behind(world: &World, kafka: &Kafka) {
    let refused = refusal(world, kafka).await;
    assert!(
        matches!(refused, Refusal::PostgresBehind { .. }),
        "{refused}"
    );
}
