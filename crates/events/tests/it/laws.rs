//! The laws of the log, against many writers in several processes, delayed commits and `kill -9`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use events::envelope::Sealed;
use events::id::{Lane, Position};
use sqlx::PgPool;
use testing::process::Child;
use testing::wait;

use crate::support::World;

const WRITERS: usize = 16;
const EACH: usize = 60;

fn append_many() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.ancestors()
        .nth(2)
        .unwrap()
        .join("examples/append_many")
}

fn start(world: &World, name: &str) -> Child {
    let args = [
        world.database.url().expose(),
        &WRITERS.to_string(),
        &EACH.to_string(),
        name,
    ];
    Child::start(append_many(), &args, &[])
}

/// Keeps some transactions open after they have numbered their facts and before they commit.
async fn delay_commits(owner: &PgPool) {
    sqlx::raw_sql(
        "CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(random() * 0.02); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON log.events_0 DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW WHEN (NEW.position % 9 = 0) EXECUTE FUNCTION public.dawdle();",
    )
    .execute(owner)
    .await
    .unwrap();
}

/// Tails the log until `done` and nothing is left, as any reader would.
async fn tail(world: &World, done: impl AsyncFn() -> bool) -> Vec<Sealed> {
    let mut seen: Vec<Sealed> = vec![];
    loop {
        let after = seen.last().map_or(Position::START, |fact| fact.position);
        let ended = done().await;
        let next = world.log.read(after, 100).await.unwrap();
        if next.is_empty() && ended {
            return seen;
        }
        seen.extend(next);
        tokio::task::yield_now().await;
    }
}

fn laws_hold(seen: &[Sealed]) {
    let mut versions: HashMap<&str, i64> = HashMap::new();
    let mut last = None;
    for (n, fact) in (1..).zip(seen) {
        assert_eq!(
            fact.position,
            Position(n),
            "positions are dense and each is seen once, in order"
        );
        let version = versions.entry(&fact.stream).or_default();
        *version += 1;
        assert_eq!(
            fact.version, *version,
            "{} has versions 1..k in position order",
            fact.stream
        );
        assert_eq!(fact.lane, Lane::of(fact.tenant, &fact.subject));
        assert!(
            last <= Some(fact.recorded_at),
            "recorded times never go back"
        );
        last = Some(fact.recorded_at);
    }
}

async fn streams_agree(world: &World, seen: &[Sealed]) {
    let wrong: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM log.streams s
         WHERE s.version <> (SELECT count(*) FROM log.events e WHERE e.tenant = s.tenant AND e.stream_id = s.stream_id)",
    )
    .fetch_one(&world.owner().await)
    .await
    .unwrap();
    assert_eq!(
        wrong, 0,
        "every stream's version is the number of its facts"
    );
    let accepted: i64 = sqlx::query_scalar(
        "SELECT COALESCE(sum(last_position - first_position + 1), 0)::bigint FROM log.commands",
    )
    .fetch_one(&world.owner().await)
    .await
    .unwrap();
    assert_eq!(
        accepted,
        i64::try_from(seen.len()).unwrap(),
        "every fact belongs to one accepted command"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_writers_in_two_processes_with_delayed_commits_lose_nothing() {
    let world = World::new().await;
    delay_commits(&world.owner().await).await;
    let (one, two) = (start(&world, "one"), start(&world, "two"));
    let finished = world.shutdown.spawn(async move {
        let limit = Duration::from_mins(4);
        (one.finish(limit).await, two.finish(limit).await)
    });
    let seen = tail(&world, async || finished.is_finished()).await;
    let (one, two) = finished.await.unwrap();
    assert!(
        one.status.success() && two.status.success(),
        "{one:?} {two:?}"
    );
    // Three in four facts go to the writer's own stream, where the kind changes each time: none is a repeat.
    assert!(seen.len() > 2 * WRITERS * EACH, "{} facts", seen.len());
    laws_hold(&seen);
    streams_agree(&world, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_writer_loses_no_acceptance_and_leaves_no_half() {
    let world = World::new().await;
    delay_commits(&world.owner().await).await;
    let one = start(&world, "one");
    wait::until_true(Duration::from_mins(1), "some facts", async || {
        world.head().await > 200
    })
    .await;
    one.kill();
    let limit = Duration::from_mins(4);
    one.finish(limit).await;
    // The same commands again: those accepted before the kill are repeats, the others are made up for.
    let again = start(&world, "one").finish(limit).await;
    assert!(again.status.success(), "{again:?}");
    let seen = tail(&world, async || true).await;
    let own = seen
        .iter()
        .filter(|fact| !fact.stream.contains("0000-0000-000000000001"))
        .count();
    assert!(
        own >= WRITERS * EACH * 3 / 4,
        "{own} facts in the writers' own streams"
    );
    laws_hold(&seen);
    streams_agree(&world, &seen).await;
}
