//! Appending with an expected version, and deciding over what a process remembers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use events::fact::Fact;
use events::fact::post::{PostPublished, ReactionAdded, Visibility};
use events::id::{Position, StreamKey};
use events::store::{Accepted, Append, Emit, ExecuteError, Expected, Log, Streams, Undecided};
use events::verify;
use service::db::{self, Role};
use testing::db::locked_out;
use testing::wait;
use uuid::Uuid;

use crate::support::{World, post, user};

fn like(n: u128, expected: Expected) -> Append {
    Append {
        stream: StreamKey::post_reaction(post(n), user(1)),
        expected,
        facts: vec![
            ReactionAdded {
                post: post(n),
                comment: None,
                user: user(1),
                kind: "like".to_owned(),
            }
            .into(),
        ],
    }
}

async fn append(
    world: &World,
    log: &Log,
    key: &str,
    appends: Vec<Append>,
) -> Result<Accepted, ExecuteError> {
    let command = world.command(user(1), "append", key);
    log.append(&command, appends).await
}

#[tokio::test]
async fn a_stream_must_stand_as_expected() {
    let world = World::new().await;
    let log = &world.log;
    let first = append(&world, log, "k1", vec![like(1, Expected::NoStream)])
        .await
        .unwrap();
    assert_eq!((first.facts.len(), first.facts[0].version), (1, 1));
    append(&world, log, "k2", vec![like(1, Expected::Exact(1))])
        .await
        .unwrap();
    append(&world, log, "k3", vec![like(1, Expected::Any)])
        .await
        .unwrap();

    for (key, expected) in [
        ("k4", Expected::NoStream),
        ("k5", Expected::Exact(2)),
        ("k6", Expected::Exact(4)),
    ] {
        let refused = append(&world, log, key, vec![like(1, expected)]).await;
        assert!(
            matches!(refused, Err(ExecuteError::Conflict { actual: 3, .. })),
            "{expected:?}: {refused:?}"
        );
    }
    let again = append(&world, log, "k1", vec![like(1, Expected::NoStream)])
        .await
        .unwrap();
    assert!(again.repeated);
    assert_eq!(again.facts[0].event_id, first.facts[0].event_id);
    assert_eq!(world.head().await, 3);
}

#[tokio::test]
async fn several_streams_get_their_facts_together_or_not_at_all() {
    let world = World::new().await;
    let log = &world.log;
    let both = vec![like(1, Expected::NoStream), like(2, Expected::NoStream)];
    append(&world, log, "k1", both).await.unwrap();
    let half = vec![like(3, Expected::NoStream), like(2, Expected::NoStream)];
    let refused = append(&world, log, "k2", half).await;
    assert!(
        matches!(refused, Err(ExecuteError::Conflict { actual: 1, .. })),
        "{refused:?}"
    );
    assert_eq!(world.head().await, 2);
    let stream = StreamKey::post_reaction(post(3), user(1)).stream;
    assert_eq!(log.stream(world.tenant, &stream).await.unwrap(), None);
}

#[tokio::test]
async fn what_a_process_remembers_never_decides_against_the_log() {
    let world = World::new().await;
    let other = Log::open(
        world.database.pool(Role::Api).await,
        world.keys.clone(),
        &world.shutdown,
    )
    .await
    .unwrap();
    world.react("k1", user(1), post(1), "like").await.unwrap();
    // Another process goes on with the stream that the first one remembers.
    append(&world, &other, "o1", vec![like(1, Expected::Exact(1))])
        .await
        .unwrap();
    let refused = append(&world, &world.log, "k2", vec![like(1, Expected::Exact(1))]).await;
    assert!(
        matches!(refused, Err(ExecuteError::Conflict { actual: 2, .. })),
        "{refused:?}"
    );
    append(&world, &other, "o2", vec![like(1, Expected::Exact(2))])
        .await
        .unwrap();
    // Decided over version 2, judged against version 3, decided anew.
    let changed = world.react("k3", user(1), post(1), "love").await.unwrap();
    assert_eq!(changed.facts.last().unwrap().version, 5, "{changed:?}");
    let nothing = world.react("k4", user(1), post(1), "love").await.unwrap();
    assert_eq!(nothing.facts, []);
    assert_eq!(world.head().await, 5);
}

#[tokio::test]
async fn an_append_without_a_fact_is_refused() {
    let world = World::new().await;
    let guard = Append {
        facts: vec![],
        ..like(1, Expected::NoStream)
    };
    for appends in [vec![], vec![guard, like(2, Expected::NoStream)]] {
        let refused = append(&world, &world.log, "k", appends).await;
        assert!(
            matches!(refused, Err(ExecuteError::Unrepresentable(_))),
            "{refused:?}"
        );
    }
    assert_eq!(world.head().await, 0);
}

#[tokio::test]
async fn of_writers_that_begin_a_stream_at_once_one_begins_it() {
    let world = World::new().await;
    let mut logs = vec![world.log.clone()];
    for _ in 0..3 {
        let pool = world.database.pool(Role::Api).await;
        let log = Log::open(pool, world.keys.clone(), &world.shutdown);
        logs.push(log.await.unwrap());
    }
    for n in 0..40_u128 {
        let stream = 2 * n;
        let racing = logs.iter().enumerate().map(|(log, one)| {
            let key = format!("begin-{n}-{log}");
            let world = &world;
            async move { append(world, one, &key, vec![like(stream, Expected::NoStream)]).await }
        });
        let verdicts = futures::future::join_all(racing).await;
        let begun = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
        let conflict = |verdict: &&Result<Accepted, ExecuteError>| {
            matches!(verdict, Err(ExecuteError::Conflict { actual: 1, .. }))
        };
        let late = verdicts.iter().filter(conflict).count();
        assert_eq!((begun, late), (1, 3), "{verdicts:?}");

        // And of four that ask for the same, one is accepted and the others are told so.
        let asking = logs.iter().map(|one| {
            let key = format!("same-{n}");
            let world = &world;
            async move { append(world, one, &key, vec![like(stream + 1, Expected::Any)]).await }
        });
        let accepted: Vec<Accepted> = (futures::future::join_all(asking).await.into_iter())
            .collect::<Result<_, _>>()
            .unwrap();
        let first = accepted.iter().filter(|accepted| !accepted.repeated);
        assert_eq!(first.count(), 1, "{accepted:?}");
        assert!(
            accepted.iter().all(|one| one.facts == accepted[0].facts),
            "{accepted:?}"
        );
    }
    assert_eq!(world.head().await, 80);
}

/// Told by the stream's name, not by a fact that is there already: that would cost the writer its connection, and with it
/// every command that was decided before.
#[tokio::test]
async fn a_stream_that_another_has_begun_is_found_out_before_its_facts() {
    let world = World::new().await;
    append(&world, &world.log, "k1", vec![like(1, Expected::NoStream)])
        .await
        .unwrap();
    let begun = StreamKey::post_reaction(post(1), user(1));
    let done: bool = sqlx::query_scalar(
        "SELECT done FROM log.append(ARRAY[$1]::uuid[], ARRAY[$2], ARRAY[$3], '{0}', '{0}', '{1}', ARRAY[NULL],
            ARRAY[gen_random_uuid()], ARRAY['\\x00'::bytea], '{1}', '{1}',
            '{1}', '{1}', '{reaction.added}', '{1}', ARRAY['{}'], ARRAY['{}'], ARRAY[gen_random_uuid()],
            '{}', '{}', '{}', '{}', 1)",
    )
    .bind(world.tenant)
    .bind(&begun.stream)
    .bind(&begun.subject)
    .fetch_one(&world.database.pool(Role::Api).await)
    .await
    .unwrap();
    assert!(!done);
    assert_eq!(world.head().await, 1);
}

/// An import closes the log and waits for appends under way. One that begins meanwhile saw it open.
#[tokio::test]
async fn who_waited_while_the_log_was_closed_appends_nothing() {
    let world = World::new().await;
    let owner = world.owner().await;
    let mut closing = db::begin(&owner, "BEGIN").await.unwrap();
    for order in [
        "REVOKE EXECUTE ON FUNCTION log.append FROM cinelog_api, cinelog_transcoder",
        "LOCK TABLE log.streams IN EXCLUSIVE MODE",
    ] {
        sqlx::query(order).execute(&mut *closing).await.unwrap();
    }
    let waits = async || locked_out(&owner, "%").await > 0;
    let close = async {
        wait::until_true(Duration::from_secs(20), "the append waits", waits).await;
        closing.commit().await.unwrap();
    };
    let begun = append(&world, &world.log, "k1", vec![like(1, Expected::NoStream)]);
    let (refused, ()) = tokio::join!(begun, close);
    assert!(
        matches!(refused, Err(ExecuteError::Unavailable(_))),
        "{refused:?}"
    );
    assert_eq!(world.head().await, 0);
}

/// Batches that find their streams other than presumed hold winners, losers, repeats and neighbours at once.
#[tokio::test]
async fn a_stream_that_two_processes_write_costs_its_neighbours_nothing() {
    const ROUNDS: u128 = 20;
    const LIKES: u128 = 3;
    let world = World::new().await;
    let pool = world.database.pool(Role::Api).await;
    let other = Log::open(pool, world.keys.clone(), &world.shutdown)
        .await
        .unwrap();
    let logs = [&world.log, &other];
    let hot = |expected| vec![like(0, expected)];
    append(&world, logs[0], "first", hot(Expected::NoStream))
        .await
        .unwrap();
    for round in 0..ROUNDS {
        let mut asked = vec![];
        for (at, log) in (0_u128..).zip(logs) {
            let key = |name: &str| format!("{name}-{round}-{at}");
            for n in 0..LIKES {
                asked.push((log, key(&format!("hot{n}")), hot(Expected::Any)));
            }
            asked.push((log, key("late"), hot(Expected::NoStream)));
            let own = vec![like(1 + 2 * round + at, Expected::NoStream)];
            asked.push((log, key("own"), own));
            asked.push((log, "first".to_owned(), hot(Expected::NoStream)));
        }
        let racing = asked.into_iter().map(|(log, key, appends)| {
            let world = &world;
            async move { (append(world, log, &key, appends).await, key) }
        });
        for (verdict, key) in futures::future::join_all(racing).await {
            let name = key.split('-').next().unwrap();
            let right = match (&verdict, name) {
                (Err(ExecuteError::Conflict { actual, .. }), "late") => *actual > 0,
                (Ok(accepted), "first") => accepted.repeated,
                (Ok(accepted), _) => name != "late" && !accepted.repeated,
                (Err(_), _) => false,
            };
            assert!(right, "{key}: {verdict:?}");
        }
    }
    let stream = StreamKey::post_reaction(post(0), user(1)).stream;
    let versions: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM log.events WHERE stream_id = $1 ORDER BY position")
            .bind(&stream)
            .fetch_all(&world.owner().await)
            .await
            .unwrap();
    let hot = i64::try_from(1 + 2 * ROUNDS * LIKES).unwrap();
    assert_eq!(versions, (1..=hot).collect::<Vec<_>>());
    let neighbours = i64::try_from(2 * ROUNDS).unwrap();
    assert_eq!(world.head().await, hot + neighbours);
}

#[tokio::test]
async fn an_acceptance_is_forgotten_after_seven_days_and_no_sooner() {
    let world = World::new().await;
    let id = |key| world.command(user(1), "append", key).id.hash();
    for (n, key) in ["old", "young"].into_iter().enumerate() {
        let like = like(n as u128, Expected::NoStream);
        append(&world, &world.log, key, vec![like]).await.unwrap();
    }
    for (key, age) in [("old", "7 days 1 minute"), ("young", "6 days 23 hours")] {
        sqlx::query("UPDATE log.commands SET accepted_at = now() - $2::interval WHERE id = $1")
            .bind(id(key))
            .bind(age)
            .execute(&world.owner().await)
            .await
            .unwrap();
    }
    let pool = world.database.pool(Role::Api).await;
    let next: Option<i64> = sqlx::query_scalar("SELECT log.forget_commands(0, 256)")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(next, None, "the table is one page");
    let kept: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM log.commands")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(kept, [id("young")]);
}

/// A key that a rolled back transaction has made is not used by the next command.
#[tokio::test]
async fn a_key_that_was_never_stored_seals_nothing() {
    let world = World::new().await;
    let stream = StreamKey::post(post(1));
    let published = PostPublished {
        post: post(1),
        author: user(1),
        text: "Hola".into(),
        place: None,
        location: None,
        language: None,
        assets: vec![],
        visibility: Visibility::Public,
    };
    let emits = Emit::all(&stream, vec![published.into()]);
    let command = world.command(user(1), "publish", "k1");
    // The decider is asked, the key is made, and then the caller's transaction comes to nothing.
    let tx = db::begin(&world.database.pool(Role::Api).await, "BEGIN")
        .await
        .unwrap();
    sqlx::query("CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
        .execute(&world.owner().await)
        .await
        .unwrap();
    sqlx::query(
        "CREATE TRIGGER no BEFORE INSERT ON log.commands FOR EACH ROW EXECUTE FUNCTION public.no()",
    )
    .execute(&world.owner().await)
    .await
    .unwrap();
    let streams = std::slice::from_ref(&stream);
    let failed = world
        .log
        .append_in(
            tx,
            vec![Undecided {
                command: &command,
                streams,
                decide: |_: &Streams| Ok(emits.clone()),
            }],
        )
        .await;
    assert!(failed.is_err(), "{failed:?}");
    sqlx::query("DROP TRIGGER no ON log.commands")
        .execute(&world.owner().await)
        .await
        .unwrap();

    world
        .log
        .execute(&command, streams, |_| Ok(emits.clone()))
        .await
        .unwrap();
    let stored = world.log.read(Position::START, 10).await.unwrap();
    let read = world.log.open_facts(stored).await.unwrap();
    let Fact::PostPublished(post) = &read[0].fact else {
        panic!("{read:?}")
    };
    assert_eq!(post.text.text(), Some("Hola"));
}

/// The caller that goes away leaves no doubt: a repeat tells, and nothing happens twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_waiting_learns_of_the_outcome_by_asking_again() {
    let world = World::new().await;
    let mut repeated = 0;
    for n in 0..40_u128 {
        let key = format!("k{n}");
        let once = || append(&world, &world.log, &key, vec![like(n, Expected::NoStream)]);
        // Before it is sent, on its way, or after it was decided.
        let wait = Duration::from_micros(u64::try_from(n).unwrap() * 100);
        let given_up = tokio::time::timeout(wait, once()).await.is_err();
        let told = once().await.unwrap();
        assert!(told.repeated || given_up, "what was told is told again");
        repeated += u32::from(told.repeated);
        assert_eq!(told.facts[0].version, 1);
    }
    assert!(repeated > 0, "some had taken effect");
    assert_eq!(world.head().await, 40, "each once");
}

/// Two writers that always have more to append get their turns alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_append_at_once_share_the_log_fairly() {
    const CLIENTS: u128 = 16;
    const FACTS: i64 = 800;
    let world = World::new().await;
    let pool = world.database.pool(Role::Api).await;
    let other = Log::open(pool, world.keys.clone(), &world.shutdown)
        .await
        .unwrap();
    let all = AtomicI64::new(0);
    let client = async |log: &Log, name: u128| -> i64 {
        let mut appended = 0;
        while all.fetch_add(1, Ordering::Relaxed) < FACTS {
            let n = name * 10_000 + u128::try_from(appended).unwrap();
            let likes = vec![like(n, Expected::NoStream)];
            append(&world, log, &format!("k{n}"), likes).await.unwrap();
            appended += 1;
        }
        appended
    };
    let of = |log, first: u128| {
        futures::future::join_all((first..first + CLIENTS).map(move |name| client(log, name)))
    };
    let (one, two) = tokio::join!(of(&world.log, 0), of(&other, CLIENTS));
    let (one, two): (i64, i64) = (one.iter().sum(), two.iter().sum());
    let least = (one + two) * 3 / 10;
    assert!(one > least && two > least, "{one} and {two}");
}

/// The clock of the database is set back: times in the log stay in the order of positions.
#[tokio::test]
async fn when_the_clock_goes_back_times_do_not() {
    let world = World::new().await;
    append(&world, &world.log, "k0", vec![like(0, Expected::NoStream)])
        .await
        .unwrap();
    // As if it had been an hour later when the first fact was recorded.
    let mut owner = world.owner().await.acquire().await.unwrap();
    for sql in [
        "SET session_replication_role = replica",
        "UPDATE log.events SET recorded_at = recorded_at + interval '1 hour'",
    ] {
        sqlx::query(sql).execute(&mut *owner).await.unwrap();
    }
    for n in 1..4 {
        let likes = vec![like(n, Expected::NoStream)];
        append(&world, &world.log, &format!("k{n}"), likes)
            .await
            .unwrap();
    }
    let report = verify::log(&mut owner, None, None, Position(1), &|_| {})
        .await
        .unwrap();
    assert_eq!(report.differences.first, []);
    assert_eq!(report.facts, 4);
}

#[tokio::test]
async fn nothing_is_written_after_a_failure_that_needs_an_operator() {
    let world = World::new().await;
    world.shutdown.fail("the topic knows more than the log");
    assert!(world.shutdown.finish(Duration::from_secs(4)).await);
    let refused = append(&world, &world.log, "k1", vec![like(1, Expected::NoStream)]).await;
    assert!(
        matches!(refused, Err(ExecuteError::Unavailable(_))),
        "{refused:?}"
    );
    assert_eq!(world.head().await, 0);
}
