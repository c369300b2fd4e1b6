//! Projectors and relays are killed with `kill -9` again and again while people go on; then nothing may be missing,
//! doubled or different from what a rebuild from zero gives.

use std::time::Duration;

use events::seal::Key;
use events::store::{Keys, Log};
use events::subscription::{Lag, lag};
use projectors::config::Config;
use projectors::registry;
use rustix::process::Signal;
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::db::Database;
use testing::process::{Child, Finished};
use testing::{kafka, wait};

use crate::life::Life;
use crate::program::cinelog;
use crate::{feed, topic};

const LIMIT: Duration = Duration::from_mins(1);
/// 32 bytes of 7, as the variable `MASTER_KEY` has them.
const MASTER_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// So small that feeds are pushed, trimmed and given up; the programs get the same.
const FEED: Config = Config {
    feed_push_limit: 3,
    feed_cap: 5,
    feed_trim_every: 2,
};

/// One log, its people, and how the programs find it.
struct World {
    database: Database,
    owner: PgPool,
    life: Life,
    environment: Vec<(&'static str, String)>,
    shutdown: Shutdown,
}

impl World {
    /// `kafka`: the topics' prefix; none: facts come from Postgres.
    async fn new(kafka: Option<&str>) -> Self {
        let database = Database::migrated().await;
        let owner = database.pool(Role::Owner).await;
        registry::prepare(&owner).await.unwrap();
        let (shutdown, keys) = (Shutdown::new(), Keys::new(Key::from_bytes([7; 32])));
        let log = Log::open(database.pool(Role::Api).await, keys, &shutdown)
            .await
            .unwrap();
        let mut environment = vec![
            ("DATABASE_URL", database.url().expose().to_owned()),
            ("MASTER_KEY", MASTER_KEY.to_owned()),
            ("FEED_PUSH_LIMIT", FEED.feed_push_limit.to_string()),
            ("FEED_CAP", FEED.feed_cap.to_string()),
            ("FEED_TRIM_EVERY", FEED.feed_trim_every.to_string()),
            ("KAFKA_BROKERS", String::new()),
        ];
        if let Some(prefix) = kafka {
            environment.push(("KAFKA_BROKERS", kafka::brokers()));
            environment.push(("TOPIC_PREFIX", prefix.to_owned()));
        }
        Self {
            life: Life::begin(log, 1).await,
            database,
            owner,
            environment,
            shutdown,
        }
    }

    fn start(&self, command: &[&str]) -> Child {
        let environment: Vec<_> = self
            .environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        cinelog(command, &environment)
    }

    /// People go on while the programs work; those are killed once checkpoints have been seen to move `moves` times.
    async fn kill_in_the_middle(&mut self, victims: &[Child], moves: u64) {
        let (owner, life) = (self.owner.clone(), &mut self.life);
        let killer = async {
            let mut before = checkpoints(&owner).await;
            for _ in 0..moves {
                before = wait::until(LIMIT, "checkpoints move", async || {
                    let now = checkpoints(&owner).await;
                    (now != before).then_some(now)
                })
                .await;
            }
            for victim in victims {
                victim.kill();
            }
        };
        tokio::select! {
            () = killer => {}
            () = life.go_on(usize::MAX) => {}
        }
    }

    /// Waits until every read model has taken in every fact.
    async fn caught_up(&self) {
        let models = registry::all(&FEED).len();
        wait::until_true(LIMIT, "every read model has caught up", async || {
            let lag: Vec<Lag> = lag(&mut self.owner.acquire().await.unwrap()).await.unwrap();
            lag.len() >= models && lag.iter().all(|lag| lag.lanes_behind == 0)
        })
        .await;
    }

    /// Compares log, topic and every read model with what they are made from.
    async fn is_whole(&self) {
        let looked = self.verify().await;
        assert!(looked.status.success(), "{looked:?}");
        assert!(looked.stdout.contains("no differences"), "{looked:?}");
    }

    async fn verify(&self) -> Finished {
        self.start(&["verify", "--rebuild"]).finish(LIMIT).await
    }

    /// Lets what runs now catch up and end in order, then checks every read model.
    async fn settle(&mut self, projectors: Child) {
        self.life.go_on(20).await;
        self.caught_up().await;
        projectors.signal(Signal::TERM);
        let ended = projectors.finish(LIMIT).await;
        assert!(ended.status.success(), "{ended:?}");
        self.is_whole().await;
        let api = self.database.pool(Role::Api).await;
        let seen = feed::equals_the_posts(&api, self.life.tenant(), Life::people()).await;
        assert!(seen > 0, "somebody's feed shows something");
        assert!(self.shutdown.finish(LIMIT).await);
    }
}

/// Where all subscriptions are, in one number that only grows.
async fn checkpoints(owner: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT COALESCE(sum(position), 0)::bigint FROM subscription.checkpoints")
        .fetch_one(owner)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_projectors_lose_and_double_nothing() {
    let mut world = World::new(None).await;
    world.life.go_on(200).await;
    for projectors in [1, 1, 2, 1] {
        let victims: Vec<_> = (0..projectors)
            .map(|_| world.start(&["projectors"]))
            .collect();
        let moves = 1 + world.life.chance().below(12);
        world.kill_in_the_middle(&victims, moves).await;
    }
    let last = world.start(&["projectors"]);
    world.settle(last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_relays_and_projectors_lose_and_double_nothing() {
    let prefix = kafka::unique_prefix();
    let mut world = World::new(Some(&prefix)).await;
    world.life.go_on(200).await;
    for _ in 0..3 {
        let victims = [world.start(&["relay"]), world.start(&["projectors"])];
        let moves = 1 + world.life.chance().below(12);
        world.kill_in_the_middle(&victims, moves).await;
    }
    let (relay, projectors) = (world.start(&["relay"]), world.start(&["projectors"]));
    world.settle(projectors).await;
    topic::equals_the_log(&prefix, &world.owner).await;
    relay.signal(Signal::TERM);
    let ended = relay.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_sees_nothing_in_a_living_log_and_what_was_tampered_with() {
    let mut world = World::new(None).await;
    world.life.go_on(150).await;
    let projectors = world.start(&["projectors"]);
    world.caught_up().await;
    // Facts and projectors go on while read models are built once more and compared.
    let looked = world.start(&["verify", "--rebuild"]).finish(LIMIT);
    let looked = tokio::select! {
        looked = looked => looked,
        () = world.life.go_on(usize::MAX) => unreachable!("it goes on"),
    };
    assert!(looked.status.success(), "{looked:?}");
    world.caught_up().await;
    projectors.signal(Signal::TERM);
    projectors.finish(LIMIT).await;

    let post = "UPDATE feed_g1.post SET place = 'elsewhere' WHERE position = (SELECT min(position) FROM feed_g1.post)";
    sqlx::query(post).execute(&world.owner).await.unwrap();
    let looked = world.verify().await;
    assert_eq!(looked.status.code(), Some(1), "{looked:?}");
    let told = "feed_g1.post: 1 rows that a rebuild does not have, 1 that it has besides";
    assert!(looked.stdout.contains(told), "{looked:?}");
    assert!(
        looked.stderr.ends_with("error: 1 difference\n"),
        "{looked:?}"
    );
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM projection.generations WHERE NOT live")
            .fetch_one(&world.owner)
            .await
            .unwrap();
    assert_eq!(left, 0, "what was built for comparing is gone");
    assert!(world.shutdown.finish(LIMIT).await);
}
