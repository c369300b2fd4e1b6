//! One way in: accepted once, refused without a trace, never changed afterwards.

use events::decide::Refusal;
use events::fact::post::{PostPublished, ReactionAdded, Visibility};
use events::id::{AssetId, Position, StreamKey};
use events::store::{Emit, ExecuteError, LogError, Streams, Undecided};
use service::db::{self, Role};
use uuid::Uuid;

use crate::support::{World, post, user};

#[tokio::test]
async fn a_repeated_command_returns_the_first_acceptance() {
    let world = World::new().await;
    let first = world.react("k1", user(1), post(1), "like").await.unwrap();
    let again = world.react("k1", user(1), post(1), "like").await.unwrap();
    assert!(!first.repeated && again.repeated);
    assert_eq!(first.facts.len(), 1);
    assert_eq!(first.facts[0].event_id, again.facts[0].event_id);
    assert_eq!(first.facts[0].recorded_at, again.facts[0].recorded_at);
    assert_eq!(world.head().await, 1);
}

#[tokio::test]
async fn a_key_used_for_another_body_is_refused() {
    let world = World::new().await;
    world.react("k1", user(1), post(1), "like").await.unwrap();
    let mut command = world.command(user(1), "react", "k1");
    command.body_hash = [9; 32];
    let refused = world.log.execute(&command, &[], |_| Ok(vec![])).await;
    assert!(
        matches!(refused, Err(ExecuteError::KeyReused)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn many_at_once_on_one_stream_are_decided_one_after_the_other() {
    let world = World::new().await;
    let keys: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
    let all = keys
        .iter()
        .map(|key| world.react(key, user(1), post(1), "like"));
    let outcomes = futures::future::join_all(all).await;
    let facts: usize = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap().facts.len())
        .sum();
    assert_eq!(
        (facts, world.head().await),
        (1, 1),
        "a second like changes nothing"
    );
}

#[tokio::test]
async fn one_bad_value_fails_its_own_command_only() {
    let world = World::new().await;
    let keys: Vec<String> = (0..40)
        .map(|n| {
            if n == 17 {
                "bad\0key".to_owned()
            } else {
                format!("k{n}")
            }
        })
        .collect();
    let all = keys
        .iter()
        .enumerate()
        .map(|(n, key)| world.react(key, user(n as u128), post(1), "like"));
    let outcomes = futures::future::join_all(all).await;
    let (fine, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((fine.len(), failed.len()), (39, 1));
    assert_eq!(world.head().await, 39);
}

#[tokio::test]
async fn what_kafka_could_not_take_is_refused_before_the_log() {
    let world = World::new().await;
    let stream = StreamKey::post_reaction(post(1), user(1));
    let big = ReactionAdded {
        post: post(1),
        comment: None,
        user: user(1),
        kind: "x".repeat(1 << 20),
    };
    let command = world.command(user(1), "react", "k");
    let refused = world
        .log
        .execute(&command, std::slice::from_ref(&stream), |_| {
            Ok(Emit::all(&stream, vec![big.clone().into()]))
        })
        .await;
    assert!(
        matches!(refused, Err(ExecuteError::TooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(world.head().await, 0);
}

/// The limit is that of the record in Kafka, and Postgres hands out another text of the payload than it was given.
#[tokio::test]
async fn an_envelope_may_take_a_mebibyte_and_not_a_byte_more() {
    let world = World::new().await;
    let (limit, stream) = (1 << 20, StreamKey::post(post(1)));
    // Many in a list, since each comes back with a space more.
    let publish = async |rest: usize| {
        let fact = PostPublished {
            post: post(1),
            author: user(1),
            text: "Hola".into(),
            place: None,
            location: None,
            language: Some("q".repeat(rest)),
            assets: vec![AssetId(Uuid::nil()); 15_000],
            visibility: Visibility::Public,
        };
        let command = world.command(user(1), "publish", "k");
        let decided = |_: &_| Ok(Emit::all(&stream, vec![fact.clone().into()]));
        world
            .log
            .execute(&command, std::slice::from_ref(&stream), decided)
            .await
    };
    let too_large = |refused| match refused {
        Err(ExecuteError::TooLarge { bytes, limit: l }) => bytes - l,
        other => panic!("{other:?}"),
    };
    let over = too_large(publish(limit / 2).await);
    assert_eq!(too_large(publish(limit / 2 - over + 1).await), 1);
    publish(limit / 2 - over).await.unwrap();
    let mut stored = world.log.read(Position::START, 1).await.unwrap().remove(0);
    // As it will be one day.
    stored.position = Position::END;
    let room = limit - stored.encoded_bytes();
    assert!(room <= 7, "only a time may be shorter: {room}");
}

#[tokio::test]
async fn a_refusal_leaves_no_trace() {
    let world = World::new().await;
    let command = world.command(user(1), "react", "k");
    let stream = StreamKey::post(post(1));
    let refused = world
        .log
        .execute(&command, std::slice::from_ref(&stream), |_| {
            Err(Refusal::NotFound("post"))
        })
        .await;
    assert!(matches!(
        refused,
        Err(ExecuteError::Refused(Refusal::NotFound("post")))
    ));
    let rows: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM log.commands) + (SELECT count(*) FROM log.streams) + (SELECT count(*) FROM log.events)",
    )
    .fetch_one(&world.owner().await)
    .await
    .unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn facts_and_the_callers_rows_commit_together() {
    let world = World::new().await;
    let owner = world.owner().await;
    sqlx::query("CREATE TABLE public.mine (n int PRIMARY KEY)")
        .execute(&owner)
        .await
        .unwrap();
    sqlx::query("GRANT INSERT ON public.mine TO cinelog_api")
        .execute(&owner)
        .await
        .unwrap();
    let pool = world.database.pool(Role::Api).await;
    let streams = &[1, 2].map(|n| StreamKey::post_reaction(post(1), user(n)));
    // Two people each: the second is refused, or gets in the first one's way.
    for (n, (second, refuse), good) in [
        (1, (1, false), true),
        (2, (1, true), false),
        (3, (0, false), false),
    ] {
        let mut tx = db::begin(&pool, "BEGIN").await.unwrap();
        sqlx::query("INSERT INTO public.mine VALUES ($1)")
            .bind(n)
            .execute(&mut *tx)
            .await
            .unwrap();
        let commands = [0, 1].map(|of| world.command(user(1), "react", &format!("k{n} {of}")));
        let commands = commands.iter().zip([(0, false), (second, refuse)]);
        let commands = commands.map(|(command, (stream, refuse))| Undecided {
            command,
            streams: std::slice::from_ref(&streams[stream]),
            decide: move |_: &Streams| {
                if refuse {
                    return Err(Refusal::NotFound("x"));
                }
                let like = ReactionAdded {
                    post: post(1),
                    comment: None,
                    user: user(1),
                    kind: "like".to_owned(),
                };
                Ok(Emit::all(&streams[stream], vec![like.into()]))
            },
        });
        let outcome = world.log.append_in(tx, commands.collect()).await;
        assert_eq!(outcome.is_ok(), good, "{outcome:?}");
    }
    let kept: Vec<i32> = sqlx::query_scalar("SELECT n FROM public.mine")
        .fetch_all(&owner)
        .await
        .unwrap();
    assert_eq!((kept, world.head().await), (vec![1], 2));
}

#[tokio::test]
async fn facts_cannot_be_changed_by_anyone() {
    let world = World::new().await;
    world.react("k1", user(1), post(1), "like").await.unwrap();
    let owner = world.owner().await;
    for change in [
        "UPDATE log.events SET type = 'x'",
        "DELETE FROM log.events",
        "TRUNCATE log.events",
    ] {
        let refused = sqlx::query(change).execute(&owner).await.unwrap_err();
        assert!(
            refused.to_string().contains("facts are immutable"),
            "{change}: {refused}"
        );
        for role in [Role::Api, Role::Projector, Role::Transcoder] {
            let refused = sqlx::query(change)
                .execute(&world.database.pool(role).await)
                .await
                .unwrap_err();
            assert!(
                refused.to_string().contains("permission denied"),
                "{change} as {role:?}: {refused}"
            );
        }
    }
    for table in ["events", "streams", "commands", "person_keys", "log"] {
        let insert = sqlx::AssertSqlSafe(format!("INSERT INTO log.{table} DEFAULT VALUES"));
        let refused = sqlx::query(insert)
            .execute(&world.database.pool(Role::Api).await)
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("permission denied"),
            "{table}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_subject_is_pinned_by_the_first_fact() {
    let world = World::new().await;
    world.react("k1", user(1), post(1), "like").await.unwrap();
    let moved = StreamKey {
        subject: "post-elsewhere".to_owned(),
        ..StreamKey::post_reaction(post(1), user(1))
    };
    let command = world.command(user(1), "react", "k2");
    let fact = ReactionAdded {
        post: post(1),
        comment: None,
        user: user(1),
        kind: "love".to_owned(),
    };
    let refused = world
        .log
        .execute(&command, std::slice::from_ref(&moved), |_| {
            Ok(Emit::all(&moved, vec![fact.clone().into()]))
        })
        .await;
    assert!(
        matches!(refused, Err(ExecuteError::Refused(Refusal::WrongState(_)))),
        "{refused:?}"
    );
}

/// Taken for no state at all, it would let everything be decided anew.
#[tokio::test]
async fn over_a_state_that_makes_no_sense_nothing_is_decided() {
    let world = World::new().await;
    world.react("k1", user(1), post(1), "like").await.unwrap();
    let stream = StreamKey::post_reaction(post(1), user(1)).stream;
    sqlx::query("UPDATE log.streams SET state = '[7]' WHERE stream_id = $1")
        .bind(&stream)
        .execute(&world.owner().await)
        .await
        .unwrap();
    // Another process, which remembers nothing.
    let world = World::on(world.database).await;
    let refused = world.react("k2", user(1), post(1), "love").await;
    let Err(ExecuteError::Unreadable(LogError::State { stream: told, .. })) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*told, stream);
    let read = world.log.stream(world.tenant, &stream).await;
    assert!(matches!(read, Err(LogError::State { .. })), "{read:?}");
    assert_eq!(world.head().await, 1);
}

#[tokio::test]
async fn below_the_floor_is_told_and_not_skipped() {
    let world = World::new().await;
    for n in 0..3 {
        world
            .react(&format!("k{n}"), user(n), post(1), "like")
            .await
            .unwrap();
    }
    sqlx::query("UPDATE log.log SET floor = 3")
        .execute(&world.owner().await)
        .await
        .unwrap();
    let refused = world.log.read(Position(1), 10).await;
    assert!(
        matches!(refused, Err(LogError::TooOld { asked: 2, floor: 3 })),
        "{refused:?}"
    );
    assert_eq!(world.log.read(Position(2), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn numbering_goes_on_above_the_floor() {
    let world = World::new().await;
    sqlx::query("UPDATE log.log SET floor = 1000")
        .execute(&world.owner().await)
        .await
        .unwrap();
    let accepted = world.react("k", user(1), post(1), "like").await.unwrap();
    assert_eq!(accepted.facts[0].position, Position(1000));
}

#[tokio::test]
async fn functions_with_the_logs_rights_cannot_be_led_astray() {
    let world = World::new().await;
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT oid::regprocedure::text FROM pg_proc
         WHERE prosecdef AND NOT COALESCE('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)",
    )
    .fetch_all(&world.owner().await)
    .await
    .unwrap();
    assert_eq!(
        open,
        Vec::<String>::new(),
        "temporary types would come first"
    );
}

#[tokio::test]
async fn two_bodies_under_one_key_leave_no_empty_stream() {
    let world = World::new().await;
    let outcomes = futures::future::join_all((0..20).map(|n| {
        let mut command = world.command(user(1), "react", "same");
        command.body_hash = [n; 32];
        let stream = StreamKey::post_reaction(post(n.into()), user(1));
        let (post, comment, kind) = (post(n.into()), None, "like".to_owned());
        let fact = ReactionAdded {
            post,
            comment,
            user: user(1),
            kind,
        };
        let log = world.log.clone();
        async move {
            let decide =
                |_: &events::store::Streams| Ok(Emit::all(&stream, vec![fact.clone().into()]));
            log.execute(&command, std::slice::from_ref(&stream), decide)
                .await
        }
    }))
    .await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let streams: Vec<i64> = sqlx::query_scalar("SELECT version FROM log.streams")
        .fetch_all(&world.owner().await)
        .await
        .unwrap();
    assert_eq!(streams, [1]);
}

/// Makes partitions of `rows` positions, in place of the first ones, which nobody has used yet.
pub(crate) async fn partitions_of(world: &World, rows: i64) {
    for sql in [
        format!("UPDATE log.log SET partition_rows = {rows}"),
        "DROP TABLE log.events_0, log.events_1".to_owned(),
        "SELECT log.make_room(0)".to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&world.owner().await)
            .await
            .unwrap();
    }
}

async fn partitions(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM pg_inherits WHERE inhparent = 'log.events'::regclass")
        .fetch_one(&world.owner().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn partitions_are_made_before_positions_reach_them() {
    let world = World::new().await;
    partitions_of(&world, 10).await;
    assert_eq!(partitions(&world).await, 2, "two ahead of an empty log");
    for n in 0..45_u128 {
        world
            .react(&format!("k{n}"), user(n), post(n), "like")
            .await
            .unwrap();
    }
    testing::wait::until_true(
        std::time::Duration::from_secs(20),
        "there is room ahead",
        async || partitions(&world).await >= 6,
    )
    .await;
    let read = world.log.read(Position::START, 100).await.unwrap();
    assert_eq!(read.len(), 45);
    // A partition made later is as unchangeable, and as unique, as the first ones.
    for refused in [
        "UPDATE log.events SET version = 9 WHERE position = 41",
        "TRUNCATE log.events_at_41",
        "INSERT INTO log.events SELECT 50, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
             gen_random_uuid(), recorded_at FROM log.events WHERE position = 41",
    ] {
        let outcome = sqlx::query(refused).execute(&world.owner().await).await;
        assert!(outcome.is_err(), "{refused}");
    }
}

#[tokio::test]
async fn a_batch_that_finds_no_partition_makes_one() {
    let world = World::new().await;
    partitions_of(&world, 2).await;
    // More at once than lies ahead.
    let keys: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
    let all = keys
        .iter()
        .enumerate()
        .map(|(n, key)| world.react(key, user(n as u128), post(n as u128), "like"));
    for outcome in futures::future::join_all(all).await {
        outcome.unwrap();
    }
    assert_eq!(world.head().await, 60);
}
