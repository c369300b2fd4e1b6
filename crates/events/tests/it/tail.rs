//! Readers that follow the log as it grows, many in one process.

use std::time::Duration;

use events::id::{Lane, Position};
use events::store::{About, Filter, Limits, Reader, Tail, Wake};
use futures::future::join_all;
use service::db::Role;
use sqlx::PgPool;

use crate::support::{World, post, user};

const LIMIT: Duration = Duration::from_mins(1);
const WRITERS: u128 = 4;
/// Of each writer.
const FACTS: u128 = 60;

/// The positions of all that a reader is given up to `end`, at this pace.
async fn followed(tail: &mut Tail, end: Position, pause: Duration) -> Vec<Position> {
    let mut given = vec![];
    let follow = async {
        while tail.seen() < end {
            let page = tail.next(Duration::from_secs(1)).await.unwrap();
            given.extend(page.facts.iter().map(|fact| fact.position));
            tokio::time::sleep(pause).await;
        }
    };
    tokio::time::timeout(LIMIT, follow)
        .await
        .expect("the end is reached");
    given
}

/// Of all there is.
fn tail(pool: &PgPool, wake: &Wake) -> Tail {
    let (all, start) = (Filter::default(), Position::START);
    Tail::new(Reader::from(pool), wake.clone(), all, Limits::BULK, start)
}

async fn writes(world: &World, writer: u128) {
    for n in 0..FACTS {
        let key = format!("{writer} {n}");
        let reacted = world.react(&key, user(writer), post(n), "like");
        reacted.await.unwrap();
    }
}

fn filters() -> Vec<Filter> {
    let even = (0..64).step_by(2).filter_map(Lane::new);
    vec![
        Filter::default(),
        Filter {
            lanes: even.collect(),
            ..Filter::default()
        },
        Filter {
            types: vec!["post.published".to_owned()],
            ..Filter::default()
        },
        Filter {
            about: About::Person(user(1)),
            ..Filter::default()
        },
    ]
}

fn limits() -> Vec<Limits> {
    let bulk = Limits::BULK;
    vec![
        bulk,
        Limits { facts: 1, ..bulk },
        Limits { facts: 7, ..bulk },
        Limits { bytes: 1, ..bulk },
        bulk.within(3),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_readers_is_given_all_that_passes_while_the_log_grows() {
    let world = World::new().await;
    let pool = world.database.pool(Role::Projector).await;
    let wake = Wake::start(pool.clone(), &world.shutdown);
    let end = Position(i64::try_from(WRITERS * FACTS).unwrap());
    let mut readers = vec![];
    for filter in filters() {
        for limits in limits() {
            for pause in [0, 30].map(Duration::from_millis) {
                let (reader, start) = (Reader::from(&pool), Position::START);
                let tail = Tail::new(reader, wake.clone(), filter.clone(), limits, start);
                readers.push((tail, filter.clone(), pause));
            }
        }
    }
    let reading =
        readers
            .into_iter()
            .map(|(mut tail, filter, pause)| async move {
                (followed(&mut tail, end, pause).await, filter)
            });
    let writing = join_all((0..WRITERS).map(|writer| writes(&world, writer)));
    let (given, _) = tokio::join!(join_all(reading), writing);
    assert_eq!(world.head().await, end.0);
    let all = world.log.read(Position::START, end.0).await.unwrap();
    for (given, filter) in given {
        let passing = all.iter().filter(|fact| filter.passes(fact));
        let passing: Vec<_> = passing.map(|fact| fact.position).collect();
        assert_eq!(given, passing, "{filter:?}");
    }
}

#[tokio::test]
async fn who_has_come_to_the_end_of_the_log_reads_on_together() {
    let world = World::new().await;
    let pool = world.database.pool(Role::Projector).await;
    let wake = Wake::start(world.database.pool(Role::Api).await, &world.shutdown);
    let mut tails = [(); 3].map(|()| tail(&pool, &wake));
    for tail in &mut tails {
        tail.next(Duration::ZERO).await.unwrap();
        assert!(tail.is_level());
    }
    // None of them has a way of its own to the log any more.
    pool.close().await;
    for n in 0..3 {
        world
            .react(&n.to_string(), user(n), post(1), "like")
            .await
            .unwrap();
        let at = Position(i64::try_from(n).unwrap() + 1);
        for tail in &mut tails {
            assert_eq!(followed(tail, at, Duration::ZERO).await, [at]);
        }
    }
}

#[tokio::test]
async fn what_a_log_that_was_restored_does_not_hold_is_given_to_nobody() {
    let world = World::new().await;
    let pool = world.database.pool(Role::Projector).await;
    let wake = Wake::start(pool.clone(), &world.shutdown);
    let react = async |n: u128| {
        let key = n.to_string();
        let reacted = world.react(&key, user(n), post(1), "like");
        reacted.await.unwrap();
    };
    let (mut before, mut after) = (tail(&pool, &wake), tail(&pool, &wake));
    react(1).await;
    followed(&mut before, Position(1), Duration::ZERO).await;
    react(2).await;
    followed(&mut before, Position(2), Duration::ZERO).await;
    // As of a backup that was made before.
    let mut owner = world.owner().await.acquire().await.unwrap();
    for sql in [
        "SET session_replication_role = replica",
        "DELETE FROM log.events WHERE position = 2",
    ] {
        sqlx::query(sql).execute(&mut *owner).await.unwrap();
    }
    // No restoring is so quick that what was read before it still counts as the end.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let all = after.next(Duration::ZERO).await.unwrap();
    assert_eq!((all.facts.len(), after.is_level()), (1, true));
    let none = after.next(Duration::ZERO).await.unwrap();
    assert_eq!((none.facts, none.seen), (vec![], Position(1)));
    react(3).await;
    let another = after.next(Duration::from_secs(1)).await.unwrap();
    assert_eq!(another.facts, world.log.read(Position(1), 1).await.unwrap());
    assert_eq!(another.seen, Position(2));
}
