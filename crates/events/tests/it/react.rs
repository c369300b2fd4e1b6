//! Side effects are had for what comes after their first start, at least once, in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use events::envelope::Recorded;
use events::fact::Fact;
use events::source::Source;
use events::store::{Reader, Wake};
use events::subscription::{self, ReactError, Reactor, Runner};
use futures::FutureExt;
use futures::future::BoxFuture;
use service::db::Role;
use service::shutdown::Shutdown;
use testing::wait;

use crate::support::{World, post, user};

const LIMIT: Duration = Duration::from_secs(30);

/// Tells somebody outside of every reaction. The first few times nobody is there; of post 2 nobody wants to hear.
#[derive(Default)]
struct Letters {
    away: AtomicU32,
    told: Mutex<BTreeMap<String, Vec<i64>>>,
}

impl Reactor for Letters {
    fn name(&self) -> &'static str {
        "letters"
    }

    fn handles(&self, fact: &Fact) -> bool {
        matches!(fact, Fact::ReactionAdded(_))
    }

    fn react<'a>(&'a self, fact: &'a Recorded) -> BoxFuture<'a, Result<(), ReactError>> {
        async move {
            if fact.subject == format!("post-{}", post(2).0) {
                return Err(ReactError::Never("unknown recipient".into()));
            }
            let down = |left: u32| left.checked_sub(1);
            if self
                .away
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, down)
                .is_ok()
            {
                return Err(ReactError::Later("nobody answers".into()));
            }
            let mut told = self.told.lock().expect("nobody panics with it");
            told.entry(fact.subject.clone())
                .or_default()
                .push(fact.position.0);
            Ok(())
        }
        .boxed()
    }
}

impl Letters {
    /// Facts told of a post, in their order; none twice in a row.
    fn told(&self, on: u128) -> Vec<i64> {
        let told = self.told.lock().expect("nobody panics with it");
        told.get(&format!("post-{}", post(on).0))
            .cloned()
            .unwrap_or_default()
    }
}

async fn run(world: &World, letters: &Arc<Letters>) -> Shutdown {
    let shutdown = world.shutdown.child();
    let pool = world.database.pool(Role::Projector).await;
    let wake = Wake::start(pool.clone(), &shutdown);
    let reader = Reader::from(&pool);
    let source = Source::open(None, reader, &wake, world.log.id(), "letters").unwrap();
    let runner = Runner::of_reactor(letters.clone(), pool, source, world.keys.clone());
    let end = shutdown.clone();
    shutdown.spawn(async move { runner.run(&end).await });
    shutdown
}

async fn begun(world: &World) {
    let pool = world.database.pool(Role::Projector).await;
    wait::until_true(LIMIT, "the reactor has a place in the log", async || {
        let mut connection = pool.acquire().await.unwrap();
        let at = subscription::positions(&mut connection, "letters")
            .await
            .unwrap();
        !at.is_empty()
    })
    .await;
}

#[tokio::test]
async fn effects_begin_with_the_first_start_and_are_had_in_order() {
    let world = World::new().await;
    let react = async |on: u128, users: std::ops::Range<u128>| {
        for n in users {
            world
                .react(&format!("{on} {n}"), user(n), post(on), "like")
                .await
                .unwrap();
        }
    };
    react(1, 0..4).await;
    let letters = Arc::new(Letters::default());
    letters.away.store(2, Ordering::SeqCst);
    let first = run(&world, &letters).await;
    begun(&world).await;
    react(1, 4..8).await;
    react(2, 0..2).await;
    react(3, 0..3).await;
    let whole = async || letters.told(1).len() >= 4 && letters.told(3).len() == 3;
    wait::until_true(LIMIT, "all is told", whole).await;
    assert_eq!(
        letters.told(1),
        [5, 6, 7, 8],
        "nothing from before, in order"
    );
    assert_eq!(letters.away.load(Ordering::SeqCst), 0);
    let pool = world.database.pool(Role::Projector).await;
    wait::until_true(LIMIT, "what nobody wants is written down", async || {
        let mut connection = pool.acquire().await.unwrap();
        let dropped = subscription::left_out(&mut connection, "letters")
            .await
            .unwrap();
        dropped.into_iter().map(|one| one.0).eq([9, 10])
    })
    .await;
    assert!(first.finish(LIMIT).await);

    // What comes while nobody reacts is not lost, and nothing is told again.
    react(3, 3..5).await;
    let second = run(&world, &letters).await;
    wait::until_true(LIMIT, "the rest is told", async || {
        letters.told(3).len() >= 5
    })
    .await;
    assert_eq!(letters.told(1), [5, 6, 7, 8]);
    let told = letters.told(3);
    assert!(told.is_sorted() && told.len() == 5, "{told:?}");
    assert!(second.finish(LIMIT).await);
}
