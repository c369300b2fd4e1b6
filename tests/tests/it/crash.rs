//! Projectors and relays are killed with `kill -9` again and again while people go on; then nothing may be missing,
//! doubled or different from what a rebuild from zero gives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use events::seal::Key;
use events::source::Source;
use events::store::{Keys, Log, Wake};
use events::subscription::{Lag, Options, Runner, lag};
use projectors::config::Config;
use projectors::registry::{self, Generation};
use rustix::process::Signal;
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::db::Database;
use testing::process::Child;
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
    projector: PgPool,
    keys: Keys,
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
        let log = Log::open(database.pool(Role::Api).await, keys.clone(), &shutdown)
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
            projector: database.pool(Role::Projector).await,
            life: Life::begin(log, 1).await,
            database,
            owner,
            keys,
            environment,
            shutdown,
        }
    }

    fn start(&self, command: &str) -> Child {
        let environment: Vec<_> = self
            .environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        cinelog(&[command], &environment)
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

    /// Builds every read model once more, from the first fact in Postgres on, and compares.
    async fn equals_a_rebuild(&self) {
        let live = registry::live(&self.projector).await.unwrap();
        let mut rebuilt = BTreeMap::new();
        for projection in registry::all(&FEED) {
            let fresh = registry::fresh_generation(&self.owner, projection.as_ref())
                .await
                .unwrap();
            let wake = Wake::start(self.projector.clone(), &self.shutdown);
            let runner = Runner::new(
                Arc::new(Generation::new(fresh.clone(), Arc::clone(&projection))),
                self.projector.clone(),
                Source::postgres(self.projector.clone(), wake),
                self.keys.clone(),
                Options::default(),
            );
            let end = self.shutdown.clone();
            self.shutdown.spawn(async move { runner.run(&end).await });
            rebuilt.insert(projection.name(), fresh);
        }
        wait::until_true(LIMIT, "the rebuild has begun", async || {
            let begun: i64 = sqlx::query_scalar(
                "SELECT count(DISTINCT subscription) FROM subscription.checkpoints WHERE subscription = ANY ($1)",
            )
            .bind(rebuilt.values().cloned().collect::<Vec<_>>())
            .fetch_one(&self.owner)
            .await
            .unwrap();
            usize::try_from(begun) == Ok(rebuilt.len())
        })
        .await;
        self.caught_up().await;
        for (model, fresh) in &rebuilt {
            assert_ne!(&live[*model], fresh);
            let hashes = async |generation: &str| {
                registry::table_hashes(&self.projector, generation)
                    .await
                    .unwrap()
            };
            let (was, is) = (hashes(&live[*model]).await, hashes(fresh).await);
            assert_eq!(was, is, "{model}: what survived the kills, and a rebuild");
            assert!(
                was.values().any(|hash| !hash.starts_with("0:")),
                "{model} knows nothing"
            );
        }
    }

    /// Lets what runs now catch up and end in order, then checks every read model.
    async fn settle(&mut self, projectors: Child) {
        self.life.go_on(20).await;
        self.caught_up().await;
        projectors.signal(Signal::TERM);
        let ended = projectors.finish(LIMIT).await;
        assert!(ended.status.success(), "{ended:?}");
        self.equals_a_rebuild().await;
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
        let victims: Vec<_> = (0..projectors).map(|_| world.start("projectors")).collect();
        let moves = 1 + world.life.chance().below(12);
        world.kill_in_the_middle(&victims, moves).await;
    }
    let last = world.start("projectors");
    world.settle(last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_relays_and_projectors_lose_and_double_nothing() {
    let prefix = kafka::unique_prefix();
    let mut world = World::new(Some(&prefix)).await;
    world.life.go_on(200).await;
    for _ in 0..3 {
        let victims = [world.start("relay"), world.start("projectors")];
        let moves = 1 + world.life.chance().below(12);
        world.kill_in_the_middle(&victims, moves).await;
    }
    let (relay, projectors) = (world.start("relay"), world.start("projectors"));
    world.settle(projectors).await;
    topic::equals_the_log(&prefix, &world.owner).await;
    relay.signal(Signal::TERM);
    let ended = relay.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
}
