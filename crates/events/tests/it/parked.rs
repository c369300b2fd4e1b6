//! What cannot be taken in waits, with all that comes after it of its subject, and nothing else does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use events::envelope::Recorded;
use events::fact::Fact;
use events::store::Reader;
use events::subscription::{self, Parked, Subscriber, Wish};
use futures::FutureExt;
use futures::future::BoxFuture;
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgConnection;
use testing::wait;

use crate::subscription::start;
use crate::support::{World, post, user};

const LIMIT: Duration = Duration::from_secs(30);

/// Writes reactions down in the order in which it sees them, those of posts 1 and 2 only once it is well.
#[derive(Default)]
struct Picky {
    well: AtomicBool,
}

impl Subscriber for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn handles(&self, fact: &Fact) -> bool {
        matches!(fact, Fact::ReactionAdded(_))
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        async move {
            for fact in batch {
                let Fact::ReactionAdded(reaction) = &fact.fact else {
                    continue;
                };
                if !self.well.load(Ordering::Relaxed) {
                    assert_ne!(reaction.post, post(2), "the second post is odd");
                    if reaction.post == post(1) {
                        sqlx::query("SELECT 1 / 0").execute(&mut *tx).await?;
                    }
                }
                sqlx::query("INSERT INTO public.seen (position, subject) VALUES ($1, $2)")
                    .bind(fact.position)
                    .bind(&fact.subject)
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(())
        }
        .boxed()
    }
}

struct Bench {
    world: World,
    picky: Arc<Picky>,
}

impl Bench {
    async fn new() -> Self {
        let world = World::new().await;
        sqlx::raw_sql(
            "CREATE TABLE public.seen (position bigint PRIMARY KEY, subject text, at int GENERATED ALWAYS AS IDENTITY);
             GRANT ALL ON public.seen TO cinelog_projector",
        )
        .execute(&world.owner().await)
        .await
        .unwrap();
        Self {
            world,
            picky: Arc::default(),
        }
    }

    async fn run(&self) -> Shutdown {
        let pool = self.world.database.pool(Role::Projector).await;
        start(
            &self.world,
            self.picky.clone(),
            None,
            Reader::from(&pool),
            1000,
        )
        .await
    }

    /// Users of these numbers react to a post, one after another.
    async fn react(&self, on: u128, users: std::ops::Range<u128>) {
        for n in users {
            let key = format!("{on} {n}");
            self.world
                .react(&key, user(n), post(on), "like")
                .await
                .unwrap();
        }
    }

    /// Positions taken in, by subject, in the order in which they were.
    async fn seen(&self, on: u128) -> Vec<i64> {
        sqlx::query_scalar("SELECT position FROM public.seen WHERE subject = $1 ORDER BY at")
            .bind(format!("post-{}", post(on).0))
            .fetch_all(&self.world.owner().await)
            .await
            .unwrap()
    }

    async fn parked(&self) -> Vec<Parked> {
        let pool = self.world.database.pool(Role::Api).await;
        subscription::parked(&mut pool.acquire().await.unwrap(), Some("picky"))
            .await
            .unwrap()
    }

    async fn wish(&self, wish: Wish) {
        let pool = self.world.database.pool(Role::Projector).await;
        let mut connection = pool.acquire().await.unwrap();
        for parked in self.parked().await {
            assert!(
                subscription::wish(&mut connection, &parked, wish)
                    .await
                    .unwrap()
            );
        }
    }

    /// All of the log, but for what waits.
    async fn settled(&self, facts: usize) {
        wait::until_true(LIMIT, "all is taken in or waits", async || {
            let mut seen = 0;
            for on in 1..=3 {
                seen += self.seen(on).await.len();
            }
            let waiting: i64 = self.parked().await.iter().map(|parked| parked.facts).sum();
            seen + usize::try_from(waiting).unwrap() == facts
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_subject_waits_in_order_and_the_rest_goes_on() {
    let bench = Bench::new().await;
    for on in [3, 1, 2, 3, 1, 2] {
        let begun = bench.world.head().await.cast_unsigned().into();
        bench.react(on, begun..begun + 3).await;
    }
    let one = bench.run().await;
    bench.settled(18).await;
    let parked = bench.parked().await;
    let told: BTreeSet<_> = parked
        .iter()
        .map(|parked| {
            (
                parked.facts,
                parked.error.contains("division by zero"),
                parked.error.contains("is odd"),
            )
        })
        .collect();
    assert_eq!(told, [(6, true, false), (6, false, true)].into());
    assert_eq!(bench.seen(3).await, [1, 2, 3, 10, 11, 12]);

    // What is poison still waits on, also beyond an end.
    bench.wish(Wish::Retry).await;
    wait::until_true(LIMIT, "it was tried", async || {
        bench
            .parked()
            .await
            .iter()
            .all(|parked| parked.wish.is_none())
    })
    .await;
    assert!(one.finish(LIMIT).await);
    bench.react(1, 100..102).await;
    bench.picky.well.store(true, Ordering::Relaxed);
    let two = bench.run().await;
    bench.settled(20).await;
    assert_eq!(bench.seen(1).await, [0; 0], "nobody has wished for it");

    bench.wish(Wish::Retry).await;
    wait::until_true(LIMIT, "nothing is parked", async || {
        bench.parked().await.is_empty()
    })
    .await;
    assert_eq!(bench.seen(1).await, [4, 5, 6, 13, 14, 15, 19, 20]);
    assert_eq!(bench.seen(2).await, [7, 8, 9, 16, 17, 18]);
    bench.react(1, 200..201).await;
    bench.settled(21).await;
    assert!(bench.parked().await.is_empty());
    assert!(two.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_is_written_down_and_the_rest_of_the_subject_is_taken_in() {
    let bench = Bench::new().await;
    bench.react(1, 0..3).await;
    let run = bench.run().await;
    bench.settled(3).await;
    bench.picky.well.store(true, Ordering::Relaxed);
    bench.wish(Wish::Drop).await;
    wait::until_true(LIMIT, "nothing is parked", async || {
        bench.parked().await.is_empty()
    })
    .await;
    assert_eq!(bench.seen(1).await, [2, 3]);
    let pool = bench.world.database.pool(Role::Projector).await;
    let mut connection = pool.acquire().await.unwrap();
    let left_out = subscription::left_out(&mut connection, "picky").await;
    assert_eq!(left_out.unwrap(), [events::id::Position(1)].into());
    assert!(run.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_no_longer_decodes_is_parked_and_a_newer_one_is_waited_at() {
    let bench = Bench::new().await;
    bench.picky.well.store(true, Ordering::Relaxed);
    bench.react(1, 0..2).await;
    bench.react(3, 0..2).await;
    let owner = bench.world.owner().await;
    let spoil = |sql: &'static str| {
        let owner = owner.clone();
        async move {
            sqlx::raw_sql(sql).execute(&owner).await.unwrap();
        }
    };
    spoil(
        "SET session_replication_role = replica;
         UPDATE log.events SET payload = '{\"kind\": 7}' WHERE position = 1;
         UPDATE log.events SET schema_version = 900 WHERE position = 3;
         SET session_replication_role = DEFAULT",
    )
    .await;
    let run = bench.run().await;
    wait::until_true(LIMIT, "one is parked", async || {
        bench.parked().await.len() == 1
    })
    .await;
    assert_eq!(bench.parked().await[0].position.0, 1);
    // Nobody but an upgrade helps: the lane stands.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.parked().await.len(), 1);
    assert_eq!(bench.seen(3).await, [0; 0]);
    spoil(
        "SET session_replication_role = replica;
         UPDATE log.events SET schema_version = 1 WHERE position = 3;
         SET session_replication_role = DEFAULT",
    )
    .await;
    wait::until_true(LIMIT, "the upgraded go on", async || {
        bench.seen(3).await == [3, 4]
    })
    .await;
    assert!(run.finish(LIMIT).await);
}
