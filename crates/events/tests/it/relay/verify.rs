//! What is wrong is found, and named; what is right is not.

use events::envelope::Sealed;
use events::fact::post::ReactionAdded;
use events::id::{Position, StreamKey};
use events::log::{Kafka, to_headers};
use events::store::Emit;
use events::verify::{self, Difference, Report};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqlx::AssertSqlSafe;

use super::{LIMIT, Running, all, append, relayed_exactly, topics};
use crate::support::{World, post, user};

pub(super) async fn report(world: &World, kafka: Option<&Kafka>, from: i64) -> Report {
    let mut connection = world.owner().await.acquire().await.unwrap();
    verify::log(&mut connection, None, kafka, Position(from), &|_| {})
        .await
        .unwrap()
}

/// What is found once `statement` has been done to the tables, past every guard.
async fn after(world: &World, statement: &str) -> Vec<Difference> {
    tamper(world, statement).await;
    report(world, None, 1).await.differences.first
}

/// Does `statement` past every guard.
pub(super) async fn tamper(world: &World, statement: &str) {
    let mut connection = world.owner().await.acquire().await.unwrap();
    for sql in [
        "SET session_replication_role = replica",
        statement,
        "RESET session_replication_role",
    ] {
        sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *connection)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_whole_log_and_its_topic_have_no_differences() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "a", 700).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
    // Not relayed yet, and no difference for that.
    append(&world, "b", 5).await;

    let found = report(&world, Some(&kafka), 1).await;
    assert_eq!(found.differences.first, []);
    assert_eq!((found.facts, found.head), (705, Position(705)));
    let topic = found.topic.unwrap();
    assert_eq!((topic.upto, topic.records), (Position(700), 700));
    assert!(found.streams > 200, "{found:?}");

    let later = report(&world, Some(&kafka), 600).await;
    assert_eq!(later.differences.first, []);
    assert_eq!(later.facts, 106);
    assert!(later.streams < 50, "{later:?}");
}

#[tokio::test]
async fn a_fact_that_went_away_or_changed_is_found() {
    let world = World::new().await;
    append(&world, "a", 30).await;
    assert_eq!(report(&world, None, 1).await.differences.count, 0);

    let found = after(
        &world,
        "UPDATE log.events SET lane = (lane + 1) % 64 WHERE position = 3",
    )
    .await;
    assert!(
        matches!(
            found[0],
            Difference::WrongLane {
                position: Position(3),
                ..
            }
        ),
        "{found:?}"
    );
    let back = "UPDATE log.events SET lane = (lane + 63) % 64 WHERE position = 3";
    assert_eq!(after(&world, back).await, []);

    let found = after(
        &world,
        "UPDATE log.events SET payload = '{}' WHERE position = 5",
    )
    .await;
    assert!(
        matches!(
            found[0],
            Difference::Unreadable {
                position: Position(5),
                ..
            }
        ),
        "{found:?}"
    );
    let found = after(&world, "DELETE FROM log.events WHERE position = 5").await;
    assert_eq!(found[0], Difference::Missing(Position(5)));
}

#[tokio::test]
async fn a_stream_that_is_not_what_its_facts_say_is_found() {
    let world = World::new().await;
    world.react("k1", user(1), post(1), "like").await.unwrap();
    world.react("k2", user(1), post(1), "love").await.unwrap();
    world.react("k3", user(2), post(2), "like").await.unwrap();
    assert_eq!(report(&world, None, 1).await.differences.count, 0);
    let name = StreamKey::post_reaction(post(1), user(1)).stream;
    let row = |what| Difference::Row {
        tenant: world.tenant.0,
        stream: name.clone(),
        what,
    };
    let update = |set: &str| format!("UPDATE log.streams SET {set} WHERE stream_id = '{name}'");

    let was: serde_json::Value =
        sqlx::query_scalar("SELECT state FROM log.streams WHERE stream_id = $1")
            .bind(&name)
            .fetch_one(&world.owner().await)
            .await
            .unwrap();
    let forged = update("state = state || '{\"kind\": \"forged\"}'");
    assert_eq!(after(&world, &forged).await, [row("state")]);
    assert_eq!(
        after(&world, &update(&format!("state = '{was}'"))).await,
        []
    );
    assert_eq!(
        after(&world, &update("version = version + 1")).await,
        [row("version")]
    );
    assert_eq!(after(&world, &update("version = version - 1")).await, []);

    let found = after(&world, "DELETE FROM log.events WHERE position = 4").await;
    assert!(
        found.iter().any(|d| matches!(
            d,
            Difference::Row {
                what: "version",
                ..
            }
        )),
        "a row that tells of facts, where there are none: {found:?}"
    );
}

/// Puts a fact into the topic once more.
pub(super) fn send_again(fact: &Sealed, world: &World, kafka: &Kafka) {
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", testing::kafka::brokers())
        .create()
        .unwrap();
    let topic = kafka.facts_topic();
    let record = BaseRecord::to(&topic)
        .partition(fact.lane.number().into())
        .key(&fact.subject)
        .payload(&fact.payload)
        .headers(to_headers(fact, world.log.id()));
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(LIMIT).unwrap();
}

#[tokio::test]
async fn a_record_that_is_twice_in_the_topic_is_found_and_named() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "a", 90).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;

    send_again(&all(&world).await[40], &world, &kafka);
    let found = report(&world, Some(&kafka), 1).await.differences.first;
    assert!(
        matches!(
            found[..],
            [Difference::Doubled {
                position: Position(41),
                times: 2,
                ..
            }]
        ),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_topic_that_has_a_fact_of_another_text_is_found() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "a", 20).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
    after(
        &world,
        "UPDATE log.events SET payload = payload || '{\"kind\": \"forged\"}' WHERE position = 7",
    )
    .await;
    let found = report(&world, Some(&kafka), 1).await.differences.first;
    assert!(
        found.iter().any(|d| matches!(
            d,
            Difference::Altered {
                position: Position(7),
                ..
            }
        )),
        "{found:?}"
    );
    let later = report(&world, Some(&kafka), 8).await.differences.first;
    assert_eq!(
        later,
        [],
        "what lies before the first position is not looked at"
    );
}

#[tokio::test]
async fn a_log_that_is_written_meanwhile_has_no_differences() {
    let (world, kafka) = (World::new().await, topics());
    append(&world, "a", 500).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    let writes = async {
        for n in 0..200_u128 {
            let key = StreamKey::post_reaction(post(9000 + n), user(3));
            let fact = ReactionAdded {
                post: post(9000 + n),
                comment: None,
                user: user(3),
                kind: "like".to_owned(),
            };
            let command = world.command(user(3), "meanwhile", &n.to_string());
            let emit = Emit::all(&key, vec![fact.into()]);
            world
                .log
                .execute(&command, std::slice::from_ref(&key), |_| Ok(emit.clone()))
                .await
                .unwrap();
        }
    };
    let looks = async {
        for _ in 0..3 {
            assert_eq!(report(&world, Some(&kafka), 1).await.differences.first, []);
        }
    };
    tokio::join!(writes, looks);
    relay.stop().await;
}

#[tokio::test]
async fn a_floor_and_checkpoints_that_the_facts_deny_are_found() {
    let world = World::new().await;
    append(&world, "a", 30).await;
    let beyond = {
        let mut connection = world.owner().await.acquire().await.unwrap();
        verify::log(&mut connection, None, None, Position(32), &|_| {}).await
    };
    let told = beyond.unwrap_err().to_string();
    assert!(told.contains("the log ends at 30"), "{told}");
    assert_eq!(report(&world, None, 31).await.differences.count, 0);

    let (floor, archived) = (Position(20), Position::START);
    let found = after(&world, "UPDATE log.log SET floor = 20").await;
    assert_eq!(found, [Difference::Floor { floor, archived }]);
    assert_eq!(after(&world, "UPDATE log.log SET floor = 1").await, []);

    let ahead = "INSERT INTO subscription.checkpoints (subscription, lane, position) VALUES ('feed_g1', 7, 31)";
    let found = after(&world, ahead).await;
    assert!(
        matches!(
            found[..],
            [Difference::Ahead {
                lane: 7,
                position: Position(31),
                ..
            }]
        ),
        "{found:?}"
    );
}
